"""The answer to one request as a JSON document. `promise.py` puts the guarantee into words."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, Field

from app.calibration.guarantee import Applicability, GuaranteeKind
from app.calibration.record import Calibration
from app.conformal.fidelity import Labels, Unit
from app.errors import BadAlpha
from app.sampling.pipeline import Prediction


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
    counted_up_to: float | None = Field(
        None, description="c, where larger errors count as c; null: errors are not cut."
    )
    n: int = Field(description="Number of calibration scenes, of the group and class in question.")
    pairs: int = Field(0, description="Number of their pairs: several may show one scene.")
    statement: str
    lab_psnr_lower_bound_db: float | None
    applicability: Applicability
    voids: list[str]


class InputClass(BaseModel):
    """The class of the upload, whose curve was used if the calibration has it (n > 0)."""

    name: str
    title: str = Field(description="In words.")
    rule: str = Field(description="Name and version of the rule that the class follows from.")
    n: int = Field(description="Number of calibration scenes of this class.")


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
    input_class: InputClass | None = Field(
        None, description="Class of the upload; null: the calibration has no classes."
    )
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
    unusual: bool = Field(
        False, description="Whether `typicality` is so small that it is warned of."
    )
    warnings: list[str]
    timings_ms: dict[str, float]
    links: Links

    def part_of(self, calibration: Calibration) -> Calibration:
        """The part of its calibration that the mask was read from."""
        return calibration.part(self.group, self.input_class.name if self.input_class else None)


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
