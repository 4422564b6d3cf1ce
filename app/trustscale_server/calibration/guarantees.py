"""What a calibration promises.

Each kind of guarantee is a class, chosen in advance with all of its numbers: what it counts as a
loss, and the curve that its masks are read from (`conformal`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from trustscale_server.conformal import (
    HighProbabilityCurve,
    LossCurve,
    RiskCurve,
    StepCurve,
    high_probability,
)
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.post_hoc import PostHocCurve, Shape, menu_between, on_codes
from trustscale_server.conformal.risk_curve import (
    LARGEST,
    USUALLY,
    exceeded_by,
    leakage_bound,
    minimal_n,
)
from trustscale_server.conformal.robust import MAX_ROBUST, RobustCurve, harder, minimal_scenes
from trustscale_server.conformal.scenes import Scene
from trustscale_server.sampling.sigma.estimators import IndecisionSettings

LEVELS: Final[Mapping[str, float]] = {"strict": 0.03, "balanced": 0.05, "lenient": 0.07}
"""α by the names that people choose from."""

ROBUST: Final = 1.25
"""Γ of new calibrations, unless they name another: a fifth of the pictures, the easiest, may never
come."""

AFTER_LOOKING: Final = (LEVELS["strict"], LEVELS["lenient"])
"""Between which α may be chosen after looking, by default."""

# Of an unknown shape: a fitted σ and that of words are on the scale of errors, others are squares.
_POWER: Final = 1.0

COVERED: Final = 20
"""Scenes that a class needs to speak for itself."""

Threshold: TypeAlias = float | Literal["-inf", "inf"]
"""t_α in JSON, where infinities are texts."""

RiskLevel: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


GuaranteeKind = Literal["expectation", "high_probability", "probability", "post_hoc"]


class GuaranteeSummary(BaseModel):
    """What is promised; members that the kind lacks are null."""

    kind: GuaranteeKind = "expectation"
    robust: float = Field(
        1.0,
        description="Γ: it also holds for pictures some of which are up to Γ times as frequent as "
        "in the calibration, such as these without their easiest share 1 − 1/Γ.",
    )
    delta: float | None = Field(
        None, description="δ, the probability that this calibration does not keep the promise."
    )
    tolerance: float | None = Field(
        None,
        description="Of the kind probability: τ, which the largest error exceeds in few spots.",
    )
    level: float | None = Field(
        None,
        description="Of the kind probability: β, the share of those spots, which is the default α.",
    )
    menu: list[float] | None = Field(
        None, description="Of the kind post_hoc: each α that can be chosen after looking."
    )
    between: tuple[float, float] | None = Field(
        None, description="Of the kind post_hoc: the range of α that can be chosen after looking."
    )


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
    robust: float = Field(
        1.0,
        ge=1,
        le=MAX_ROBUST,
        description="Γ: it also holds for other pictures, if no kind of them is more than Γ times "
        "as frequent as in the calibration. 1: only for pictures like the calibration's.",
    )

    def loss(self, loss_curve: LossCurve) -> LossCurve:
        """Return the loss of an image whose largest error has this loss curve."""
        return loss_curve

    def loss_of(self, error: float) -> float:
        """Return the loss of an image with this largest error."""
        return error

    def largest(self, bound: float) -> float:
        """Return the largest loss."""
        return bound

    def raise_if_unsuited(self, fidelity: FidelitySettings) -> None:
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
        pictures: Iterable[Hashable] | None = None,
        weights: Iterable[Fraction] | None = None,
        highest: float = LARGEST,
    ) -> StepCurve:
        """Return the curve of these losses; the order of scenes may not depend on them.

        pictures: of each loss curve, by its name; default: the scene.
        """

    def minimal_n(self, alpha: float, bound: float) -> int:
        """Return the number of scenes below which no pixel can be trusted at α."""
        if self.robust > 1:
            return minimal_scenes(alpha, self.largest(bound), self.robust)
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

    def summary(self) -> GuaranteeSummary:
        """Return what it says of itself in answers; null where this kind has no such member."""
        own = self.model_dump(include=set(GuaranteeSummary.model_fields))
        return GuaranteeSummary.model_validate(own)


class Expectation(GuaranteeSettings):
    """The expected largest error in the mask is at most α."""

    kind: Literal["expectation"] = "expectation"

    def curve(
        self,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        scenes: Iterable[Hashable] | None = None,
        pictures: Iterable[Hashable] | None = None,
        **about: Any,
    ) -> RiskCurve | RobustCurve:
        if self.robust == 1:
            return RiskCurve.from_loss_curves(loss_curves, bound, scenes=scenes, **about)
        return RobustCurve.from_loss_curves(
            loss_curves,
            bound,
            robust=self.robust,
            pictures=scenes if pictures is None else pictures,
            **about,
        )

    def usual(
        self, curve: StepCurve, scenes: Sequence[Scene], alpha: float
    ) -> ErrorQuantile | None:
        assert isinstance(curve, RiskCurve | RobustCurve)  # noqa: S101 - as `curve` makes it
        lenient = curve.lenient_threshold(alpha)
        exceeded = exceeded_by(
            [
                np.array([curve_of_spot.loss_below(lenient) for curve_of_spot in scene.curves])
                for scene in scenes
            ],
            [scene.weights for scene in scenes],
            USUALLY / self.robust,
        )
        return None if exceeded is None else ErrorQuantile(exceeded, USUALLY)


class HighProbability(GuaranteeSettings):
    """The expected largest error is at most α, with probability 1 − δ over the calibration."""

    kind: Literal["high_probability"] = "high_probability"
    delta: float = Field(0.1, gt=0, lt=1)

    def curve(
        self,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        pictures: Iterable[Hashable] | None = None,
        **about: Any,
    ) -> StepCurve:
        del pictures
        plain = HighProbabilityCurve.from_loss_curves(loss_curves, bound, delta=self.delta, **about)
        return plain if self.robust == 1 else harder(plain, self.robust)

    def minimal_n(self, alpha: float, bound: float) -> int:
        return high_probability.minimal_n(alpha / self.robust, bound, self.delta)

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

    def raise_if_unsuited(self, fidelity: FidelitySettings) -> None:
        if fidelity.bound is not None and self.tolerance >= fidelity.bound:
            raise ValueError(
                f"errors are counted up to {fidelity.bound:g}, so the tolerance must be below that"
            )

    def default_alpha(self, chosen: float) -> float:
        del chosen
        return self.level

    def curve(
        self,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        pictures: Iterable[Hashable] | None = None,
        **about: Any,
    ) -> StepCurve:
        del pictures
        losses, largest = map(self.loss, loss_curves), self.largest(bound)
        plain: StepCurve = (
            RiskCurve.from_loss_curves(losses, largest, **about)
            if self.delta is None
            else HighProbabilityCurve.from_loss_curves(losses, largest, delta=self.delta, **about)
        )
        return plain if self.robust == 1 else harder(plain, self.robust)

    def minimal_n(self, alpha: float, bound: float) -> int:
        least, largest = alpha / self.robust, self.largest(bound)
        if self.delta is None:
            return minimal_n(least, largest)
        return high_probability.minimal_n(least, largest, self.delta)

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
    menu: tuple[RiskLevel, ...] | None = Field(None, min_length=1, max_length=1000)
    between: tuple[RiskLevel, RiskLevel] | None = None
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

    def raise_if_unsuited(self, fidelity: FidelitySettings) -> None:
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
            loss_curves,
            bound,
            menu=self.alphas,
            shape=self.known_shape(),
            robust=self.robust,
            **about,
        )

    def minimal_n(self, alpha: float, bound: float) -> int:
        del alpha  # the smallest of all decides
        return super().minimal_n(float(on_codes(np.array(self.alphas), bound)[0]), bound)

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

_ANY: Final[TypeAdapter[GuaranteeSettings]] = TypeAdapter(AnyGuarantee)


def guarantee_of(summary: Mapping[str, Any]) -> GuaranteeSettings:
    """Return the guarantee of such a summary; ValidationError without one."""
    return _ANY.validate_python(
        {name: value for name, value in summary.items() if value is not None}
    )
