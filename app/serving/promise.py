"""What an answer is about, what is promised of it in words and numbers, and the warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

from trustscale_server.calibration.guarantee import (
    AT_HAND,
    Applicability,
    ErrorQuantile,
    PostHoc,
    Probability,
    rounded_up,
)
from trustscale_server.calibration.manifest import REMOVED
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal.curve import lab_psnr_lower_bound_db
from trustscale_server.conformal.fidelity import FidelitySettings, clips
from trustscale_server.images.degrade import Mixture
from trustscale_server.images.facts import InputFeatures
from trustscale_server.images.kinds import class_in_words
from trustscale_server.serving.answer import Guarantee, InputClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicableCalibration:
    """An upload, and the part of the calibration that applies to it.

    whole: the calibration. part: those of its pairs whose curve is used.
    size: (height, width) of the output.
    input_class: of the upload, if the calibration has classes.
    is_covered: whether there were pairs like the upload, as far as classes show.
    """

    whole: Calibration
    part: Calibration
    size: tuple[int, int]
    applicability: Applicability
    group: str | None = None
    input_class: str | None = None
    is_covered: bool = True

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        group: str | None = None,
        facts: InputFeatures | None = None,
        *,
        size: tuple[int, int],
    ) -> Self:
        """An upload of these facts, and an output of this size. Raises BadGroup."""
        whole = calibration.partitions.of_group(group)
        name = None if facts is None else whole.partitions.class_of(facts)
        is_covered = facts is None or whole.partitions.covers(facts)
        own = whole.partitions.of_class(name)
        return cls(
            whole=calibration,
            part=own.partitions.of_size(*size),
            size=size,
            applicability=own.applicability(*size) if is_covered else "unknown",
            group=group,
            input_class=name,
            is_covered=is_covered,
        )

    @property
    def document(self) -> InputClass | None:
        """The class as the answer names it."""
        rule = self.whole.pipeline.input_rule
        if self.input_class is None or rule is None:
            return None
        return InputClass(
            name=self.input_class,
            title=class_in_words(self.input_class),
            rule=rule,
            n=self.part.n if self.is_covered else 0,
        )

    @property
    def scenes(self) -> str:
        """How many there were of what, such as "40 calibration scenes (120 images) of the …"."""
        n, pairs = self.part.n, self.part.pairs
        words = f"{n} calibration images"
        if pairs > n:
            words = f"{n} calibration scenes ({pairs} images, each scene counting once)"
        if self.group is not None:
            words += f" of the group {self.group!r}"
        if self.input_class is not None and self.is_covered:
            words += f" whose input was of the class {self.input_class!r}"
            words += f" ({class_in_words(self.input_class)})"
        return words


_MOST_PAIRS: Final = 10**9  # more than anybody has


def guarantee(subject: ApplicableCalibration, alpha: float) -> Guarantee:
    """The promise for a mask of this α on an output of this size."""
    calibration = subject.part
    settings = calibration.pipeline.fidelity
    counts_errors = not isinstance(calibration.guarantee, Probability)
    usual = calibration.usual(alpha)
    return Guarantee(
        **calibration.guarantee.facts(),
        metric=settings.metric,
        error=settings.row.summary,
        unit=settings.row.unit,
        alpha=alpha,
        bound=calibration.bound,
        loss_clipped_at=calibration.bound if counts_errors and clips(settings) else None,
        n=calibration.n,
        pairs=calibration.pairs,
        calibrated_on=calibration.report.made_of,
        plain=plain(subject, alpha, usual),
        theorem=theorem(subject, alpha, usual),
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
        void_if=_void_if(subject),
    )


def _void_if(subject: ApplicableCalibration) -> list[str]:
    calibration = subject.part
    degradation = calibration.manifest.degradation
    result = "upscaled" if calibration.pipeline.scale > 1 else "restored"
    has_class = subject.input_class is not None and subject.is_covered
    origins = []
    # The class names the part of a mixture; otherwise it is only about the file.
    if degradation is not None and not (has_class and isinstance(degradation, Mixture)):
        origins.append(f"made by {degradation.describe(calibration.pipeline.scale)}")
    if subject.input_class is not None and subject.is_covered:
        origins.append(f"uploads {class_in_words(subject.input_class)}")
    made = f" ({'; '.join(origins)})" if origins else ""
    reasons = [str(item.get("reason", "")) for item in calibration.manifest.skipped]
    removed = sum(reason.startswith(REMOVED) for reason in reasons)
    is_part = has_class or subject.group is not None
    conditions = {
        f"an image from elsewhere, of another subject, camera or processing than the pairs{made}": (
            True
        ),
        "choosing alpha after looking at this image or its mask": (
            not isinstance(calibration.guarantee, PostHoc)
        ),
        "keeping one of several results of an image after looking at them, be they of another "
        "seed, group, upscaler or calibration": True,
        "enlarging the mask (filling holes, dilating, interpolating); shrinking it is allowed": (
            True
        ),
        f"editing the {result} image, or using another upscaler's image with this mask": True,
        "reading it as a promise about this one image: it is about the average over images": True,
        "pairs that show one scene (crops, frames, slices) and are not named as one, or scenes "
        "that brought more pairs because somebody found them interesting": True,
        "scenes that are no independent draws from one distribution": (
            calibration.guarantee.facts()["delta"] is not None
        ),
        f"pairs that were taken out because of their errors ({removed} were taken out by hand)": (
            removed > 0
        ),
        "an upscaler that treats a part of a larger image otherwise than an image of its own, or "
        "choosing the window after looking": subject.applicability == "per_window",
        "images that come rather from scenes with many of this group or class: each scene counts "
        "once there, with the mean of its images": is_part and calibration.pairs > calibration.n,
        "choosing the group after looking at the answer: it must follow from the input, in the way "
        "in which the pairs were grouped": subject.group is not None,
        "saving the upload anew after looking at the answer, so that it falls into another class": (
            subject.input_class is not None
        ),
    }
    void_if = [words for words, applies in conditions.items() if applies]
    return [*void_if, *calibration.pipeline.fidelity.row.void_if]


def warnings_of(
    subject: ApplicableCalibration,
    alpha: float,
    *,
    trusted: float,
    typicality: float,
    notes: list[str],
    lossless: bool,
) -> list[str]:
    """Everything about this answer that a careful reader must know, the gravest first.

    trusted: share of pixels in the mask. notes: earlier warnings. lossless: of the upscaler.
    """
    calibration = subject.part
    warnings = [] if subject.is_covered else [_uncovered(subject)]
    warnings += notes
    warnings += _of_mask(subject, alpha, trusted)
    if calibration.applicability(*subject.size) == "unknown":
        warnings.append(
            f"The output is {_outside(calibration)}; whether the guarantee applies is not known. "
            f"{_within(subject)}, or calibrate with pictures of this size."
        )
    if typicality <= calibration.report.out_of_distribution:
        warnings.append(
            f"This image is unlike the calibration images (typicality {typicality:.3g}): in "
            "detail, noise, contrast, light, colour or σ, so the guarantee may not speak about it."
        )
    if not lossless:
        warnings.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return warnings


def _uncovered(subject: ApplicableCalibration) -> str:
    """That too few calibration images had such an input."""
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


def _of_mask(subject: ApplicableCalibration, alpha: float, trusted: float) -> list[str]:
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


def _infeasible(subject: ApplicableCalibration, alpha: float) -> str:
    """Why nothing can be trusted at this α, and how many pairs it needs."""
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
        of = f"the class {subject.input_class!r} of {of}"
    return (
        f"alpha={alpha:g} is below {limit} of {of} with n = {calibration.n} {what}, so nothing can "
        f"be trusted; {needed}."
    )


_MOST_SIZES: Final = 3
_MOST_COUNTED: Final = 1000  # pictures up to which a share is said as so many of them


def plain(subject: ApplicableCalibration, alpha: float, usual: ErrorQuantile | None) -> str:
    """The promise about a mask of α for people who are no statisticians."""
    part = subject.part
    if subject.applicability == "unknown":
        return f"No promise: {_unknown(subject)}."
    if (short := part.guarantee.shortfall(alpha, part.error_bound, part.n)) is not None:
        return f"Nothing is trusted: {short}."
    such = "such pictures"
    if subject.applicability == "per_window":
        such = f"windows of {_listed(part.sizes.all)} pixels of such pictures"
    settings = part.pipeline.fidelity
    likely = part.guarantee.facts()["delta"]
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    if settings.row.unit == "label":
        most = part.guarantee.alphas[-1] if isinstance(part.guarantee, PostHoc) else alpha
        return f"{_share_of(such, most)} {settings.row.right}{tail}."
    if usual is not None and usual.error < part.error_bound:
        error = _error(usual, settings)
        free = ", though α is chosen after looking" if isinstance(part.guarantee, PostHoc) else ""
        share = _share_of(such, usual.share)
        return f"{share} nothing in the trusted part is off by more {error}{free}{tail}."
    error = _error(ErrorQuantile(alpha, 1), settings)
    return f"On average over {such} the largest error in the trusted part is no more {error}{tail}."


def _share_of(such: str, share: float) -> str:
    """All but this share of such pictures, such as "In 9 of 10 such pictures"."""
    whole = round(1 / share) if share > 0 else 0
    if 1 < whole <= _MOST_COUNTED and math.isclose(whole * share, 1, rel_tol=1e-9):
        return f"In {whole - 1} of {whole} {such}"
    return f"In {math.floor(1000 * (1 - share)) / 10:g} % of {such}"


def _error(usual: ErrorQuantile, settings: FidelitySettings) -> str:
    """An error in steps of lightness or colour."""
    if usual.error <= 0:
        return "than nothing"
    error = rounded_up(usual.error)
    if settings.row.unit == "ssim":
        return f"than {error:g} in structure, where 0 is the same and 1 the opposite"
    pixels = max(1, round(2.355 * settings.blur))
    mean = f", as a mean over about {pixels} pixels" if settings.row.blurs else ""
    return (
        f"than {error:g}: {100 * error:.2g} of the 100 steps of lightness, or {254 * error:.2g} of "
        f"the 254 of a colour axis{mean}"
    )


def theorem(subject: ApplicableCalibration, alpha: float, usual: ErrorQuantile | None) -> str:
    """The theorem about a mask of α, and what it does not cover."""
    group = subject.group
    of_group = [] if group is None else [f"It speaks about images of the group {group!r} only."]
    if subject.applicability == "unknown":
        theorem = " ".join([_theorem(subject, alpha, "in the mask"), *of_group])
        return f"No promise: {_unknown(subject)}. What follows holds for others. {theorem}"
    is_window = subject.applicability == "per_window"
    window = f"part of the mask inside a window of {_listed(subject.part.sizes.all)} pixels"
    sentences = [_theorem(subject, alpha, f"in the {window if is_window else 'mask'}")]
    if alpha < subject.part.curve.min_alpha:
        usual = None
    match subject.part.guarantee:
        case Probability() as promise:
            sentences += _at_hand(subject, promise, alpha)
        case PostHoc() as promise if usual is not None and usual.error > 0:
            ratio = usual.error / min(alpha, promise.alphas[-1])
            sentences.append(
                f"It exceeds {rounded_up(ratio):g}·α for some of these α with a probability of at "
                f"most {usual.share:g} over the same draw. Masks of smaller α are empty; those of "
                "larger ones are that of the largest."
            )
        case _ if usual is not None and 0 < usual.error < subject.part.error_bound:
            sentences.append(
                f"It exceeds {rounded_up(usual.error):g} with a probability of at most "
                f"{usual.share:g} over the same draw."
            )
    if is_window:
        sentences.append(_of_windows(subject))
    elif subject.applicability == "whole":
        sentences.append(
            "It speaks about all of the image: these are the scenes of the calibration that are at "
            "least as large, each counted with the largest error of its whole picture."
        )
    return " ".join([*sentences, *of_group])


def _theorem(subject: ApplicableCalibration, alpha: float, where: str) -> str:
    """What is bounded, over which draw, and by what."""
    part = subject.part
    settings = part.pipeline.fidelity
    new = "this image" if part.pairs == part.n else "this image, of a new scene"
    largest = f"the largest {settings.clause} {where}"
    promise = part.guarantee
    if isinstance(promise, Probability):
        bound = f"exceeds {promise.tolerance:g} with a probability of at most {alpha:g}"
    else:
        cut = f"{part.error_bound:g}"
        counted = f" (where errors above {cut} count as {cut})" if clips(settings) else ""
        largest, bound = f"the expected value of {largest}{counted}", f"is at most {alpha:g}"
    if isinstance(promise, PostHoc):
        largest = largest.replace("value of", "ratio of", 1)
        choice = f"between {promise.alphas[0]:g} and {promise.alphas[-1]:g}"
        if promise.menu is not None:
            choice = f"of {', '.join(f'{alpha:g}' for alpha in promise.menu)}"
        bound = (
            f"to an α {choice}, chosen after looking at the image, its masks or anything else, is "
            "at most 1"
        )
    delta = promise.facts()["delta"]
    if delta is None:
        return (
            f"Over the draw of the {subject.scenes} and of {new}, {largest} {bound}, if the image "
            "is exchangeable with them."
        )
    return (
        f"With probability at least {1 - delta:g} over the draw of the {subject.scenes}, {largest} "
        f"of a new image {bound}, if it and they are drawn independently from one distribution."
    )


def _at_hand(subject: ApplicableCalibration, promise: Probability, alpha: float) -> list[str]:
    """What holds for these very scenes of the calibration, if known."""
    part = subject.part
    if promise.delta is not None or part.pairs > part.n or alpha < part.curve.min_alpha:
        return []
    known = f"at most {rounded_up(promise.at_hand(alpha, part.n)):g}"
    draws = f"with a confidence of {AT_HAND:.0%} (Clopper-Pearson) if they are independent draws"
    return [f"With these very {part.n} the probability is {known}, {draws}."]


def _of_windows(subject: ApplicableCalibration) -> str:
    """What follows for an output that is larger than the calibrated windows."""
    mean = "the mean over its windows of their largest errors has this bound"
    if isinstance(subject.part.guarantee, Probability):
        mean = "the expected share of its windows with a larger error has this bound"
    return (
        "It speaks about a window that is placed at random, and approximately, since the upscaler "
        "and the samples' disagreement see beyond its edges, and the class or the fit of a window "
        f"may differ from that of its picture; so {mean}. The largest error of all of the image "
        "is larger."
    )


def _unknown(subject: ApplicableCalibration) -> str:
    """Why no promise is known to hold."""
    if not subject.is_covered:
        return "too few calibration images had an input like this upload"
    return f"this output is {_outside(subject.part)}"


def _outside(part: Calibration) -> str:
    """How an uncalibrated size differs."""
    return f"of another size than the calibration images ({_listed(part.sizes.all)} pixels)"


def _within(subject: ApplicableCalibration) -> str:
    """What to send instead of a picture of an uncalibrated size."""
    sizes, scale = subject.part.sizes.all, subject.part.pipeline.scale
    least = (min(w for w, _ in sizes), min(h for _, h in sizes))
    width, height = (-(-side // scale) for side in least)
    if subject.size[1] < least[0] or subject.size[0] < least[1]:
        return (
            f"The smallest output that it speaks about is {least[0]}×{least[1]}: send a picture of "
            f"at least {width}×{height} pixels"
        )
    return f"Reduce it before, with fit={max(max(size) for size in sizes) // scale}"


def _listed(sizes: list[tuple[int, int]]) -> str:
    """Sizes (width, height) that were measured, the most frequent first."""
    words = [f"{width}×{height}" for width, height in sizes[:_MOST_SIZES]]
    if more := len(sizes) - len(words):
        words.append(f"{more} other sizes")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
