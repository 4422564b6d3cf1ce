"""Which pictures may go out without a look, by a calibration."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.review import TOLERANCES, p_value, passes
from trustscale_server.conformal.risk_curve import minimal_n


class Review(BaseModel):
    """Whether a picture may go out without a look, by a criterion for all of its pixels."""

    needs_review: bool = Field(
        description="Whether somebody must look at it before it goes out; true also if the "
        "calibration cannot tell."
    )
    p_value: float = Field(
        gt=0,
        le=1,
        description="The p-value, at most δ if the picture is accepted; batches are decided "
        "by these.",
    )
    delta: float
    tolerance: float
    share: float
    n: int = Field(description="Number of calibration pictures, one of each scene.")
    bad: str = Field(description="When a picture is bad, in words.")
    promise: str = Field(description="What is promised of such decisions.")
    reason: str | None = Field(None, description="Why the picture needs a look, whatever its σ.")


def review_of(subset: Subset, high: tuple[float, float], *, why_not: str | None) -> Review | None:
    """Decide about a picture; None if the calibration kept no numbers for it.

    subset: of the calibration, for its class. high: `SigmaCounts.high` of its σ. why_not: why
    nothing is promised of it; None: something is.
    """
    known, settings = subset.one_of_each, subset.manifest.review
    if not all(info.off for info in known):
        return None
    tau, delta, share = settings.tolerance, settings.delta, settings.share
    if share is None:
        share = 0 if _is_about_meaning(subset) else 0.01
    which = 0 if share else 1  # where one pixel is too many, the largest σ decides
    place = TOLERANCES.index(tau)
    highs = np.array([info.high_sigma[which] for info in known])
    bad = highs[[info.off[place] > share for info in known]]
    p, is_accepted, reason = 1.0, False, why_not
    if why_not is None:
        p = p_value(bad, len(known), high[which])
        is_accepted = passes(bad, highs, high[which], delta)
        if len(known) < (least := minimal_n(delta, 1.0)):
            reason = f"Fewer than {least} scenes accept no picture."
        elif p <= delta and not is_accepted:
            reason = "Nearly all pictures of this class are bad, also those that look as good."
    criterion = _criterion(subset, share)
    return Review(
        needs_review=not is_accepted,
        p_value=p,
        delta=delta,
        tolerance=tau,
        share=share,
        n=len(known),
        bad=criterion,
        promise=f"With a probability of at most {delta:g}, over the draw of the {len(known)} "
        "calibration pictures and of a new one like them, a picture passes without a look, but "
        f"{criterion}. That is of all pictures, not of those that pass, and of such subjects, "
        f"which is not checked: {subset.made_of.rstrip('.')}.",
        reason=reason,
    )


def _is_about_meaning(subset: Subset) -> bool:
    return subset.pipeline.fidelity.spec.error_unit in {"label", "words"}


def _criterion(subset: Subset, share: float) -> str:
    """When a picture is bad, in words."""
    spec, tau = subset.pipeline.fidelity.spec, subset.manifest.review.tolerance
    of = "words" if spec.is_for_text else "pixels"
    criterion = f"more than {100 * share:g} % of its {of} are off by more than {tau:g}"
    if _is_about_meaning(subset) and not share:
        criterion = "it holds an error"
    lightness = f", {100 * tau:g} of 100 steps of lightness" if spec.error_unit == "lab" else ""
    return f"{criterion} ({spec.summary}{lightness})"
