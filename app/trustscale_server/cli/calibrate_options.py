"""The options of `trustscale calibrate`, and the settings of a calibration that they make."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibration.guarantees import LEVELS
from trustscale_server.cli import options
from trustscale_server.conformal.error_metrics import METRICS
from trustscale_server.conformal.fidelity import SPOT
from trustscale_server.kinds.features import BANDS, RULES, UPLOAD
from trustscale_server.platform.errors import BadRequest, reason_of

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


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is not a text file in UTF-8.") from None
