"""What an answer is about, what is promised of it in words and numbers, and the warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

from trustscale_server.calibration.guarantee import (
    REMOVED,
    ErrorQuantile,
    GuaranteeSettings,
    PostHoc,
    Probability,
    rounded_up,
)
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal.curve import lab_psnr_lower_bound_db
from trustscale_server.conformal.fidelity import FidelitySettings, clips
from trustscale_server.conformal.words import ANY
from trustscale_server.images.degrade import Mixture
from trustscale_server.images.description import InputFeatures, class_in_words
from trustscale_server.serving.answer import Guarantee, InputClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicableCalibration:
    """An upload, and the part of the calibration that applies to it.

    whole: the calibration. partition: those of its pairs whose curve is used.
    size: (height, width) of the output.
    input_class: of the upload, if the calibration has classes.
    is_covered: whether there were pairs like the upload, as far as classes show.
    """

    whole: Calibration
    partition: Calibration
    size: tuple[int, int]
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
        """Find the part for an upload of these facts and an output of this size.

        Raises BadGroup.
        """
        whole = calibration.partitions.of_group(group)
        name = None if facts is None else whole.partitions.class_of(facts)
        is_covered = facts is None or whole.partitions.covers(facts)
        return cls(
            whole=calibration,
            partition=whole.partitions.of_class(name),
            size=size,
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
            n=self.partition.n if self.is_covered else 0,
        )

    def why_not(self, typicality: float) -> str | None:
        """Explain why nothing is promised of this upload; None if something is."""
        if self.input_class is not None and not self.is_covered:
            return (
                "The calibration has too few uploads like this one "
                f"({class_in_words(self.input_class)}; class {self.input_class!r}); calibrate with "
                "inputs like it"
            )
        if typicality <= self.partition.report.out_of_distribution:
            return (
                f"At most 1 in {math.floor(1 / typicality + 1e-9)} pictures like those that were "
                "calibrated look as strange as this upload, in detail, noise, colours or what was "
                "done to it before"
            )
        return None

    @property
    def scenes(self) -> str:
        """Say how many scenes there were, such as "40 calibration scenes (120 images) of the …"."""
        n, pairs = self.partition.n, self.partition.pairs
        words = f"{n} calibration images"
        if pairs > n:
            how = "each scene counting once"
            if self.partition.manifest.shares:
                how = "each counting by how frequent its way is among uploads, a scene once at most"
            words = f"{n} calibration scenes ({pairs} images, {how})"
        if self.group is not None:
            words += f" of the group {self.group!r}"
        if self.input_class is not None and self.is_covered:
            words += f" whose input was of the class {self.input_class!r}"
            words += f" ({class_in_words(self.input_class)})"
        return words


_MOST_PAIRS: Final = 10**9  # more than anybody has


def guarantee(subject: ApplicableCalibration, alpha: float, typicality: float = 1.0) -> Guarantee:
    """Return the promise for a mask of this α on an output of this size."""
    calibration = subject.partition
    why_not = subject.why_not(typicality)
    settings = calibration.pipeline.fidelity
    counts_errors = not isinstance(calibration.guarantee, Probability)
    usual = calibration.usual(alpha)
    return Guarantee(
        **calibration.guarantee.facts(),
        metric=settings.metric,
        error=settings.row.summary,
        error_unit=settings.row.error_unit,
        alpha=alpha,
        bound=calibration.bound,
        loss_clipped_at=calibration.bound if counts_errors and clips(settings) else None,
        n=calibration.n,
        pairs=calibration.pairs,
        calibrated_on=calibration.report.made_of,
        plain=plain(subject, alpha, usual) if why_not is None else f"No promise. {why_not}.",
        theorem=theorem(subject, alpha, usual, why_not),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha)
            # A bound on spots does not bound the root mean square error of all of them.
            if counts_errors
            and settings.row.bounds_psnr
            and not clips(settings)
            and settings.unit == "picture"
            else None
        ),
        promised=why_not is None and calibration.shortfall(alpha) is None,
        unit=settings.unit,
        spot=settings.spot,
        max_alpha=calibration.max_alpha,
        void_if=_void_if(subject),
    )


def _void_if(subject: ApplicableCalibration) -> list[str]:
    calibration = subject.partition
    degradation = calibration.manifest.degradation
    result = "upscaled" if calibration.pipeline.scale > 1 else "restored"
    has_class = subject.input_class is not None and subject.is_covered
    origins = []
    # The class names the part of a mixture; otherwise it is only about the file.
    if degradation is not None and not (has_class and isinstance(degradation, Mixture)):
        origins.append(f"made by {degradation.describe(calibration.pipeline.scale)}")
    if subject.input_class is not None and subject.is_covered:
        origins.append(f"uploads {class_in_words(subject.input_class)}")
    ways = f" ({'; '.join(origins)})" if origins else ""
    unit = calibration.pipeline.fidelity.unit
    average = "many images" if unit == "words" else "spots of many images"
    reasons = [str(item.get("reason", "")) for item in calibration.manifest.skipped]
    removed = sum(reason.startswith(REMOVED) for reason in reasons)
    conditions = {
        f"an image from elsewhere, of another subject, camera or processing than the pairs{ways}": (
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
        f"reading it as a promise about this one image: it is about the average over {average}": (
            True
        ),
        "pairs that show one scene (crops, frames, slices) and are not named as one, or scenes "
        "that brought more pairs because somebody found them interesting": True,
        "scenes that are no independent draws from one distribution": (
            calibration.guarantee.facts()["delta"] is not None
        ),
        f"pairs that were taken out because of their errors ({removed} were taken out by hand)": (
            removed > 0
        ),
        "choosing a spot after looking, or an upscaler that treats a part of a larger image "
        "otherwise than an image of its own": unit == "spot",
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
    """Return what a careful reader must know about this answer, the gravest first.

    trusted: share of pixels in the mask. notes: earlier warnings. lossless: of the upscaler.
    """
    settings = subject.partition.pipeline.fidelity
    why_not = subject.why_not(typicality)
    warnings = [] if why_not is None else [f"{why_not}: the mask promises nothing about it."]
    warnings += notes
    warnings += _of_mask(subject, alpha, trusted)
    if settings.unit == "spot" and min(subject.size) < settings.spot:
        warnings.append(
            f"The output is smaller than a spot of {settings.spot} pixels: it is read as a part of "
            "one, so the promise is approximate."
        )
    if not lossless:
        warnings.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return warnings


def _of_mask(subject: ApplicableCalibration, alpha: float, trusted: float) -> list[str]:
    """Why a mask is all black or all white."""
    calibration = subject.partition
    if alpha < calibration.curve.min_alpha:
        return [_infeasible(subject, alpha)]
    words = ""
    if alpha >= calibration.bound:
        words = (
            f"alpha={alpha:g} is not below the largest possible loss B = {calibration.bound:g}: "
            "the promise says nothing, and all is marked as trusted that is not stranger than "
            "anything seen in calibration."
        )
    elif alpha > calibration.max_alpha:
        words = (
            f"alpha={alpha:g} is above {calibration.max_alpha:.3g}, from which on the mask does "
            "not grow: no mask trusts more than 95 % of what was calibrated."
        )
    elif trusted == 0:
        words = (
            f"No pixel is trusted: everywhere in this image the score σ lies above the threshold "
            f"of alpha={alpha:g}. A larger alpha would trust more: fix it before the next image."
        )
    return [words] if words else []


def _infeasible(subject: ApplicableCalibration, alpha: float) -> str:
    """Why nothing can be trusted at this α, and how many pairs it needs."""
    calibration = subject.partition
    promise = calibration.guarantee
    if isinstance(promise, PostHoc):
        short = calibration.shortfall(alpha)
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


_MOST_COUNTED: Final = 1000  # pictures up to which a share is said as so many of them


def plain(subject: ApplicableCalibration, alpha: float, usual: ErrorQuantile | None) -> str:
    """State the promise about a mask of α for people who are no statisticians."""
    partition = subject.partition
    if (short := partition.shortfall(alpha)) is not None:
        return f"Nothing is trusted: {short}."
    settings = partition.pipeline.fidelity
    if settings.unit == "words":
        return _of_words(partition.guarantee, alpha)
    such = "such pictures"
    if settings.unit == "spot":
        such = f"spots of {settings.spot}×{settings.spot} pixels of such pictures"
    likely = partition.guarantee.facts()["delta"]
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    if settings.row.error_unit == "label":
        most = partition.guarantee.alphas[-1] if isinstance(partition.guarantee, PostHoc) else alpha
        return f"{_share_of(such, most)} {settings.row.right}{tail}."
    free = ", though α is chosen after looking" if isinstance(partition.guarantee, PostHoc) else ""
    if usual is not None and usual.error < partition.error_bound:
        return f"{_share_of(such, usual.share)} {_right_within(usual.error, settings)}{free}{tail}."
    return f"On average over {such} {_right_within(alpha, settings)}{tail}."


def _of_words(promise: GuaranteeSettings, alpha: float) -> str:
    """The promise about the words in a mask of α."""
    likely = promise.facts()["delta"]
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    reads = f"as a text reader, not a person, reads them{tail}."
    match promise:
        case Probability(tolerance=most) if most == ANY:
            return f"{_share_of('such pictures', alpha)} no word called right is wrong, {reads}"
        case Probability(tolerance=most):
            return (
                f"{_share_of('such pictures', alpha)} at most {100 * most:g} % of the words called "
                f"right are wrong, {reads}"
            )
        case PostHoc(alphas=alphas):
            alpha, free = min(alpha, alphas[-1]), ", though α is chosen after looking"
        case _:
            free = ""
    return (
        f"Of the words called right at most {100 * alpha:.3g} % are wrong, on average over such "
        f"pictures{free}, {reads}"
    )


def _share_of(such: str, share: float) -> str:
    """All but this share of such pictures, such as "In 9 of 10 such pictures"."""
    whole = round(1 / share) if share > 0 else 0
    if 1 < whole <= _MOST_COUNTED and math.isclose(whole * share, 1, rel_tol=1e-9):
        return f"In {whole - 1} of {whole} {such}"
    return f"In {math.floor(1000 * (1 - share)) / 10:g} % of {such}"


def _right_within(error: float, settings: FidelitySettings) -> str:
    """That the trusted part is right within an error, in steps that people can picture."""
    error = rounded_up(error) if error > 0 else 0.0
    match settings.row.error_unit:
        case "ssim":
            return (
                f"structures around every trusted point differ by no more than {error:g}, where 0 "
                "is the same and 1 the opposite"
            )
        case "stretch":
            what, steps = "the values", f"{100 * error:.2g} % of the stretch"
        case _:
            what, steps = "the colours", f"{100 * error:.2g} of the 100 steps of lightness"
    pixels = max(1, round(2.355 * settings.blur))
    around = (
        f" around every trusted point, averaged about {pixels} pixels across,"
        if settings.row.blurs
        else (" at every trusted point")
    )
    fine = "; fine detail may still be invented" if settings.row.blurs else ""
    return f"{what}{around} are right within {steps}{fine}"


def theorem(
    subject: ApplicableCalibration,
    alpha: float,
    usual: ErrorQuantile | None,
    why_not: str | None = None,
) -> str:
    """State the theorem about a mask of α, and what it does not cover."""
    group, settings = subject.group, subject.partition.pipeline.fidelity
    of_group = [] if group is None else [f"It speaks about images of the group {group!r} only."]
    where = "in the mask"
    if settings.unit == "spot":
        where = (
            f"in the part of the mask inside a random spot of it, {settings.spot} pixels wide and "
            "high,"
        )
    sentences = [_theorem(subject, alpha, where)]
    if why_not is not None:
        others = "No promise. What follows holds for other uploads."
        return " ".join([others, *sentences, *of_group])
    if alpha < subject.partition.curve.min_alpha:
        usual = None
    match subject.partition.guarantee:
        case PostHoc() as promise if usual is not None and usual.error > 0:
            ratio = usual.error / min(alpha, promise.alphas[-1])
            sentences.append(
                f"It exceeds {rounded_up(ratio):g}·α for some of these α with a probability of at "
                f"most {usual.share:g} over the same draw. Masks of smaller α are empty; those of "
                "larger ones are that of the largest."
            )
        case _ if usual is not None and 0 < usual.error < subject.partition.error_bound:
            sentences.append(
                f"It exceeds {rounded_up(usual.error):g} with a probability of at most "
                f"{usual.share:g} over the same draw."
            )
    if settings.unit == "spot":
        sentences.append("In a picture of many spots the largest error of all of them is larger.")
    return " ".join([*sentences, *of_group])


def _theorem(subject: ApplicableCalibration, alpha: float, where: str) -> str:
    """What is bounded, over which draw, and by what."""
    partition = subject.partition
    settings = partition.pipeline.fidelity
    new = "this image" if partition.pairs == partition.n else "this image, of a new scene"
    # A share of words is of the whole mask.
    is_share = settings.unit == "words"
    largest = f"the {settings.clause}" if is_share else f"the largest {settings.clause} {where}"
    promise = partition.guarantee
    if isinstance(promise, Probability):
        bound = f"exceeds {promise.tolerance:g} with a probability of at most {alpha:g}"
    else:
        cut = f"{partition.error_bound:g}"
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
