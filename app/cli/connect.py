"""`trustscale connect`: an upscaler's entry in the file of settings from its address."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options
from app.cli.service import ask
from app.errors import ConfigError
from app.upscalers.entry import add
from trustscale import AsyncTrustscale

_ROUTES = ("connect",)


def connect(
    address: Annotated[
        str,
        typer.Argument(
            help="URL of a Replicate model, a Gradio app or Space, a Cog container, a server with "
            "/v2 (Triton, MLServer) or an OpenAPI description; or an ONNX file."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Of the upscaler; default: the model's.")] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with its API token.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="What a call costs.", min=0)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the entry, JSON or text; repeat."
        ),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Add the entry to this file of settings.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Make the call without asking.")] = False,
    server: options.Server = None,
    as_json: options.Json = False,
) -> None:
    """Make an upscaler's entry from what its server says of itself, and try it by one call."""
    settings = _settings(set_ or [], name=name, token_env=token_env, price_per_call=price)
    token = os.environ.get(token_env, "").strip() if token_env else ""
    if token_env and not token:
        raise ConfigError(f"The environment variable {token_env} is not set.")

    def probed(*, call: bool) -> dict[str, Any]:
        async def question(service: AsyncTrustscale) -> dict[str, Any]:
            return await service.probe(address, call=call, token=token, settings=settings)

        return ask(server, question, routes=_ROUTES)

    found = probed(call=False)
    typer.echo(_before(found), err=True)
    if found["needs"]:
        raise ConfigError(f"Give {' and '.join(f'--set {one}=…' for one in found['needs'])}.")
    if yes or typer.confirm("Make the call?", err=True):
        found = probed(call=True)
        typer.echo(_after(found), err=True)
    if write is not None and found["tried"]:
        add(write, found["entry"])
    options.output(found, lambda _: found["toml"].rstrip(), as_json=as_json)


def _settings(given: list[str], **own: Any) -> dict[str, Any]:
    """The settings as a document; a name `a.b` sets `b` in the table `a`.

    Raises:
        ConfigError: one is not NAME=VALUE.
    """
    settings = {key: value for key, value in own.items() if value is not None}
    for one in given:
        place, equals, text = one.partition("=")
        *parents, last = place.split(".")
        if not equals or not all((*parents, last)):
            raise ConfigError(f"--set takes NAME=VALUE, not {one!r}.")
        table = settings
        for parent in parents:
            table = table.setdefault(parent, {})
        try:
            table[last] = json.loads(text)
        except ValueError:
            table[last] = text
    return settings


def _before(found: dict[str, Any]) -> str:
    cost = found["calibration"]
    price = "" if cost["price"] is None else f", for {cost['price']:.6g} at the provider's price"
    return _with_notes(
        found,
        f"It is {found['what']}. So far nothing was generated; the trial is one call.\n"
        f"A calibration of {cost['pictures']} photographs takes {cost['calls']:,} calls{price}: "
        f"each photograph as {cost['kinds']} kinds of upload.",
    )


def _after(found: dict[str, Any]) -> str:
    minutes = f"{found['calibration']['seconds'] / 60:.0f} min for the calibration"
    return _with_notes(
        found,
        f"It works: ×{found['scale']}, {found['seconds']:.2f} s a call, so about {minutes}.\n"
        "With the entry in the file of settings: trustscale upscalers test "
        f"{found['entry']['name']} (three calls), then trustscale calibrate.",
    )


def _with_notes(found: dict[str, Any], text: str) -> str:
    return "\n".join([text, *(f"note: {note}" for note in found["notes"])])
