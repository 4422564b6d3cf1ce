"""The answer to one request: the guarantee in words and numbers, warnings, the JSON document."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, Field

from app.calibration.record import Applicability, Calibration
from app.conformal.fidelity import clips
from app.conformal.guarantees import lab_psnr_lower_bound_db, minimal_n
from app.errors import BadAlpha
from app.pipeline import Prediction

UNUSUAL = 0.02
"""Typicality below this earns a warning: one calibration-like image in fifty falls below it."""

_MOST_PAIRS = 10**9
"""More pairs than anybody has; beyond it their exact number says nothing."""

_ERROR_IN_WORDS = {
    "pointwise": "colour difference of a pixel (L1 in normalised CIELAB)",
    "neighborhood": "mean colour difference around a pixel (L1 in normalised CIELAB, "
    "Gaussian neighbourhood of {blur:g} px)",
    "neighborhood_difference": "difference of the blurred colours at a pixel (L1 in normalised "
    "CIELAB, Gaussian blur of {blur:g} px)",
    "semantic": "semantic error of a pixel (1 where the meaning differs)",
}


class Guarantee(BaseModel):
    """What is promised about the mask, and what would void it."""

    kind: Literal["expectation"] = "expectation"
    metric: str
    alpha: float
    bound: float = Field(description="B, the largest value the error can take.")
    n: int = Field(description="Number of calibration pairs.")
    statement: str
    lab_psnr_lower_bound_db: float | None
    applicability: Applicability
    voids: list[str]


class Links(BaseModel):
    """Where the parts of the result are, until it expires."""

    self: str
    image: str
    mask: str
    trust: str
    overlay: str


class Result(BaseModel):
    """The JSON answer of an upscaling request. Sizes are those of the output in pixels."""

    id: str
    upscaler: str
    calibration: str
    scale: int
    width: int
    height: int
    alpha: float
    threshold: float | Literal["-inf", "inf"] = Field(description="t_α; trusted is σ < t_α.")
    trusted_fraction: float = Field(ge=0, le=1)
    samples: int
    seed: int
    prediction: Prediction
    guarantee: Guarantee
    typicality: float = Field(gt=0, le=1)
    warnings: list[str]
    timings_ms: dict[str, float]
    links: Links


def parse_alpha(text: str | float | None, default: float) -> float:
    """α of a request: any finite number ≥ 0.

    Raises:
        BadAlpha: not a number, negative, or not finite.
    """
    if text is None or text == "":
        return default
    try:
        alpha = float(text)
    except ValueError:
        raise BadAlpha(f"alpha={str(text)[:40]!r} is not a number.") from None
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise BadAlpha(f"alpha must be a finite number of at least 0, got {text}.")
    return alpha


def threshold_json(threshold: float) -> float | Literal["-inf", "inf"]:
    """t_α as JSON has it: infinities are strings."""
    if math.isinf(threshold):
        return "inf" if threshold > 0 else "-inf"
    return threshold


def guarantee(calibration: Calibration, alpha: float, height: int, width: int) -> Guarantee:
    """The promise for a mask of this α on an output of this size."""
    settings = calibration.pipeline.fidelity
    applicability = calibration.applicability(height, width)
    return Guarantee(
        metric=settings.metric,
        alpha=alpha,
        bound=calibration.bound,
        n=calibration.n,
        statement=_statement(calibration, alpha, applicability),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha)
            if settings.metric == "pointwise" and not clips(settings)
            else None
        ),
        applicability=applicability,
        voids=_voids(calibration),
    )


def _statement(calibration: Calibration, alpha: float, applicability: Applicability) -> str:
    settings = calibration.pipeline.fidelity
    error = _ERROR_IN_WORDS[settings.metric].format(blur=settings.blur)
    if clips(settings):
        error += f", cut at {calibration.bound:g}"
    where = "in the mask"
    if applicability == "per_window":
        where = f"in the part of the mask inside any one window of {_sizes(calibration)} pixels"
    statement = (
        f"Over the draw of the {calibration.n} calibration images and of this image, the largest "
        f"{error} {where} is at most {alpha:g} in expectation, for images drawn from the same law "
        "as the calibration images."
    )
    if applicability == "unknown":
        statement += (
            f" This output is smaller than the calibration images ({_sizes(calibration)} pixels); "
            "whether the promise carries over to its size is not known."
        )
    return statement


def _sizes(calibration: Calibration) -> str:
    widths = {pair.width for pair in calibration.manifest.pairs}
    heights = {pair.height for pair in calibration.manifest.pairs}
    if len(widths) == len(heights) == 1:
        return f"{min(widths)}×{min(heights)}"
    return f"{min(widths)}×{min(heights)} to {max(widths)}×{max(heights)}"


def _voids(calibration: Calibration) -> list[str]:
    degradation = calibration.manifest.degradation
    made = ""
    if degradation is not None:
        steps = ", ".join(
            f"{name} {value:g}" if value is not True else name
            for name, value in degradation.model_dump(exclude_defaults=True).items()
        )
        made = f" (made by bicubic reduction{', ' + steps if steps else ''})"
    return [
        f"an image from elsewhere, of another subject, camera or processing than the pairs{made}",
        "choosing alpha after looking at this image or its mask",
        "enlarging the mask (filling holes, dilating, interpolating); shrinking it is allowed",
        "editing the upscaled image, or using another upscaler's image with this mask",
        "reading it as a promise about this one image: it is about the average over images",
    ]


def warnings_of(
    calibration: Calibration,
    alpha: float,
    *,
    applicability: Applicability,
    typicality: float,
    notes: list[str],
    lossless: bool,
) -> list[str]:
    """Everything about this answer that a careful reader must know."""
    found = list(notes)
    bound, n = calibration.bound, calibration.n
    if alpha < calibration.curve.min_alpha:
        needed = (
            f"at least {minimal_n(alpha, bound)} pairs are needed"
            if alpha * _MOST_PAIRS >= bound
            else "no number of pairs that can be had would suffice"
        )
        found.append(
            f"alpha={alpha:g} is below B/(n+1) = {calibration.curve.min_alpha:.4g} of this "
            f"calibration with n = {n} pairs, so nothing can be trusted; {needed}."
        )
    elif alpha >= bound:
        found.append(
            f"alpha={alpha:g} is not below the largest possible error B = {bound:g}: the promise "
            "says nothing, and everything is marked as trusted."
        )
    if applicability == "unknown":
        found.append(
            f"The output is smaller than the calibration images ({_sizes(calibration)} pixels); "
            "whether the guarantee applies is not known."
        )
    if typicality < UNUSUAL:
        found.append(
            f"This image is unlike the calibration images (typicality {typicality:.3g}): the "
            "samples disagree unusually much or little, so the guarantee may not speak about it."
        )
    if not lossless:
        found.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return found
