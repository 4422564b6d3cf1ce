"""`trustscale calibrate`: a calibration from a folder of photographs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from trustscale_server.bootstrap.settings import load_settings
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.calibrating.profile import look_like
from trustscale_server.calibrating.routing import answered_uploads, answering_in_words
from trustscale_server.cli import options
from trustscale_server.cli.calibrate_options import (
    ConfigOptions,
    Fidelity,
    Indecision,
    Inputs,
    ResultOptions,
)
from trustscale_server.cli.calibration_run import CalibrationRun
from trustscale_server.cli.calibration_text import print_calibration
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.upscalers.base import AUTO
from trustscale_server.upscalers.embedded.shipped import SCALE


@with_options(
    config_options=ConfigOptions,
    indecision=Indecision,
    fidelity=Fidelity,
    promise=options.Promise,
    naming=options.Naming,
    inputs=Inputs,
    result=ResultOptions,
)
def calibrate(
    folder: Annotated[
        Path, typer.Argument(help="x/ and y/ with matching names, or only high-resolution images.")
    ],
    config_options: Any,
    indecision: Indecision,
    fidelity: Fidelity,
    promise: options.Promise,
    naming: options.Naming,
    inputs: Inputs,
    result: ResultOptions,
) -> None:
    """Calibrate an upscaler; a run that was interrupted continues where it stopped.

    Before calls of an upscaler outside of this program it says how many, for how much and about how
    long, and asks. Photographs that are calibrated already under these settings cost no call.
    """
    config = _config(
        **asdict(config_options),
        **indecision.fields,
        **fidelity.fields,
        **inputs.fields,
        **result.fields,
        guarantee=promise.named or {"kind": "expectation"},
    )
    if inputs.like is not None:
        if config.degradation is not None:
            raise typer.BadParameter("--like chooses how X is made; name no degradation with it.")
        config = _like(inputs.like, config)
    configs = [config] if result.server else _config_of_each(config, folder, naming.rule)
    refusals = list[TrustscaleError]()
    for settings in configs:
        file = result.export and _export_file(result.export, settings.upscaler, len(configs))
        if file is not None:
            _check_writable(file)
        calibration_run = CalibrationRun(
            result.server,
            settings.model_dump(mode="json", exclude={"activate", "force"}),
            upscaler=settings.upscaler,
            yes=result.yes,
            activate=result.activate,
            force=result.force,
            skips=inputs.skip_bad_pairs,
            with_file=file is not None,
        )
        outcome = calibration_run.run(folder, naming.rule)
        if outcome is None:
            continue
        if file is not None:
            file.write_bytes(outcome.file)
        print_calibration(outcome.document, as_json=result.as_json)
        refusals += [outcome.refusal] if outcome.refusal else []
    if refusals:
        raise refusals[0]


def _config_of_each(
    config: CalibrationConfig, folder: Path, naming: GroupingRule
) -> list[CalibrationConfig]:
    """The settings for each upscaler that answers such uploads; says which, where `auto` does."""
    settings = load_settings()
    is_auto = config.upscaler == AUTO or (config.upscaler is None and settings.prefers_auto)
    if not (is_auto and settings.active_routing):
        return [config]
    answering = answered_uploads(settings.active_routing, config, find_in(folder, naming), SCALE)
    typer.echo(f"{answering_in_words(answering)}.", err=True)
    return [
        config.model_copy(
            update={"upscaler": share.upscaler, "degradation": share.made_by or config.degradation}
        )
        for share in answering
    ]


def _export_file(export: Path, upscaler: str | None, count: int) -> Path:
    """The file to write; of several calibrations it also names the upscaler."""
    return export if count == 1 else export.with_stem(f"{export.stem}-{upscaler}")


def _check_writable(path: Path) -> None:
    """Raise OSError, before hours of generation, if a file cannot be written."""
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def _config(**fields: Any) -> CalibrationConfig:
    try:
        return CalibrationConfig(**fields)
    except ValidationError as error:
        raise typer.BadParameter(mistakes(error, CalibrationConfig)) from None


def _like(folder: Path, config: CalibrationConfig) -> CalibrationConfig:
    """The settings with inputs like the uploads of a folder; prints a description of these."""
    profile = look_like(folder)
    for line in profile.report():
        typer.echo(line, err=True)
    for item in profile.unread:
        typer.echo(f"not looked at: {item['name']}: {item['reason']}", err=True)
    return config.model_copy(update={"degradation": profile.mixture()})
