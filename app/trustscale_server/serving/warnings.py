"""The warnings of an answer: what its mask does not promise, and why it is small."""

from __future__ import annotations

from typing import Final

from trustscale_server.calibration.guarantee_kinds import PostHoc
from trustscale_server.calibration.guarantees import rounded_up
from trustscale_server.serving.applicable import ApplicableCalibration

_MAX_PAIRS: Final = 10**9  # more than anybody has


def warnings_of(
    applicable: ApplicableCalibration,
    alpha: float,
    *,
    trusted: float,
    notes: list[str],
    lossless: bool,
) -> list[str]:
    """Return what a careful reader must know about this answer, the gravest first.

    trusted: share of pixels in the mask. notes: earlier warnings. lossless: of the upscaler.
    """
    settings = applicable.subset.pipeline.fidelity
    why_not = applicable.why_not
    warnings = [] if why_not is None else [f"{why_not}: the mask promises nothing about it."]
    warnings += notes
    if of_mask := _of_mask(applicable, alpha, trusted):
        warnings.append(of_mask)
    if settings.unit == "spot" and min(applicable.shape) < settings.spot:
        warnings.append(
            f"The output is smaller than a spot of {settings.spot} pixels: it is read as a part of "
            "one, so the promise is approximate."
        )
    if not lossless:
        warnings.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return warnings


def _of_mask(applicable: ApplicableCalibration, alpha: float, trusted: float) -> str:
    """Why a mask is all black or all white; empty: nothing of that kind is the case."""
    subset = applicable.subset
    if alpha < subset.curve.min_alpha:
        return _infeasible(applicable, alpha)
    if alpha >= subset.bound:
        return (
            f"alpha={alpha:g} is not below the largest possible loss B = {subset.bound:g}: "
            "the promise says nothing, and all is marked as trusted that is not stranger than "
            "anything seen in calibration."
        )
    if alpha > subset.max_alpha:
        return (
            f"alpha={alpha:g} is above {subset.max_alpha:.3g}, from which on the mask does "
            "not grow: it is cut where 95 % of what was calibrated is trusted, which may be more "
            "or less of one picture."
        )
    if trusted == 0:
        return (
            f"No pixel is trusted: everywhere in this image the score σ lies above the threshold "
            f"of alpha={alpha:g}. A larger alpha would trust more: fix it before the next image."
        )
    return ""


def _infeasible(applicable: ApplicableCalibration, alpha: float) -> str:
    """Why nothing can be trusted at this α, and how many pairs it needs."""
    subset = applicable.subset
    promise = subset.guarantee
    if isinstance(promise, PostHoc):
        return f"Nothing can be trusted: {subset.shortfall(alpha)}."
    least = f"{subset.curve.min_alpha:.4g}"
    limit = f"B/(n+1) = {least}"
    what = "pairs" if subset.pairs == subset.n else "scenes"
    needs = f"{what} are needed"
    if (delta := promise.summary().delta) is not None:
        limit = f"{least}, the least that can be held with probability {1 - delta:g},"
        needs = f"{what} without any error, and in practice several times as many, are needed"
    needed = (
        f"use {rounded_up(subset.curve.min_alpha):g} or more, fixed before the next image, or "
        f"calibrate again: at least {subset.minimal_n(alpha)} {needs}"
        if alpha * _MAX_PAIRS >= subset.bound
        else "no number of pairs that can be had would suffice"
    )
    of = "this calibration"
    if applicable.group is not None:
        of = f"the group {applicable.group!r} of {of}"
    if applicable.covered_class is not None:
        of = f"the class {applicable.covered_class!r} of {of}"
    return (
        f"alpha={alpha:g} is below {limit} of {of} with n = {subset.n} {what}, so nothing can "
        f"be trusted; {needed}."
    )
