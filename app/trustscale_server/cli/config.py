"""`trustscale config check`: the settings in effect, and what is wrong with them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import typer

from trustscale_server.bootstrap.checks import check_settings
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.bootstrap.sources import referenced_values
from trustscale_server.cli import options
from trustscale_server.cli.output import output

app = typer.Typer(help="The configuration.", no_args_is_help=True)

# Up to the last @: a password may hold unencoded slashes and @.
_PASSWORD = re.compile(r"(?<=://).*@|(?<=[?&]password=)[^&#]+", re.DOTALL)


@app.callback()
def _group() -> None:
    """Keep `check` a sub-command although it is the only one."""


@app.command()
def check(as_json: options.Json = False) -> None:
    """Print the effective configuration without secrets; mistakes are one line and exit 2.

    It refuses what `serve` would, except what only the network reveals.
    """
    settings = load_settings()
    warnings = asyncio.run(check_settings(settings))
    output(effective(settings), _text, as_json=as_json)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _text(settings: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())


def effective(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON values; keys, passwords and headers are replaced by asterisks."""
    secrets = referenced_values()
    values: dict[str, Any] = settings.model_dump(mode="json")
    return {name: _without(value, secrets) for name, value in values.items()}


def _without(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: dict.fromkeys(item, "***")
            if key == "headers" and isinstance(item, dict)
            else _without(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    if isinstance(value, str):
        value = _PASSWORD.sub(lambda match: "***@" if match[0].endswith("@") else "***", value)
        for secret in secrets:
            value = value.replace(secret, "***")
    return value
