"""`trustscale calibrate`: a calibration from a folder of photographs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import ValidationError

from trustscale_server.bootstrap.settings import load_settings
from trustscale_server.bootstrap.sources import with_options
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.intake import find_in
from trustscale_server.calibrating.layout import GroupingRule
from trustscale_server.calibrating.profile import look_like
from trustscale_server.calibrating.routing import answered_uploads, in_words
from trustscale_server.calibration.guarantees import LEVELS
from trustscale_server.cli import options
from trustscale_server.cli.calibration_text import print_calibration
from trustscale_server.cli.making import Making
from trustscale_server.conformal.fidelity import METRICS, SPOT
from trustscale_server.images.features import BANDS, RULES, UPLOAD
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import BadRequest, TrustscaleError, reason_of
from trustscale_server.upscalers.base import AUTO
from trustscale_server.upscalers.embedded.shipped import SCALE

ConfigOptions: Final = options.from_model(
    CalibrationConfig,
    ("upscaler", "samples", "prediction", "fit_indecision", "stretch", "seed", "name", "note"),
    upscaler=Annotated[
        str | None,
        typer.Option(
            help="The upscaler; default: auto, all that answer such uploads, each for its classes."
        ),
    ],
)
"""Settings of a calibration that are one word, number or text."""


@dataclass
class Indecision:
    """How the indecision σ is made."""

    estimator: Annotated[
        str | None,
        typer.Option(help="How σ is made, such as departure; default: what suits upscaler and M."),
    ] = None
    kernel: Annotated[
        str | None, typer.Option(help="Window of σ: box or gaussian; default: box.")
    ] = None
    size: Annotated[
        int | None, typer.Option(help="Width of the window of σ in pixels; default: 7.")
    ] = None
    blur: Annotated[
        float | None, typer.Option(help="Gaussian blur of σ in pixels; default: 4.")
    ] = None
    clip_quantile: Annotated[
        float | None, typer.Option(help="Cut σ at this quantile of each image.")
    ] = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that they set in a calibration's settings."""
        settings = {name: value for name, value in asdict(self).items() if value is not None}
        return {"indecision": settings or None}


@dataclass
class Fidelity:
    """What an error is, which level is promised by default, and when a picture is bad."""

    metric: Annotated[
        str | None,
        typer.Option(help=f"D: {', '.join(METRICS)}; default: neighborhood, of data intensity."),
    ] = None
    fidelity_blur: Annotated[
        float, typer.Option(help="Gaussian of the neighbourhood in pixels.")
    ] = 4.0
    bound: Annotated[
        float | None,
        typer.Option(help="c: larger errors count as c. Default: 0.25, 0.5 for pointwise errors."),
    ] = None
    unit: Annotated[
        Literal["spot", "picture"],
        typer.Option(
            help="What the promise is about: a spot; or the whole picture, for outputs of the size "
            "of the pairs."
        ),
    ] = "spot"
    spot: Annotated[int, typer.Option(help="Side of a spot in pixels of the output.")] = SPOT
    alpha: Annotated[
        float | None,
        typer.Option(
            help=f"The calibration's default α; default: {LEVELS['balanced']}, of data "
            f"{LEVELS['strict']}."
        ),
    ] = None

    review: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="TAU SHARE DELTA",
            help="A picture is bad if more than this share is off by more than τ; at most the "
            "share δ is bad and needs no look; default: 0.1 0.01 0.05.",
        ),
    ] = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that they set in a calibration's settings."""
        names = ("tolerance", "share", "delta")
        review = dict(zip(names, self.review, strict=True)) if self.review else {}
        metric = {"metric": self.metric} if self.metric else {}
        errors = {"blur": self.fidelity_blur, "bound": self.bound}
        spots = {"unit": self.unit, "spot": self.spot}
        fidelity = {**metric, **errors, **spots}
        level = {} if self.alpha is None else {"default_alpha": self.alpha}
        return {"fidelity": fidelity, **level, "review": review}


@dataclass
class Inputs(options.Steps):
    """How inputs are made and sorted."""

    input_rule: Annotated[
        str | None,
        typer.Option(
            help=f"Classes of inputs with curves of their own: {', '.join(RULES)}, none; default: "
            f"{UPLOAD}, of data {BANDS}."
        ),
    ] = None
    mixture: Annotated[
        str | None,
        typer.Option(
            help="How X is made from Y: usual, as uploads usually are (default); none, by a clean "
            "reduction; or a JSON file with a mixture."
        ),
    ] = None
    like: Annotated[
        Path | None,
        typer.Option(help="Make X like the uploads in this folder."),
    ] = None
    skip_bad_pairs: Annotated[
        bool, typer.Option(help="Leave out pairs that cannot be used, and list them.")
    ] = False

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that they set in a calibration's settings."""
        rule = None if self.input_rule == "none" else self.input_rule
        return {
            "degradation": self._degradation,
            **({"input_rule": rule} if self.input_rule else {}),
            "on_bad_pair": "skip" if self.skip_bad_pairs else "fail",
        }

    @property
    def _degradation(self) -> Any:
        if self.mixture is None:
            return self.named or None
        if self.named:
            raise typer.BadParameter("name either a mixture or the steps of one degradation.")
        if self.mixture in {"usual", "none"}:
            return None if self.mixture == "usual" else {}
        try:
            return json.loads(Path(self.mixture).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BadRequest(f"{self.mixture} is not a JSON file: {reason_of(error)}.") from error


@dataclass
class ResultOptions(options.ActivationOptions, options.Calls):
    """What becomes of the calibration."""

    export: Annotated[
        Path | None, typer.Option(help="Also write the calibration to this file.")
    ] = None
    attributions: Annotated[
        Path | None, typer.Option(help="A text file with one attribution per line.")
    ] = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that they set in a calibration's settings."""
        return {"attributions": _lines(self.attributions) if self.attributions else []}


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
    configs = [config] if result.server else _of_each(config, folder, naming.rule)
    refusals = list[TrustscaleError]()
    for settings in configs:
        file = result.export and _export_of(result.export, settings.upscaler, len(configs))
        if file is not None:
            _check_writable(file)
        making = Making(
            result.server,
            settings.model_dump(mode="json", exclude={"activate", "force"}),
            upscaler=settings.upscaler,
            yes=result.yes,
            activate=result.activate,
            force=result.force,
            skips=inputs.skip_bad_pairs,
            with_file=file is not None,
        )
        outcome = making.run(folder, naming.rule)
        if outcome is None:
            continue
        if file is not None:
            file.write_bytes(outcome.file)
        print_calibration(outcome.document, as_json=result.as_json)
        refusals += [outcome.refusal] if outcome.refusal else []
    if refusals:
        raise refusals[0]


def _of_each(
    config: CalibrationConfig, folder: Path, naming: GroupingRule
) -> list[CalibrationConfig]:
    """The settings for each upscaler that answers such uploads; says which, where `auto` does."""
    settings = load_settings()
    is_auto = config.upscaler == AUTO or (config.upscaler is None and settings.prefers_auto)
    if not (is_auto and settings.active_routing):
        return [config]
    answering = answered_uploads(settings.active_routing, config, find_in(folder, naming), SCALE)
    typer.echo(f"{in_words(answering)}.", err=True)
    return [
        config.model_copy(
            update={"upscaler": share.upscaler, "degradation": share.made_by or config.degradation}
        )
        for share in answering
    ]


def _export_of(export: Path, upscaler: str | None, count: int) -> Path:
    """The file to write; of several calibrations it also names the upscaler."""
    return export if count == 1 else export.with_stem(f"{export.stem}-{upscaler}")


def _check_writable(path: Path) -> None:
    """Raise OSError, before hours of generation, if a file cannot be written."""
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is not a text file in UTF-8.") from None


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
