"""`trustscale calibrations`: stored calibrations listed, activated, derived, moved.

Every command works on the stores of the settings, or with `--server` over HTTP.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from trustscale_server.calibration import file
from trustscale_server.calibration.guarantee_kinds import guarantee_of
from trustscale_server.cli import options
from trustscale_server.cli.calibration_run import CalibrationRun
from trustscale_server.cli.calibration_text import (
    activation_text,
    print_calibration,
    row_text,
)
from trustscale_server.cli.output import lines, output
from trustscale_server.cli.service import ask
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.config_errors import mistakes

app = typer.Typer(help="Stored calibrations.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of a calibration.")]
_Group = Annotated[str | None, typer.Option(help="Only the pairs of this group.")]


@app.command("list")
def list_(server: options.Server = None, as_json: options.Json = False) -> None:
    """List calibrations, the newest first; an asterisk marks the active ones."""
    rows = ask(server, lambda service: service.calibrations())
    output(rows, lines(row_text), as_json=as_json)


@app.command()
def show(
    calibration: Id,
    group: _Group = None,
    server: options.Server = None,
    as_json: options.Json = False,
) -> None:
    """Show one calibration: pipeline, thresholds and mask sizes at common α, provenance."""
    document = ask(server, lambda service: service.calibration(calibration, group))
    print_calibration(document, as_json=as_json)


@app.command()
@with_options(
    promise=options.Promise, activation=options.ActivationOptions, target=options.TargetOptions
)
def derive(
    calibration: Id,
    promise: options.Promise,
    activation: options.ActivationOptions,
    target: options.TargetOptions,
    bound: Annotated[float | None, typer.Option(min=0, help="c: larger errors count as c.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the calibration; default: that of the old one.")
    ] = None,
) -> None:
    """Make a calibration of the same pairs under another guarantee or bound, at once."""
    changes: dict[str, Any] = {"activate": activation.activate, "name": name}
    if activation.force:
        changes["force"] = True
    guarantee = promise.named
    if guarantee is None and bound is None:
        guarantee = {"kind": "high_probability"}
    if guarantee is not None:
        try:
            changes["guarantee"] = guarantee_of(guarantee).model_dump()
        except ValidationError as error:
            raise typer.BadParameter(mistakes(error)) from None
    if bound is not None:
        changes["fidelity"] = {"bound": bound}
    derived = ask(target.server, lambda service: service.derive(calibration, **changes))
    print_calibration(derived, as_json=target.as_json)


@app.command()
def activate(
    calibration: Id,
    only: options.Only = False,
    force: options.Force = False,
    server: options.Server = None,
    as_json: options.Json = False,
) -> None:
    """Put this calibration before the active ones, and print what each of them then answers.

    An upload is answered from the first that covers its class and size.
    """
    done = ask(server, lambda service: service.activate(calibration, force=force, only=only))
    output(done, activation_text, as_json=as_json)


@app.command()
def export(
    calibration: Id,
    path: Annotated[Path, typer.Argument(help="File to write.")],
    server: options.Server = None,
) -> None:
    """Write a calibration as one self-describing file."""
    path.write_bytes(ask(server, lambda service: service.export(calibration)))


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that was exported.")],
    activate: options.Activate = False,
    force: options.Force = False,
    server: options.Server = None,
) -> None:
    """Read a calibration from a file, after checking it."""
    data = path.read_bytes()
    file.load(data)  # before a server gets it
    imported = ask(
        server, lambda service: service.import_file(data, activate=activate, force=force)
    )
    typer.echo(imported["id"])


@app.command()
@with_options(naming=options.Naming, activation=options.ActivationOptions, calls=options.Calls)
def extend(
    calibration: Id,
    folder: Annotated[Path, typer.Argument(help="More pairs, as of `trustscale calibrate`.")],
    naming: options.Naming,
    activation: options.ActivationOptions,
    calls: options.Calls,
) -> None:
    """Make a calibration with more pairs; nothing is generated again for the old ones."""
    calibration_run = CalibrationRun(
        calls.server,
        extends=calibration,
        activate=activation.activate,
        force=activation.force,
        yes=calls.yes,
    )
    if (outcome := calibration_run.run(folder, naming.rule)) is not None:
        print_calibration(outcome.document, as_json=calls.as_json)


@app.command()
def delete(calibration: Id, server: options.Server = None) -> None:
    """Remove a calibration that is not active, with its canaries and observations."""
    ask(server, lambda service: service.delete(calibration))
    typer.echo(f"{calibration} is deleted")
