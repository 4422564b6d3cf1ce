"""What serving from another calibration changes, and when that is better not done by chance."""

from __future__ import annotations

from pydantic import BaseModel

from app.calibration.record import Calibration
from app.errors import Conflict

FAR_BELOW = 0.5  # a trusted area below this share of the present one is nobody's wish by default


class Change(BaseModel):
    """A figure before and after the switch; None: nothing was served before."""

    before: float | None
    after: float


class Changes(BaseModel):
    """What users see of a switch.

    trusted_area: mean share in [0, 1] of trusted pixels at `alpha`, the default α of the next one,
    each over the pairs of its own calibration.
    """

    alpha: float
    default_alpha: Change
    min_alpha: Change
    trusted_area: Change

    @classmethod
    def of(cls, after: Calibration, before: Calibration | None) -> Changes:
        """Both at the default α of the next one: the same promise, so that areas compare."""
        alpha = after.manifest.default_alpha

        def area(calibration: Calibration) -> float:
            return calibration.mean_trusted_fraction(calibration.curve.threshold(alpha))

        return cls(
            alpha=alpha,
            default_alpha=Change(
                before=before.manifest.default_alpha if before else None, after=alpha
            ),
            min_alpha=Change(
                before=before.curve.min_alpha if before else None, after=after.curve.min_alpha
            ),
            trusted_area=Change(before=area(before) if before else None, after=area(after)),
        )

    @property
    def is_worse(self) -> bool:
        """Whether it trusts nothing at its own default α, or far less than the present one."""
        before = self.trusted_area.before or 0.0
        return self.min_alpha.after > self.alpha or self.trusted_area.after < FAR_BELOW * before

    def check(self, after: Calibration) -> None:
        """Return if it may be served from without another word.

        Raises:
            Conflict: it is worse; with the figures as `changes`.
        """
        if self.is_worse:
            short = after.guarantee.shortfall(
                self.alpha, after.bound, after.n, after.curve.min_alpha
            )
            why = f" At its default {short}." if short else ""
            raise Conflict(
                f"{after.id} would serve worse: {self}.{why} It stays inactive unless forced.",
                changes=self.model_dump(),
            )

    def __str__(self) -> str:
        area, least = self.trusted_area, self.min_alpha
        if area.before is None or least.before is None:
            return (
                f"trusted area at α = {self.alpha:g} {area.after:.1%}, smallest α {least.after:.4g}"
            )
        return (
            f"trusted area at α = {self.alpha:g} {area.before:.1%} → {area.after:.1%}, "
            f"smallest α {least.before:.4g} → {least.after:.4g}"
        )
