"""The four kinds of guarantee that a calibration can give.

Each is a class: what it counts as a loss, and the curve that its masks are read from
(`conformal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import Field, TypeAdapter, model_validator

from trustscale_server.calibration.guarantees import (
    LEVELS,
    ErrorQuantile,
    GuaranteeSettings,
    rounded_up,
)
from trustscale_server.conformal import (
    CalibrationSet,
    HighProbabilityCurve,
    LossCurve,
    RiskCurve,
    StepCurve,
    high_probability,
)
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.post_hoc import PostHocCurve, menu_between, on_codes
from trustscale_server.conformal.risk_curve import EXCEEDING_SHARE, exceeded_by, minimal_n
from trustscale_server.conformal.risk_shape import Shape
from trustscale_server.conformal.robust import RobustCurve, harder
from trustscale_server.sampling.sigma.estimators import IndecisionSettings

AFTER_LOOKING: Final = (LEVELS["strict"], LEVELS["lenient"])
"""Between which α may be chosen after looking, by default."""

RiskLevel: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Expectation(GuaranteeSettings):
    """The expected largest error in the mask is at most α."""

    kind: Literal["expectation"] = "expectation"

    def curve(self, calibration_set: CalibrationSet) -> RiskCurve | RobustCurve:
        if self.robust == 1:
            return RiskCurve.from_calibration_set(calibration_set)
        return RobustCurve.from_calibration_set(calibration_set, robust=self.robust)

    def typical_error(
        self, curve: StepCurve, calibration_set: CalibrationSet, alpha: float
    ) -> ErrorQuantile | None:
        assert isinstance(curve, RiskCurve | RobustCurve)  # noqa: S101 - as `curve` makes it
        lenient = curve.lenient_threshold(alpha)
        scenes = calibration_set.by_scene()
        losses = [np.array([spot.losses_below(lenient) for spot in one.curves]) for one in scenes]
        exceeded = exceeded_by(losses, scenes, EXCEEDING_SHARE / self.robust)
        return None if exceeded is None else ErrorQuantile(exceeded, EXCEEDING_SHARE)


class HighProbability(GuaranteeSettings):
    """The expected largest error is at most α, with probability 1 − δ over the calibration."""

    kind: Literal["high_probability"] = "high_probability"
    delta: float = Field(0.1, gt=0, lt=1)

    def curve(self, calibration_set: CalibrationSet) -> StepCurve:
        plain = HighProbabilityCurve.from_calibration_set(calibration_set, delta=self.delta)
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

    def curve(self, calibration_set: CalibrationSet) -> StepCurve:
        counted = self.counted(calibration_set)
        plain: StepCurve = (
            RiskCurve.from_calibration_set(counted)
            if self.delta is None
            else HighProbabilityCurve.from_calibration_set(counted, delta=self.delta)
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

    def typical_error(
        self, curve: StepCurve, calibration_set: CalibrationSet, alpha: float
    ) -> ErrorQuantile | None:
        del curve, calibration_set
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
    def _range_by_default(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and not {"menu", "between"} & fields.keys():
            return {**fields, "between": AFTER_LOOKING}
        return fields

    @model_validator(mode="after")
    def _are_risk_levels(self) -> PostHoc:
        if (self.menu is None) == (self.between is None):
            raise ValueError("name either a menu of risk levels or the two that they lie between")
        if (np.diff(self.menu or self.between or ()) <= 0).any():
            raise ValueError("risk levels must rise")
        if self.shape:
            self.known_shape()
        return self

    def raise_if_unsuited(self, fidelity: FidelitySettings) -> None:
        if fidelity.bound is not None:
            on_codes(np.array(self.alphas), fidelity.bound)  # raises ValueError itself

    def fitted_to(self, sigma: IndecisionSettings) -> PostHoc:
        if self.shape:
            return self
        knots = sigma.fit.shape if sigma.fit is not None else ()
        if not knots:
            # A fitted σ and that of words are on the scale of errors, others are squares.
            is_error = sigma.fit is not None or sigma.reading is not None
            plain = Shape.power(1.0 if is_error else 0.5)
            knots = tuple(zip(plain.levels, plain.risks, strict=True))
        return self.model_copy(update={"shape": knots})

    def known_shape(self) -> Shape:
        """Return a(t) of the knots."""
        levels, risks = zip(*self.shape, strict=True)
        return Shape(levels, risks)

    @property
    def alphas(self) -> tuple[float, ...]:
        """The risk levels that can be chosen."""
        return self.menu or menu_between(*(self.between or AFTER_LOOKING))

    def curve(self, calibration_set: CalibrationSet) -> StepCurve:
        return PostHocCurve.from_calibration_set(
            calibration_set, menu=self.alphas, shape=self.known_shape(), robust=self.robust
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
            return (
                f"{n} scenes hold no choice of α down to {self.alphas[0]:g}: let it be chosen from "
                f"{rounded_up(bound / (n + 1)):g} on, or add at least {more} more"
            )
        if alpha >= on_codes(np.array(self.alphas), bound)[0]:
            return None
        return f"α = {alpha:g} lies below {self.alphas[0]:g}, the least that can be chosen"

    def typical_error(
        self, curve: StepCurve, calibration_set: CalibrationSet, alpha: float
    ) -> ErrorQuantile | None:
        del calibration_set
        if not isinstance(curve, PostHocCurve) or curve.ratio is None:
            return None
        return ErrorQuantile(curve.ratio * min(alpha, self.alphas[-1]), EXCEEDING_SHARE)


AnyGuarantee: TypeAlias = Annotated[
    Expectation | HighProbability | Probability | PostHoc, Field(discriminator="kind")
]


_ANY: Final[TypeAdapter[GuaranteeSettings]] = TypeAdapter(AnyGuarantee)


def guarantee_of(summary: Mapping[str, Any]) -> GuaranteeSettings:
    """Return the guarantee of such a summary; ValidationError without one."""
    return _ANY.validate_python(
        {name: value for name, value in summary.items() if value is not None}
    )
