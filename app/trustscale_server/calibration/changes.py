"""What users see of a switch from one calibration to another."""

from __future__ import annotations

from pydantic import BaseModel

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.platform.errors import Conflict


class Change(BaseModel):
    """A figure before and after the switch; before is None if nothing was served."""

    before: float | None
    after: float


class ServingChanges(BaseModel):
    """What users see of a switch.

    trusted_area: mean share in [0, 1] of trusted pixels at `alpha`, the default α of the next: of
    both over the pairs of the next where their scores are the same, so that nothing but the
    threshold differs; else (`same_pictures` is false) each over its own.
    """

    alpha: float
    default_alpha: Change
    min_alpha: Change
    trusted_area: Change
    same_pictures: bool = True

    @classmethod
    def between(cls, after: Calibration, before: Calibration | None) -> ServingChanges:
        """Compare both calibrations at the default α of the next one, so that areas compare."""
        alpha = after.manifest.default_alpha
        is_same = before is None or before.pipeline == after.pipeline

        def area(calibration: Calibration) -> float:
            judged = after if is_same else calibration
            return judged.everything.mean_trusted_fraction(calibration.curve.threshold(alpha))

        return cls(
            alpha=alpha,
            default_alpha=Change(
                before=before.manifest.default_alpha if before else None, after=alpha
            ),
            min_alpha=Change(
                before=before.curve.min_alpha if before else None, after=after.curve.min_alpha
            ),
            trusted_area=Change(before=area(before) if before else None, after=area(after)),
            same_pictures=is_same,
        )

    @property
    def is_worse(self) -> bool:
        """Whether it trusts nothing at its default α, or less than half as much as before."""
        before = self.trusted_area.before or 0.0
        return self.min_alpha.after > self.alpha or self.trusted_area.after < before / 2

    def raise_if_worse(self, after: Calibration) -> None:
        """Raise Conflict, with the figures as `changes`, if it would serve worse."""
        if self.is_worse:
            short = after.everything.shortfall(self.alpha)
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
