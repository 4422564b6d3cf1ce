"""What every guarantee of a calibration has and says; it is chosen in advance with all numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.conformal import CalibrationSet, LossCurve, StepCurve
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.risk_curve import leakage_bound, minimal_n
from trustscale_server.conformal.robust import MAX_ROBUST, minimal_scenes
from trustscale_server.sampling.sigma.estimators import IndecisionSettings

LEVELS: Final[Mapping[str, float]] = {"strict": 0.03, "balanced": 0.05, "lenient": 0.07}
"""α by the names that people choose from."""

ROBUST: Final = 1.25
"""Γ of new calibrations, unless they name another: a fifth of the pictures, the easiest, may never
come."""

Threshold: TypeAlias = float | Literal["-inf", "inf"]
"""t_α in JSON, where infinities are texts."""

GuaranteeKind: TypeAlias = Literal["expectation", "high_probability", "probability", "post_hoc"]


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

    def counted(self, calibration_set: CalibrationSet) -> CalibrationSet:
        """Return the losses that it counts, given those of errors."""
        return replace(
            calibration_set,
            loss_curves=[*map(self.loss, calibration_set.loss_curves)],
            bound=self.largest(calibration_set.bound),
        )

    @abstractmethod
    def curve(self, calibration_set: CalibrationSet) -> StepCurve:
        """Return the curve of these errors; the order of scenes may not depend on them."""

    def minimal_n(self, alpha: float, bound: float) -> int:
        """Return the number of scenes below which no pixel can be trusted at α."""
        if self.robust > 1:
            return minimal_scenes(alpha, self.largest(bound), self.robust)
        return minimal_n(alpha, self.largest(bound))

    def min_alpha(self, bound: float, weights: Sequence[Fraction]) -> float:
        """Return the smallest α that scenes can hold, reached if none has any loss.

        weights: of the scenes, in the order of the curve.
        """
        without_loss = LossCurve(np.empty(0, np.float32), np.empty(0, np.float32))
        nothing_lost = CalibrationSet([without_loss] * len(weights), bound, weights=weights)
        return self.curve(nothing_lost).min_alpha

    def shortfall(
        self, alpha: float, bound: float, n: int, least: float | None = None
    ) -> str | None:
        """Explain why n scenes trust nothing at α and what would help; None if they can trust some.

        least: the smallest α of their curve, if known.
        """
        least = self.min_alpha(bound, [Fraction(1)] * n) if least is None else least
        if alpha >= least:
            return None
        more = max(1, self.minimal_n(alpha, bound) - n) if alpha > 0 else None
        or_add = "" if more is None else f", or add at least {more} more"
        return (
            f"α = {alpha:g} lies below {least:.4g}, the least that {n} scenes can hold: use "
            f"{rounded_up(least):g} or more{or_add}"
        )

    def leakage_bound(self, alpha: float, n: int, n_leaked: int, bound: float) -> float | None:
        """Return what remains of α if a model was trained on some scenes; None if unknown."""
        return leakage_bound(alpha, n, n_leaked, self.largest(bound))

    def typical_error(
        self, curve: StepCurve, calibration_set: CalibrationSet, alpha: float
    ) -> ErrorQuantile | None:
        """Return the error that few spots exceed inside the mask of α, or None.

        curve: that of the calibration set.
        """
        del curve, calibration_set, alpha
        return None

    def summary(self) -> GuaranteeSummary:
        """Return what it says of itself in answers; null where this kind has no such member."""
        own = self.model_dump(include=set(GuaranteeSummary.model_fields))
        return GuaranteeSummary.model_validate(own)
