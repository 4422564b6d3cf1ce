"""The program `trustscale`: its commands, and how errors leave it.

Exit codes: 0 done, 1 it did not work (the reason is the last line on standard error), 2 wrong
usage or a wrong setting, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

import workers.cli
from app import __version__
from app.cli import (
    calibrate,
    calibrations,
    config,
    evaluate,
    jobs,
    openapi,
    serve,
    upscale,
    upscalers,
)
from app.errors import ConfigError, TrustscaleError
from app.sources import read_secret_files

app = typer.Typer(
    name="trustscale",
    help="Upscale images and mark, with a guarantee, where their colours are right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trustscale {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


app.command("serve")(serve.serve)
app.command("upscale")(upscale.upscale)
app.command("calibrate")(calibrate.calibrate)
app.command("evaluate")(evaluate.evaluate)
app.command("openapi")(openapi.openapi)
app.add_typer(jobs.app, name="jobs")
app.add_typer(calibrations.app, name="calibrations")
app.add_typer(upscalers.app, name="upscalers")
app.add_typer(config.app, name="config")

workers.cli.mount(app)


def main() -> None:
    """Run the program; every expected error is one line and an exit code."""
    # The name of a file may hold bytes that are no letters.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        read_secret_files(os.environ)
        app(prog_name="trustscale")  # typer tells wrong usage itself, with exit code 2
    except TrustscaleError as error:
        _fail(error.detail, 2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)


def _fail(detail: str, code: int) -> None:
    print(f"trustscale: {detail}", file=sys.stderr)  # noqa: T201 - the one line of an error
    sys.exit(code)
