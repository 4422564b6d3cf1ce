"""The guarantee in words and numbers, and the warnings: what a careful reader must know."""

from __future__ import annotations

from typing import Final

from app.calibration.guarantee import PostHoc, Probability, rounded_up
from app.calibration.manifest import REMOVED
from app.conformal.fidelity import clips
from app.conformal.risk import lab_psnr_lower_bound_db
from app.images.compression import class_in_words
from app.images.degrade import Mixture
from app.serving.answer import Guarantee
from app.serving.subject import Subject
from app.serving.words import outside, sentence, statement, within

_MOST_PAIRS: Final = 10**9
"""More pairs than anybody has; beyond it their exact number says nothing."""


def guarantee(subject: Subject, alpha: float) -> Guarantee:
    """The promise for a mask of this α on an output of this size."""
    calibration = subject.part
    settings = calibration.pipeline.fidelity
    counts_errors = not isinstance(calibration.guarantee, Probability)
    return Guarantee(
        **calibration.guarantee.facts(),
        metric=settings.metric,
        labels=settings.labels if settings.row.unit == "label" else None,
        error=settings.row.words,
        unit=settings.row.unit,
        alpha=alpha,
        bound=calibration.bound,
        counted_up_to=calibration.bound if counts_errors and clips(settings) else None,
        n=calibration.n,
        pairs=calibration.pairs,
        calibrated_on=calibration.made_of,
        sentence=sentence(subject, alpha),
        statement=statement(subject, alpha),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha)
            # A bound on windows does not bound the root mean square error of all of them.
            if counts_errors
            and settings.row.bounds_psnr
            and not clips(settings)
            and subject.applicability in {"exact", "whole"}
            else None
        ),
        applicability=subject.applicability,
        share_of_windows=alpha
        if subject.applicability == "per_window" and not counts_errors
        else None,
        voids=_voids(subject),
    )


def _voids(subject: Subject) -> list[str]:
    calibration = subject.part
    degradation = calibration.manifest.degradation
    result = "upscaled" if calibration.pipeline.scale > 1 else "restored"
    is_of_class = subject.input_class is not None and subject.is_covered
    parts = []
    # The class says which part of a mixture is meant; of anything else it says only the file.
    if degradation is not None and not (is_of_class and isinstance(degradation, Mixture)):
        parts.append(f"made by {degradation.describe(calibration.pipeline.scale)}")
    if subject.input_class is not None and subject.is_covered:
        parts.append(f"uploads {class_in_words(subject.input_class)}")
    made = f" ({'; '.join(parts)})" if parts else ""
    found = [
        f"an image from elsewhere, of another subject, camera or processing than the pairs{made}",
        *(
            []
            if isinstance(calibration.guarantee, PostHoc)
            else ["choosing alpha after looking at this image or its mask"]
        ),
        (
            "keeping one of several results of an image after looking at them, be they of another "
            "seed, group, upscaler or calibration"
        ),
        "enlarging the mask (filling holes, dilating, interpolating); shrinking it is allowed",
        f"editing the {result} image, or using another upscaler's image with this mask",
        "reading it as a promise about this one image: it is about the average over images",
        (
            "pairs that show one scene (crops, frames, slices) and are not named as one, or scenes "
            "that brought more pairs because somebody found them interesting"
        ),
    ]
    if calibration.guarantee.facts()["delta"] is not None:
        found.append("scenes that are no independent draws from one distribution")
    removed = sum(
        str(item.get("reason", "")).startswith(REMOVED) for item in calibration.manifest.skipped
    )
    if removed:
        found.append(
            f"pairs that were taken out because of their errors ({removed} were taken out by hand)"
        )
    if subject.applicability == "per_window":
        found.append(
            "an upscaler that treats a part of a larger image otherwise than an image of its own, "
            "or choosing the window after looking"
        )
    has_class = subject.input_class is not None and subject.is_covered
    if (has_class or subject.group is not None) and calibration.pairs > calibration.n:
        found.append(
            "images that come rather from scenes with many of this group or class: each scene "
            "counts once there, with the mean of its images"
        )
    if subject.group is not None:
        found.append(
            "choosing the group after looking at the answer: it must follow from the input, in the "
            "way in which the pairs were grouped"
        )
    if subject.input_class is not None:
        found.append(
            "saving the upload anew after looking at the answer, so that it falls into another "
            "class"
        )
    return [*found, *calibration.pipeline.fidelity.row.voids]


def warnings_of(
    subject: Subject,
    alpha: float,
    *,
    trusted: float,
    typicality: float,
    notes: list[str],
    lossless: bool,
) -> list[str]:
    """Everything about this answer that a careful reader must know, the gravest first.

    `trusted` is the share of pixels in the mask, `notes` what is known already, `lossless` whether
    the upscaler delivers images without loss.
    """
    calibration = subject.part
    found = [] if subject.is_covered else [_uncovered(subject)]
    found += notes
    found += _of_mask(subject, alpha, trusted)
    if not subject.is_of_known_size:
        found.append(
            f"The output is {outside(calibration)}; whether the guarantee applies is not known. "
            f"{within(subject)}, or calibrate with pictures of this size."
        )
    if typicality <= calibration.unusual:
        found.append(
            f"This image is unlike the calibration images (typicality {typicality:.3g}): in "
            "detail, noise, contrast, light, colour or σ, so the guarantee may not speak about it."
        )
    if not lossless:
        found.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return found


def _uncovered(subject: Subject) -> str:
    """That there were no calibration images with such an input."""
    if subject.input_class is None:
        return (
            "This upload was compressed with loss, and the inputs of the calibration were not, or "
            "not as strongly: the mask promises nothing about it, and its errors are probably "
            "larger than alpha says. Calibrate with inputs like it."
        )
    words = class_in_words(subject.input_class)
    return (
        f"The calibration has too few images like this upload ({words}; class "
        f"{subject.input_class!r}). The mask promises nothing about it, and its errors may be "
        "larger than alpha says. Calibrate with inputs like it."
    )


def _of_mask(subject: Subject, alpha: float, trusted: float) -> list[str]:
    """Why a mask is all black or all white."""
    calibration = subject.part
    if alpha < calibration.curve.min_alpha:
        return [_infeasible(subject, alpha)]
    words = ""
    if alpha >= calibration.bound:
        words = (
            f"alpha={alpha:g} is not below the largest possible loss B = {calibration.bound:g}: "
            "the promise says nothing, and all is marked as trusted that is not stranger than "
            "anything seen in calibration."
        )
    elif trusted == 0:
        words = (
            f"No pixel is trusted: everywhere in this image the score σ lies above the threshold "
            f"of alpha={alpha:g}. A larger alpha would trust more: fix it before the next image."
        )
    elif trusted == 1:
        words = (
            f"Every pixel is trusted: nowhere do the samples disagree more than alpha={alpha:g} "
            "allows. That is no claim that the image is right: errors are at most alpha on average "
            "over images, and larger in some."
        )
    return [words] if words else []


def _infeasible(subject: Subject, alpha: float) -> str:
    """Why nothing can be trusted at this α, and the number of pairs that it needs."""
    calibration = subject.part
    promise = calibration.guarantee
    if isinstance(promise, PostHoc):
        short = promise.shortfall(alpha, calibration.error_bound, calibration.n)
        return f"Nothing can be trusted: {short}."
    least = f"{calibration.curve.min_alpha:.4g}"
    limit = f"B/(n+1) = {least}"
    what = "pairs" if calibration.pairs == calibration.n else "scenes"
    needs = f"{what} are needed"
    if (delta := promise.facts()["delta"]) is not None:
        limit = f"{least}, the least that can be held with probability {1 - delta:g},"
        needs = f"{what} without any error, and in practice several times as many, are needed"
    needed = (
        f"use {rounded_up(calibration.curve.min_alpha):g} or more, fixed before the next image, or "
        f"calibrate again: at least {calibration.minimal_n(alpha)} {needs}"
        if alpha * _MOST_PAIRS >= calibration.bound
        else "no number of pairs that can be had would suffice"
    )
    of = "this calibration"
    if subject.group is not None:
        of = f"the group {subject.group!r} of {of}"
    if subject.input_class is not None and subject.is_covered:
        third = "" if subject.third is None else f"the {subject.third} third of "
        of = f"{third}the class {subject.input_class!r} of {of}"
    return (
        f"alpha={alpha:g} is below {limit} of {of} with n = {calibration.n} {what}, so nothing can "
        f"be trusted; {needed}."
    )
