"""The program `trustscale`: its commands, and how errors leave it.

Exit codes: 0 done, 1 it did not work (the reason is the last line on standard error), 2 wrong
usage or a wrong setting, 130 interrupted.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from trustscale_server import __version__
from trustscale_server.bootstrap.sources import read_secret_files
from trustscale_server.platform.errors import ConfigError, TrustscaleError

STARTED_AT: Final = time.monotonic()
"""On the monotonic clock; Python itself has started shortly before."""

_COMMANDS: Final = {
    "serve": "serve:serve",
    "upscale": "upscale:upscale",
    "verify": "verify:verify",
    "check": "check:check",
    "reduce": "reduce:reduce",
    "calibrate": "calibrate:calibrate",
    "openapi": "serve:openapi",
    "jobs": "jobs:app",
    "calibrations": "calibrations:app",
    "upscalers": "upscalers:app",
    "connect": "upscalers:connect",
    "config": "config:app",
    "doctor": "doctor:doctor",
    "stores": "stores:app",
}
"""Where each command is in this package; only its own imports are made."""

_OTHER_DISTRIBUTIONS: Final = {"evaluate": "evaluation", "worker": "workers", "models": "workers"}
"""Commands of other distributions of this project, and the folders that these are built from."""

_GROUP: Final = "trustscale.commands"
"""Entry points by which another distribution adds a command."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return [*_COMMANDS, *sorted(entry.name for entry in entry_points(group=_GROUP))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        target: typer.Typer | Callable[..., None] | None = _function_or_group(cmd_name)
        if target is None:
            return None
        if not isinstance(target, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(target)
            target = single
        command = typer.main.get_command(target)
        command.name = cmd_name
        return command


def _function_or_group(name: str) -> Any:
    """A command's function or group; None: there is no such command. Raises ConfigError."""
    if name in _COMMANDS:
        module, _, name_there = _COMMANDS[name].partition(":")
        return getattr(import_module(f".{module}", __package__), name_there)
    for entry in entry_points(group=_GROUP, name=name):
        return entry.load()
    if name in _OTHER_DISTRIBUTIONS:
        raise ConfigError(
            f"The command {name} is not installed; in a clone: "
            f"pip install . ./{_OTHER_DISTRIBUTIONS[name]}"
        )
    return None


app = typer.Typer(
    name="trustscale",
    cls=_Commands,
    help="Upscale images, and mark where their colours are right, on average by a theorem.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(is_asked_for: bool) -> None:
    if is_asked_for:
        typer.echo(f"trustscale {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the program; every expected error is one line and an exit code."""
    # Garbage collection among imports takes a twentieth of a start.
    gc.set_threshold(20_000)
    # File names may hold bytes that are not text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        read_secret_files(os.environ)
        app(prog_name="trustscale")  # typer reports wrong usage itself, with exit code 2
    except TrustscaleError as error:
        _fail(error.detail, 2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)


def _fail(detail: str, code: int) -> None:
    print(f"trustscale: {' '.join(detail.splitlines())}", file=sys.stderr)  # noqa: T201 - the one line of an error
    sys.exit(code)
