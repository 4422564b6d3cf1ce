"""What a calibration promises, and what it says of itself and of its pairs.

Each kind of guarantee is a class, chosen in advance with all of its numbers: what it counts as a
loss, and the curve that its masks are read from. So is when a picture is bad, and how many may go
out without a look (`app/conformal/curve.py`). The manifest is all of a calibration but its
arrays.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from trustscale_server import __version__
from trustscale_server.conformal import (
    HighProbabilityCurve,
    LossCurve,
    RiskCurve,
    StepCurve,
    bounds,
)
from trustscale_server.conformal.bounds import PostHocCurve, Shape, menu_between, on_codes
from trustscale_server.conformal.curve import (
    LARGEST,
    TOLERANCES,
    USUALLY,
    Scene,
    exceeded_by,
    leakage_bound,
    minimal_n,
)
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.degrade import MadeBy, Mixture
from trustscale_server.sampling.pipeline import Pipeline
from trustscale_server.sigma.estimators import IndecisionSettings

# --- When a picture is bad, and how many may go out without a look.


class ReviewSettings(BaseModel):
    """When a picture is bad, and how many bad ones may be accepted; chosen in advance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: float = Field(0.1, description=f"τ, one of {', '.join(map(str, TOLERANCES))}.")
    share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="A picture is bad if more than this share of its pixels is off by more than τ. "
        "Default: 0.01; 0 for labels: one word that is read otherwise is too many.",
    )
    delta: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="δ, the largest share of new pictures that is bad and accepted.",
    )

    @field_validator("tolerance")
    @classmethod
    def _measured(cls, tolerance: float) -> float:
        if tolerance not in TOLERANCES:
            raise ValueError(f"τ is one of {', '.join(map(str, TOLERANCES))}")
        return tolerance


# --- Which guarantee a calibration gives, chosen in advance with all of its numbers.

LEVELS: Final[Mapping[str, float]] = {"strict": 0.03, "balanced": 0.05, "lenient": 0.07}
"""α by the names that people choose from."""

AFTER_LOOKING: Final = (LEVELS["strict"], LEVELS["lenient"])
"""Between which α may be chosen after looking, by default."""

# Of an unknown shape: a fitted σ and that of words are on the scale of errors, others are squares.
_POWER: Final = 1.0

COVERED: Final = 20
"""Scenes that a class needs to speak for itself."""

Threshold: TypeAlias = float | Literal["-inf", "inf"]
"""t_α in JSON, where infinities are texts."""

Level: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_ROUNDING: Final = 1 + 1e-12
"""Above the errors of floating point."""


class ErrorQuantile(NamedTuple):
    """An error that at most this share of spots exceeds inside the mask."""

    error: float
    share: float


def rounded_up(alpha: float) -> float:
    """Return a positive number to two digits, never smaller."""
    step = 10.0 ** (math.floor(math.log10(alpha)) - 1)
    return float(f"{math.ceil(alpha / step) * step:.6g}")


def threshold_json(threshold: float) -> Threshold:
    """t_α for JSON."""
    if math.isinf(threshold):
        return "inf" if threshold > 0 else "-inf"
    return threshold


class GuaranteeSettings(BaseModel, ABC):
    """One guarantee with all of its numbers.

    `bound` in all arguments is B of the fidelity error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    def loss(self, loss_curve: LossCurve) -> LossCurve:
        """Return the loss of an image whose largest error has this loss curve."""
        return loss_curve

    def loss_of(self, error: float) -> float:
        """Return the loss of an image with this largest error."""
        return error

    def largest(self, bound: float) -> float:
        """Return the largest loss."""
        return bound

    def check(self, fidelity: FidelitySettings) -> None:
        """Raise ValueError if this guarantee cannot be given about such errors."""

    def fitted_to(self, sigma: IndecisionSettings) -> GuaranteeSettings:
        """Return the guarantee for masks that are cut from this σ."""
        del sigma
        return self

    def default_alpha(self, chosen: float) -> float:
        """Return the α of requests that name none, given the calibration's own setting."""
        return chosen

    @abstractmethod
    def curve(
        self,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        scenes: Iterable[Hashable] | None = None,
        weights: Iterable[Fraction] | None = None,
        highest: float = LARGEST,
    ) -> StepCurve:
        """Return the curve of these losses; the order of scenes may not depend on them."""

    def minimal_n(self, alpha: float, bound: float) -> int:
        """Return the number of scenes below which no pixel can be trusted at α."""
        return minimal_n(alpha, self.largest(bound))

    def min_alpha(self, bound: float, n: int) -> float:
        """Return the smallest α that n scenes can hold, reached if none has any loss."""
        without = LossCurve(np.empty(0, np.float32), np.empty(0, np.float32))
        return self.curve([without] * n, bound).min_alpha

    def shortfall(
        self, alpha: float, bound: float, n: int, least: float | None = None
    ) -> str | None:
        """Explain why n scenes trust nothing at α and what would help; None if they may.

        least: the smallest α of their curve, if known.
        """
        least = self.min_alpha(bound, n) if least is None else least
        if alpha >= least:
            return None
        more = max(1, self.minimal_n(alpha, bound) - n) if alpha > 0 else None
        words = f"α = {alpha:g} lies below {least:.4g}, the least that {n} scenes can hold"
        or_add = "" if more is None else f", or add at least {more} more"
        return f"{words}: use {rounded_up(least):g} or more{or_add}"

    def leakage_bound(self, alpha: float, n: int, n_leaked: int, bound: float) -> float | None:
        """Return what remains of α if a model was trained on some scenes; None if unknown."""
        return leakage_bound(alpha, n, n_leaked, self.largest(bound))

    def usual(
        self, curve: StepCurve, scenes: Sequence[Scene], alpha: float
    ) -> ErrorQuantile | None:
        """Return the error that few spots exceed inside the mask of α, or None."""
        del curve, scenes, alpha
        return None

    def facts(self) -> dict[str, Any]:
        """Return the guarantee as JSON values; null where this kind has no such member."""
        own = self.model_dump(mode="json")
        return {name: own.get(name) for name in FACTS}


class Expectation(GuaranteeSettings):
    """The expected largest error in the mask is at most α."""

    kind: Literal["expectation"] = "expectation"

    def curve(self, loss_curves: Iterable[LossCurve], bound: float, **about: Any) -> StepCurve:
        return RiskCurve.from_loss_curves(loss_curves, bound, **about)

    def usual(
        self, curve: StepCurve, scenes: Sequence[Scene], alpha: float
    ) -> ErrorQuantile | None:
        lenient = curve.threshold((alpha + curve.min_alpha) * _ROUNDING)  # t⁺
        exceeded = exceeded_by(
            [
                np.array([curve_of_spot.loss_below(lenient) for curve_of_spot in scene.curves])
                for scene in scenes
            ],
            [scene.weights for scene in scenes],
        )
        return None if exceeded is None else ErrorQuantile(exceeded, USUALLY)


class HighProbability(GuaranteeSettings):
    """The expected largest error is at most α, with probability 1 − δ over the calibration."""

    kind: Literal["high_probability"] = "high_probability"
    delta: float = Field(0.1, gt=0, lt=1)

    def curve(self, loss_curves: Iterable[LossCurve], bound: float, **about: Any) -> StepCurve:
        return HighProbabilityCurve.from_loss_curves(loss_curves, bound, delta=self.delta, **about)

    def minimal_n(self, alpha: float, bound: float) -> int:
        return bounds.minimal_n(alpha, bound, self.delta)

    def leakage_bound(self, alpha: float, n: int, n_leaked: int, bound: float) -> float | None:
        del alpha, n, n_leaked, bound
        return None


class Probability(GuaranteeSettings):
    """In at most the share α of spots an error in the mask exceeds the tolerance τ.

    The loss is 1{largest error > τ}, and B is 1. `level` is the default α. With δ it holds for the
    calibration at hand with probability 1 − δ.
    """

    kind: Literal["probability"] = "probability"
    tolerance: float = Field(
        gt=0, allow_inf_nan=False, description="τ, up to which an error does not count."
    )
    level: float = Field(0.1, gt=0, lt=1, description="β, the share of spots with larger errors.")
    delta: float | None = Field(None, gt=0, lt=1)

    def loss(self, loss_curve: LossCurve) -> LossCurve:
        return loss_curve.exceeding(self.tolerance)

    def loss_of(self, error: float) -> float:
        return float(error > self.tolerance)

    def largest(self, bound: float) -> float:
        del bound
        return 1.0

    def check(self, fidelity: FidelitySettings) -> None:
        if fidelity.bound is not None and self.tolerance >= fidelity.bound:
            raise ValueError(
                f"errors are counted up to {fidelity.bound:g}, so the tolerance must be below that"
            )

    def default_alpha(self, chosen: float) -> float:
        del chosen
        return self.level

    def curve(self, loss_curves: Iterable[LossCurve], bound: float, **about: Any) -> StepCurve:
        losses = map(self.loss, loss_curves)
        if self.delta is None:
            return RiskCurve.from_loss_curves(losses, self.largest(bound), **about)
        return HighProbabilityCurve.from_loss_curves(
            losses, self.largest(bound), delta=self.delta, **about
        )

    def minimal_n(self, alpha: float, bound: float) -> int:
        if self.delta is None:
            return super().minimal_n(alpha, bound)
        return bounds.minimal_n(alpha, self.largest(bound), self.delta)

    def leakage_bound(self, alpha: float, n: int, n_leaked: int, bound: float) -> float | None:
        known = super().leakage_bound(alpha, n, n_leaked, bound)
        return known if self.delta is None else None

    def usual(
        self, curve: StepCurve, scenes: Sequence[Scene], alpha: float
    ) -> ErrorQuantile | None:
        del curve, scenes
        return ErrorQuantile(self.tolerance, alpha)


class PostHoc(GuaranteeSettings):
    """α may be chosen after looking: the largest error over α is at most 1 in expectation.

    It is chosen from a menu or between two numbers. `shape`: knots of the increasing a(t)
    that all α share, which follow from σ.
    """

    kind: Literal["post_hoc"] = "post_hoc"
    menu: tuple[Level, ...] | None = Field(None, min_length=1, max_length=1000)
    between: tuple[Level, Level] | None = None
    shape: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and not {"menu", "between"} & fields.keys():
            return {**fields, "between": AFTER_LOOKING}
        return fields

    @model_validator(mode="after")
    def _one_of_both(self) -> PostHoc:
        if (self.menu is None) == (self.between is None):
            raise ValueError("name either a menu of risk levels or the two that they lie between")
        if (np.diff(self.menu or self.between or ()) <= 0).any():
            raise ValueError("risk levels must rise")
        if self.shape:
            self.known_shape()
        return self

    def check(self, fidelity: FidelitySettings) -> None:
        if fidelity.bound is not None:
            on_codes(np.array(self.alphas), fidelity.bound)

    def fitted_to(self, sigma: IndecisionSettings) -> PostHoc:
        if self.shape:
            return self
        knots = sigma.fit.shape if sigma.fit is not None else ()
        if not knots:
            is_error = sigma.fit is not None or sigma.reading is not None
            plain = Shape.power(_POWER if is_error else _POWER / 2)
            knots = tuple(zip(plain.levels, plain.risks, strict=True))
        return self.model_copy(update={"shape": knots})

    def known_shape(self) -> Shape:
        """Return a(t)."""
        levels, risks = zip(*self.shape, strict=True)
        return Shape(levels, risks)

    @property
    def alphas(self) -> tuple[float, ...]:
        """The risk levels that can be chosen."""
        return self.menu or menu_between(*(self.between or AFTER_LOOKING))

    def curve(self, loss_curves: Iterable[LossCurve], bound: float, **about: Any) -> StepCurve:
        return PostHocCurve.from_loss_curves(
            loss_curves, bound, menu=self.alphas, shape=self.known_shape(), **about
        )

    def minimal_n(self, alpha: float, bound: float) -> int:
        del alpha  # the smallest of all decides
        return minimal_n(float(on_codes(np.array(self.alphas), bound)[0]), bound)

    def shortfall(
        self, alpha: float, bound: float, n: int, least: float | None = None
    ) -> str | None:
        if least is not None and alpha >= least:
            return None
        more = self.minimal_n(alpha, bound) - n
        if more > 0:
            from_ = rounded_up(bound / (n + 1))
            return (
                f"{n} scenes hold no choice of α down to {self.alphas[0]:g}: let it be chosen from "
                f"{from_:g} on, or add at least {more} more"
            )
        if alpha >= on_codes(np.array(self.alphas), bound)[0]:
            return None
        return f"α = {alpha:g} lies below {self.alphas[0]:g}, the least that can be chosen"

    def usual(
        self, curve: StepCurve, scenes: Sequence[Scene], alpha: float
    ) -> ErrorQuantile | None:
        del scenes
        if not isinstance(curve, PostHocCurve) or curve.ratio is None:
            return None
        return ErrorQuantile(curve.ratio * min(alpha, self.alphas[-1]), USUALLY)


AnyGuarantee: TypeAlias = Annotated[
    Expectation | HighProbability | Probability | PostHoc, Field(discriminator="kind")
]
GuaranteeKind = Literal["expectation", "high_probability", "probability", "post_hoc"]

FACTS: Final = ("kind", "delta", "tolerance", "level", "menu", "between")
"""What `facts` of any kind names."""

_ANY: Final[TypeAdapter[GuaranteeSettings]] = TypeAdapter(AnyGuarantee)


def guarantee_of(facts: Mapping[str, Any]) -> GuaranteeSettings:
    """Return the guarantee of such facts; ValidationError without one."""
    return _ANY.validate_python({name: value for name, value in facts.items() if value is not None})


# --- What a calibration says of itself and of its pairs, all but the arrays.

# Before the name of the admin, the reason of a pair that was taken out.
REMOVED: Final = "removed by "


class PairInfo(BaseModel):
    """What is kept of one pair besides its losses. Sizes are those of Y in pixels.

    group, scene: see `layout.py`; a pair without a scene is its own.
    variant: the way in which X was made, where one Y gave several pairs; they are one scene.
    input_class, facts: of X (`app/images/description.py`).
    pixels_sha256: of Y decoded, whatever its file.
    off, high_sigma: of the whole picture (`app/conformal/curve.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    x_sha256: str
    y_sha256: str
    pixels_sha256: str
    width: int
    height: int
    seed: int
    mean_log_sigma: float
    group: str | None = None
    scene: str | None = None
    variant: str | None = None
    input_class: str | None = None
    facts: dict[str, float] | None = None
    off: tuple[float, ...] = ()
    high_sigma: tuple[float, ...] = ()

    @property
    def source(self) -> str:
        """The name of the upload: that of the pair without its variant."""
        return self.name if self.variant is None else self.name.removesuffix(f"~{self.variant}")


def scene_of(pair: PairInfo) -> tuple[str, str]:
    """Return the scene of a pair; a pair that names none is its own."""
    return ("pair", pair.source) if pair.scene is None else ("scene", pair.scene)


class Provenance(BaseModel):
    """Where a calibration comes from.

    settings: a digest for each setting of the upscaler (`settings_of`).
    request: `CalibrationRequest.key` of what was measured for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    software: str = f"trustscale {__version__}"
    created_by: str = "local"
    parent: str | None = None
    note: str | None = None
    attributions: list[str] = Field(default_factory=list)
    settings: dict[str, str] = Field(default_factory=dict)
    request: str | None = None


class Manifest(BaseModel):
    """All that a calibration stores but its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    upscaler: str
    created_at: datetime
    pipeline: Pipeline
    default_alpha: float = Field(LEVELS["balanced"], gt=0)
    guarantee: AnyGuarantee = Expectation()
    review: ReviewSettings = ReviewSettings()
    degradation: MadeBy | None = None
    seed: int = 0
    pairs: list[PairInfo]
    skipped: list[dict[str, Any]] = Field(default_factory=list)
    provenance: Provenance = Provenance()

    @property
    def shares(self) -> Mapping[str, int]:
        """The share of each way of making X, by its name; none where X was given or made in one."""
        made_by = self.degradation
        return (
            {way: made_by.share(way) for way in made_by.variants()}
            if isinstance(made_by, Mixture)
            else {}
        )


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """One pair after generation.

    loss_curves: of its spots, `coarse`; of the whole picture where the promise is about that.
    """

    info: PairInfo
    loss_curves: Sequence[LossCurve]
    sigma_quantiles: NDArray[np.float32]
