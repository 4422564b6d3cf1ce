"""`trustscale calibrate`: a calibration from a folder of photographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from trustscale_server.calibration.answering import in_words, shares
from trustscale_server.calibration.config import CalibrationConfig
from trustscale_server.calibration.guarantee import LEVELS
from trustscale_server.calibration.intake import find_in
from trustscale_server.calibration.layout import GroupingRule
from trustscale_server.calibration.like import look_like
from trustscale_server.cli import options
from trustscale_server.cli.calibrations import shown
from trustscale_server.cli.making import Making
from trustscale_server.config_errors import mistakes
from trustscale_server.config_sources import with_options
from trustscale_server.conformal.fidelity import METRICS, SPOT
from trustscale_server.errors import BadRequest, TrustscaleError, reason_of
from trustscale_server.images.facts import BANDS, RULES, UPLOAD
from trustscale_server.settings import load_settings
from trustscale_server.upscalers.base import AUTO
from trustscale_server.upscalers.runtime import SCALE


@with_options(guarantee=options.GUARANTEE, degradation=options.DEGRADATION)
def calibrate(
    folder: Annotated[
        Path, typer.Argument(help="x/ and y/ with matching names, or only high-resolution images.")
    ],
    upscaler: Annotated[
        str | None,
        typer.Option(
            help="Its name. Default: auto, those that answer such uploads, each for its classes."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the calibration.")] = None,
    samples: Annotated[
        int | None, typer.Option(help="M, samples and calls per image; default: 1.")
    ] = None,
    prediction: Annotated[
        Literal["first", "mean"], typer.Option(help="Which of the samples is the picture.")
    ] = "first",
    estimator: Annotated[
        str | None,
        typer.Option(help="Indecision σ, such as departure; default: what suits upscaler and M."),
    ] = None,
    fit_indecision: Annotated[
        float | None,
        typer.Option(
            help="Fit σ to the upscaler on this share of the scenes; default: 0.3 with 40 scenes "
            "or more where no fit is shipped; 0: never."
        ),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Window of σ: box or gaussian; default: box.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Width of the window of σ in pixels; default: 7.")
    ] = None,
    blur: Annotated[
        float | None, typer.Option(help="Gaussian blur of σ in pixels; default: 4.")
    ] = None,
    clip_quantile: Annotated[
        float | None, typer.Option(help="Cut σ at this quantile of each image.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help=f"D: {', '.join(METRICS)}; default: neighborhood, of data intensity."),
    ] = None,
    fidelity_blur: Annotated[
        float, typer.Option(help="Gaussian of the neighbourhood in pixels.")
    ] = 4.0,
    bound: Annotated[
        float | None,
        typer.Option(help="c: larger errors count as c. Default: 0.25, 0.5 for pointwise errors."),
    ] = None,
    unit: Annotated[
        Literal["spot", "picture"],
        typer.Option(
            help="What the promise is about: a spot, for outputs of any size; or the whole "
            "picture, for outputs of the size of the pairs alone."
        ),
    ] = "spot",
    spot: Annotated[int, typer.Option(help="Side of a spot in pixels of the output.")] = SPOT,
    alpha: Annotated[float, typer.Option(help="The calibration's default α.")] = LEVELS["balanced"],
    guarantee: options.Group = options.NOTHING,
    review: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="TAU SHARE DELTA",
            help="Bad is a picture of which more than this share is off by more than τ, and at "
            "most the share δ is bad and needs no look; default: 0.1 0.01 0.05.",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Groups with curves of their own: folder, for y/GROUP/NAME, or a column of "
            "DIR/manifest.csv."
        ),
    ] = None,
    scene_by: Annotated[
        str | None,
        typer.Option(
            help="What belongs together and counts once: folder, for y/SCENE/NAME; manifest, for "
            "its column scene or pool_id; or another column."
        ),
    ] = None,
    input_rule: Annotated[
        str | None,
        typer.Option(
            help=f"Classes of inputs with curves of their own: {', '.join(RULES)}, none; default: "
            f"{UPLOAD}, of data {BANDS}."
        ),
    ] = None,
    stretch: options.Stretch = None,
    mixture: Annotated[
        str | None,
        typer.Option(
            help="How X is made from Y: usual, as uploads usually are; none, by a clean reduction; "
            "or a JSON file with a mixture. Default: usual, unless a degradation is named."
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="A folder of uploads: X is compressed as they are; classes that are then not "
            "covered are listed."
        ),
    ] = None,
    degradation: options.Group = options.NOTHING,
    seed: Annotated[int, typer.Option(help="Seed of samples and degradation.")] = 0,
    skip_bad_pairs: Annotated[
        bool, typer.Option(help="Leave out pairs that cannot be used, and list them.")
    ] = False,
    activate: Annotated[bool, typer.Option(help="Activate it when it is done.")] = False,
    force: options.Force = False,
    export: Annotated[Path | None, typer.Option(help="Also write the one-file form.")] = None,
    note: Annotated[
        str | None,
        typer.Option(
            help="What the images show, what not, and where they come from; every answer repeats "
            "the first line."
        ),
    ] = None,
    attributions: Annotated[
        Path | None, typer.Option(help="A text file with one attribution per line.")
    ] = None,
    yes: options.Yes = False,
    server: options.Server = None,
    as_json: options.Json = False,
) -> None:
    """Calibrate an upscaler; a run that was interrupted continues where it stopped.

    Before calls of an upscaler outside of this program it says how many, for how much and about how
    long, and asks. Photographs that are calibrated already under these settings cost no call.
    """
    config = _config(
        name=name,
        upscaler=upscaler,
        samples=samples,
        prediction=prediction,
        indecision=_given(
            estimator=estimator, kernel=kernel, size=size, blur=blur, clip_quantile=clip_quantile
        ),
        fit_indecision=fit_indecision,
        fidelity={
            **({"metric": metric} if metric else {}),
            "blur": fidelity_blur,
            "bound": bound,
            "unit": unit,
            "spot": spot,
        },
        default_alpha=alpha,
        guarantee=options.guarantee_in(guarantee) or {"kind": "expectation"},
        review=dict(zip(("tolerance", "share", "delta"), review, strict=True)) if review else {},
        degradation=_degradation(mixture, options.degradation_in(degradation)),
        stretch=stretch,
        **({"input_rule": None if input_rule == "none" else input_rule} if input_rule else {}),
        activate=activate,
        force=force,
        seed=seed,
        on_bad_pair="skip" if skip_bad_pairs else "fail",
        note=note,
        attributions=_lines(attributions) if attributions else [],
    )
    if like is not None:
        if config.degradation is not None:
            raise typer.BadParameter("--like chooses how X is made; name no degradation with it.")
        config = _like(like, config)
    naming = GroupingRule(group_by, scene_by)
    configs = [config] if server else _of_each(config, folder, naming)
    refusals = list[TrustscaleError]()
    for one in configs:
        file = export and _export_of(export, one.upscaler if len(configs) > 1 else None)
        if file is not None:
            _check_writable(file)
        making = Making(
            server,
            one.model_dump(mode="json", exclude={"activate", "force"}),
            upscaler=one.upscaler,
            yes=yes,
            activate=activate,
            force=force,
            skips=skip_bad_pairs,
            with_file=file is not None,
        )
        outcome = making.run(folder, naming)
        if outcome is None:
            continue
        if file is not None:
            file.write_bytes(outcome.file)
        shown(outcome.document, as_json=as_json)
        refusals += [outcome.refusal] if outcome.refusal else []
    if refusals:
        raise refusals[0]


def _of_each(
    config: CalibrationConfig, folder: Path, naming: GroupingRule
) -> list[CalibrationConfig]:
    """The settings for each upscaler that answers such uploads; says which, where `auto` does."""
    settings = load_settings()
    is_auto = config.upscaler == AUTO or (config.upscaler is None and settings.prefers_auto)
    if not (is_auto and settings.routing_table):
        return [config]
    answering = shares(settings.routing_table, config, find_in(folder, naming), SCALE)
    typer.echo(f"{in_words(answering)}.", err=True)
    return [
        config.model_copy(
            update={"upscaler": share.upscaler, "degradation": share.made_by or config.degradation}
        )
        for share in answering
    ]


def _export_of(export: Path, upscaler: str | None) -> Path:
    """The file to write; of several calibrations it also names the upscaler."""
    return export if upscaler is None else export.with_stem(f"{export.stem}-{upscaler}")


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


def _given(**fields: Any) -> dict[str, Any] | None:
    return {name: value for name, value in fields.items() if value is not None} or None


def _config(**fields: Any) -> CalibrationConfig:
    try:
        return CalibrationConfig(**fields)
    except ValidationError as error:
        raise typer.BadParameter(mistakes(error, CalibrationConfig)) from None


def _like(folder: Path, config: CalibrationConfig) -> CalibrationConfig:
    """The settings with inputs like the uploads of a folder; prints a description of these."""
    found = look_like(folder)
    for line in found.report():
        typer.echo(line, err=True)
    for item in found.unread:
        typer.echo(f"not looked at: {item['name']}: {item['reason']}", err=True)
    return config.model_copy(update={"degradation": found.mixture()})


def _degradation(mixture: str | None, named: dict[str, Any]) -> Any:
    if mixture is None:
        return named or None
    if named:
        raise typer.BadParameter("name either a mixture or the steps of one degradation.")
    if mixture in {"usual", "none"}:
        return None if mixture == "usual" else {}
    try:
        return json.loads(Path(mixture).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"{mixture} is not a JSON file: {reason_of(error)}.") from error
