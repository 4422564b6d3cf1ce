"""The answer to one request: the guarantee in words and numbers, warnings, the JSON document."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, Field

from app.calibration.guarantee import GuaranteeKind
from app.calibration.record import REMOVED, Applicability, Calibration
from app.conformal.fidelity import Labels, Unit, clips
from app.conformal.guarantees import lab_psnr_lower_bound_db
from app.errors import BadAlpha
from app.sampling.pipeline import Prediction

UNUSUAL = 0.02
"""Typicality below this earns a warning: one calibration-like image in fifty falls below it."""

_MOST_PAIRS = 10**9
"""More pairs than anybody has; beyond it their exact number says nothing."""


class Guarantee(BaseModel):
    """What is promised about the mask, and what would void it."""

    kind: GuaranteeKind = "expectation"
    delta: float | None = Field(
        None, description="With high probability: δ, that of the promise not being kept."
    )
    method: str | None = Field(None, description="With high probability: the test behind it.")
    metric: str
    labels: Labels | None = Field(
        None, description="Semantic metric only: whether people or a declared rule labelled."
    )
    error: str = Field("error", description="What is bounded, in a few words.")
    unit: Unit | None = Field(
        None, description="Of the error: lab, L1 in normalised CIELAB; label, 1 where marked."
    )
    alpha: float
    bound: float = Field(description="B, the largest value the error can take.")
    n: int = Field(description="Number of calibration pairs, of the group if one was named.")
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
    group: str | None = Field(None, description="Group of images whose curve was used.")
    scale: int
    width: int
    height: int
    alpha: float
    threshold: float | Literal["-inf", "inf"] = Field(description="t_α; trusted is σ < t_α.")
    trusted_fraction: float = Field(ge=0, le=1)
    samples: int
    seed: int
    prediction: Prediction
    format: str = Field("png", description="Of the picture.")
    quality: int | None = Field(None, description="Of a lossy format, where one was asked for.")
    guarantee: Guarantee
    typicality: float = Field(gt=0, le=1)
    warnings: list[str]
    timings_ms: dict[str, float]
    links: Links


def check_alpha(alpha: float | None, default: float) -> float:
    """α of a request: any finite number ≥ 0.

    Raises:
        BadAlpha: negative, or not finite.
    """
    if alpha is None:
        return default
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise BadAlpha(f"alpha must be a finite number of at least 0, got {alpha}.")
    return alpha


def threshold_json(threshold: float) -> float | Literal["-inf", "inf"]:
    """t_α as JSON has it: infinities are strings."""
    if math.isinf(threshold):
        return "inf" if threshold > 0 else "-inf"
    return threshold


def guarantee(
    calibration: Calibration, alpha: float, height: int, width: int, group: str | None = None
) -> Guarantee:
    """The promise for a mask of this α on an output of this size.

    Raises:
        BadGroup: the calibration has no such group.
    """
    calibration = calibration.of_group(group)
    settings = calibration.pipeline.fidelity
    applicability = calibration.applicability(height, width)
    return Guarantee(
        **calibration.guarantee.facts(),
        metric=settings.metric,
        labels=settings.labels if settings.row.unit == "label" else None,
        error=settings.row.words,
        unit=settings.row.unit,
        alpha=alpha,
        bound=calibration.bound,
        n=calibration.n,
        statement=_statement(calibration, alpha, applicability, group),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha)
            # A bound on windows does not bound the root mean square error of all of them.
            if settings.row.bounds_psnr and not clips(settings) and applicability == "exact"
            else None
        ),
        applicability=applicability,
        voids=_voids(calibration, group, applicability),
    )


def _statement(
    calibration: Calibration, alpha: float, applicability: Applicability, group: str | None
) -> str:
    settings = calibration.pipeline.fidelity
    error = settings.sentence
    if clips(settings):
        error += f", cut at {calibration.bound:g}"
    where = "in the mask"
    if applicability == "per_window":
        where = f"in the part of the mask inside any one window of {_sizes(calibration)} pixels"
    images = f"{calibration.n} calibration images"
    if group is not None:
        images += f" of the group {group!r}"
    promise = calibration.guarantee
    if promise.kind == "high_probability":
        statement = (
            f"With probability at least {1 - promise.delta:g} over the draw of the {images}, the "
            f"expected value, over new images, of the largest {error} {where} is at most "
            f"{alpha:g}, for images drawn independently from the same law as the calibration "
            "images."
        )
    else:
        statement = (
            f"Over the draw of the {images} and of this image, the largest {error} {where} is at "
            f"most {alpha:g} in expectation, for images drawn from the same law as the calibration "
            "images."
        )
    if group is not None:
        statement += f" It speaks about images of the group {group!r} only."
    if applicability == "unknown":
        statement += (
            f" This output is {_outside(calibration)}; whether the promise carries over to its "
            "size is not known."
        )
    return statement


def _outside(calibration: Calibration) -> str:
    """How a size differs from the calibrated ones when nothing is known about it."""
    return f"of another size than the calibration images ({_sizes(calibration)} pixels)"


def _sizes(calibration: Calibration) -> str:
    widths = {pair.width for pair in calibration.manifest.pairs}
    heights = {pair.height for pair in calibration.manifest.pairs}
    if len(widths) == len(heights) == 1:
        return f"{min(widths)}×{min(heights)}"
    return f"{min(widths)}×{min(heights)} to {max(widths)}×{max(heights)}"


def _voids(calibration: Calibration, group: str | None, applicability: Applicability) -> list[str]:
    degradation = calibration.manifest.degradation
    result = "upscaled" if calibration.pipeline.scale > 1 else "restored"
    made = ""
    if degradation is not None:
        made = f" (made by {degradation.in_words(calibration.pipeline.scale)})"
    found = [
        f"an image from elsewhere, of another subject, camera or processing than the pairs{made}",
        "choosing alpha after looking at this image or its mask",
        "enlarging the mask (filling holes, dilating, interpolating); shrinking it is allowed",
        f"editing the {result} image, or using another upscaler's image with this mask",
        "reading it as a promise about this one image: it is about the average over images",
    ]
    if calibration.guarantee.kind == "high_probability":
        found.append(
            "pairs that are no independent draws, such as several crops or frames of one scene"
        )
    removed = sum(
        str(item.get("reason", "")).startswith(REMOVED) for item in calibration.manifest.skipped
    )
    if removed:
        found.append(
            f"pairs that were taken out because of their errors ({removed} were taken out by hand)"
        )
    if applicability == "per_window":
        found.append(
            "an upscaler that treats a part of a larger image otherwise than an image of its own, "
            "or choosing the window after looking"
        )
    if group is not None:
        found.append(
            "choosing the group after looking at the answer: it must follow from the input, in the "
            "way in which the pairs were grouped"
        )
    if calibration.pipeline.fidelity.labels == "synthetic":
        found.append(
            "reading the labels as a person's: a synthetic annotator marked the differences"
        )
    return found


def warnings_of(
    calibration: Calibration,
    alpha: float,
    *,
    applicability: Applicability,
    typicality: float,
    notes: list[str],
    lossless: bool,
    group: str | None = None,
) -> list[str]:
    """Everything about this answer that a careful reader must know."""
    found = list(notes)
    calibration = calibration.of_group(group)
    bound = calibration.bound
    if alpha < calibration.curve.min_alpha:
        found.append(_infeasible(calibration, alpha, group))
    elif alpha >= bound:
        found.append(
            f"alpha={alpha:g} is not below the largest possible error B = {bound:g}: the promise "
            "says nothing, and everything is marked as trusted."
        )
    if applicability == "unknown":
        found.append(
            f"The output is {_outside(calibration)}; whether the guarantee applies is not known."
        )
    if typicality < UNUSUAL:
        found.append(
            f"This image is unlike the calibration images (typicality {typicality:.3g}): the "
            "samples disagree unusually much or little, so the guarantee may not speak about it."
        )
    if not lossless:
        found.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return found


def _infeasible(calibration: Calibration, alpha: float, group: str | None) -> str:
    """Why nothing can be trusted at this α, and the number of pairs that it needs."""
    promise = calibration.guarantee
    least = f"{calibration.curve.min_alpha:.4g}"
    limit = f"B/(n+1) = {least}"
    needs = "pairs are needed"
    if promise.kind == "high_probability":
        limit = f"{least}, the least that can be held with probability {1 - promise.delta:g},"
        needs = "pairs without any error, and in practice several times as many, are needed"
    needed = (
        f"at least {calibration.minimal_n(alpha)} {needs}"
        if alpha * _MOST_PAIRS >= calibration.bound
        else "no number of pairs that can be had would suffice"
    )
    of = "this calibration" if group is None else f"the group {group!r} of this calibration"
    return (
        f"alpha={alpha:g} is below {limit} of {of} with n = {calibration.n} pairs, so nothing can "
        f"be trusted; {needed}."
    )
