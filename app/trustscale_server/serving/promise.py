"""What an answer is about, what is promised of it in words and numbers, and the warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import (
    ErrorQuantile,
    Expectation,
    GuaranteeSettings,
    PostHoc,
    Probability,
    rounded_up,
)
from trustscale_server.calibration.manifest import REMOVED, Manifest
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.fidelity import FidelitySettings, clips
from trustscale_server.conformal.risk_curve import StepCurve, lab_psnr_lower_bound_db
from trustscale_server.conformal.words import ANY
from trustscale_server.images.compression import Compression
from trustscale_server.images.degradation import Mixture
from trustscale_server.images.features import InputFeatures
from trustscale_server.images.kinds import class_in_words
from trustscale_server.serving.batch import BatchCurve
from trustscale_server.serving.caption import about
from trustscale_server.serving.document import Guarantee, InputClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicableCalibration:
    """An upload, and what of the calibration applies to it.

    subset: the pairs whose curve is used.
    size: (height, width) of the output.
    input_class: of the upload, if the calibration has classes.
    is_covered: whether there were pairs like the upload, as far as classes show.
    too_coarse: why its compression is stronger than any that was calibrated; None: it is not.
    batch: what the mask is cut by as well; None: nothing.
    """

    subset: Subset
    size: tuple[int, int]
    group: str | None = None
    input_class: str | None = None
    is_covered: bool = True
    too_coarse: str | None = None
    batch: BatchCurve | None = None

    @property
    def curve(self) -> StepCurve:
        """The curve that the mask is cut by."""
        return self.subset.curve if self.batch is None else self.batch.curve

    @classmethod
    def from_calibration(
        cls,
        calibration: Calibration,
        group: str | None = None,
        features: InputFeatures | None = None,
        *,
        size: tuple[int, int],
        kind: str | None = None,
        robust: float | None = None,
    ) -> Self:
        """Find what applies to an upload of these features and an output of this size.

        kind, robust: as `Calibration.subset`, which also says what is raised.
        """
        of_group = calibration.subset(group, kind, robust)
        name = None if features is None else of_group.class_of(features)
        is_covered = features is None or of_group.covers(features)
        return cls(
            subset=of_group.of_class(name),
            size=size,
            group=group,
            input_class=name,
            is_covered=is_covered,
            too_coarse=None
            if features is None
            else _too_coarse(calibration.manifest, features.compression),
        )

    @property
    def document(self) -> InputClass | None:
        """The class as the answer names it."""
        rule = self.subset.pipeline.input_rule
        if self.input_class is None or rule is None:
            return None
        return InputClass(
            name=self.input_class,
            title=class_in_words(self.input_class),
            rule=rule,
            n=self.subset.n if self.is_covered else 0,
        )

    @property
    def why_not(self) -> str | None:
        """Explain why nothing is promised of this upload; None if something is."""
        if self.input_class is not None and not self.is_covered:
            return (
                "The calibration has too few uploads like this one "
                f"({class_in_words(self.input_class)}; class {self.input_class!r}); calibrate with "
                "inputs like it"
            )
        return self.too_coarse

    @property
    def scenes(self) -> str:
        """Say how many scenes there were, such as "40 calibration scenes (120 images) of the …"."""
        n, pairs = self.subset.n, self.subset.pairs
        words = f"{n} calibration images"
        if pairs > n:
            how = "each scene counting once"
            if isinstance(self.subset.manifest.degradation, Mixture):
                how = "each counting by how frequent its way is among uploads, a scene once at most"
            scenes = len(self.subset.members)
            weigh = f"{scenes} calibration scenes" + (f" that weigh as {n}" if scenes > n else "")
            words = f"{weigh} ({pairs} images, {how})"
        if self.group is not None:
            words += f" of the group {self.group!r}"
        if self.input_class is not None and self.is_covered:
            words += f" whose input was of the class {self.input_class!r}"
            words += f" ({class_in_words(self.input_class)})"
        return words


_READ_WITHIN: Final = 3  # a quality that is read from a file, of the one that was asked for


def _too_coarse(manifest: Manifest, compression: Compression) -> str | None:
    made_by, (codec, quality) = manifest.degradation, compression
    lowest = None if made_by is None else made_by.lowest_quality(codec)
    if lowest is None or quality is None or quality >= lowest - _READ_WITHIN:
        return None
    return (
        f"It went through a {_NAMES[codec]} file of a quality of about {quality}, and the lowest "
        f"that was calibrated is {lowest:g}; calibrate with inputs like it"
    )


_NAMES: Final = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "heic": "HEIC"}

_MAX_PAIRS: Final = 10**9  # more than anybody has


def guarantee(applicable: ApplicableCalibration, alpha: float) -> Guarantee:
    """Return the promise for a mask of this α on an output of this size."""
    subset = applicable.subset
    why_not = applicable.why_not
    settings = subset.pipeline.fidelity
    counts_errors = not isinstance(subset.guarantee, Probability)
    usual = subset.usual(alpha)
    promised = why_not is None and subset.shortfall(alpha) is None
    words = plain(applicable, alpha, usual) if why_not is None else f"No promise. {why_not}."
    condition = _condition(applicable)
    return Guarantee(
        **subset.guarantee.summary().model_dump(),
        metric=settings.metric,
        error=settings.spec.summary,
        error_unit=settings.spec.error_unit,
        about=about(settings.spec.error_unit),
        alpha=alpha,
        bound=subset.bound,
        loss_clipped_at=subset.bound if counts_errors and clips(settings) else None,
        n=subset.n,
        pairs=subset.pairs,
        calibrated_on=subset.made_of,
        plain=f"{words} {condition}" if promised and condition else words,
        theorem=theorem(applicable, alpha, usual, why_not),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha)
            # A bound on spots does not bound the root mean square error of all of them.
            if counts_errors
            and settings.spec.bounds_psnr
            and not clips(settings)
            and settings.unit == "picture"
            else None
        ),
        promised=promised,
        unit=settings.unit,
        spot=settings.spot,
        max_alpha=subset.max_alpha,
        condition=condition,
        void_if=_void_if(applicable),
    )


def _condition(applicable: ApplicableCalibration) -> str | None:
    """What the owner of a supplied upscaler states; None: this program made the calls."""
    by = applicable.subset.manifest.provenance.enlarged_by
    return None if by is None else f"This holds if it was enlarged by {by}."


def _void_if(applicable: ApplicableCalibration) -> list[str]:
    subset = applicable.subset
    degradation = subset.manifest.degradation
    result = "upscaled" if subset.pipeline.scale > 1 else "restored"
    has_class = applicable.input_class is not None and applicable.is_covered
    origins = []
    # The class names the part of a mixture; otherwise it is only about the file.
    if degradation is not None and not (has_class and isinstance(degradation, Mixture)):
        origins.append(f"made by {degradation.describe(subset.pipeline.scale)}")
    if applicable.input_class is not None and applicable.is_covered:
        origins.append(f"uploads {class_in_words(applicable.input_class)}")
    ways = f" ({'; '.join(origins)})" if origins else ""
    unit = subset.pipeline.fidelity.unit
    average = "many images" if unit == "words" else "spots of many images"
    reasons = [str(item.get("reason", "")) for item in subset.manifest.skipped]
    removed = sum(reason.startswith(REMOVED) for reason in reasons)
    conditions = {
        f"an image from elsewhere, of another subject, camera or processing than the pairs{ways}; "
        "its subject is not checked": True,
        "choosing alpha after looking at this image or its mask": (
            not isinstance(subset.guarantee, PostHoc)
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
            subset.guarantee.summary().delta is not None
        ),
        f"pairs that were taken out because of their errors ({removed} were taken out by hand)": (
            removed > 0
        ),
        "choosing a spot after looking, or an upscaler that treats a part of a larger image "
        "otherwise than an image of its own": unit == "spot",
        "choosing the group after looking at the answer: it must follow from the input, in the way "
        "in which the pairs were grouped": applicable.group is not None,
        "saving the upload anew after looking at the answer, so that it falls into another class": (
            applicable.input_class is not None
        ),
    }
    void_if = [words for words, applies in conditions.items() if applies]
    return [*void_if, *subset.pipeline.fidelity.spec.void_if]


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
    warnings += _of_mask(applicable, alpha, trusted)
    if settings.unit == "spot" and min(applicable.size) < settings.spot:
        warnings.append(
            f"The output is smaller than a spot of {settings.spot} pixels: it is read as a part of "
            "one, so the promise is approximate."
        )
    if not lossless:
        warnings.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return warnings


def _of_mask(applicable: ApplicableCalibration, alpha: float, trusted: float) -> list[str]:
    """Why a mask is all black or all white."""
    subset = applicable.subset
    if alpha < subset.curve.min_alpha:
        return [_infeasible(applicable, alpha)]
    words = ""
    if alpha >= subset.bound:
        words = (
            f"alpha={alpha:g} is not below the largest possible loss B = {subset.bound:g}: "
            "the promise says nothing, and all is marked as trusted that is not stranger than "
            "anything seen in calibration."
        )
    elif alpha > subset.max_alpha:
        words = (
            f"alpha={alpha:g} is above {subset.max_alpha:.3g}, from which on the mask does "
            "not grow: it is cut where 95 % of what was calibrated is trusted, which may be more "
            "or less of one picture."
        )
    elif trusted == 0:
        words = (
            f"No pixel is trusted: everywhere in this image the score σ lies above the threshold "
            f"of alpha={alpha:g}. A larger alpha would trust more: fix it before the next image."
        )
    return [words] if words else []


def _infeasible(applicable: ApplicableCalibration, alpha: float) -> str:
    """Why nothing can be trusted at this α, and how many pairs it needs."""
    subset = applicable.subset
    promise = subset.guarantee
    if isinstance(promise, PostHoc):
        short = subset.shortfall(alpha)
        return f"Nothing can be trusted: {short}."
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
    if applicable.input_class is not None and applicable.is_covered:
        of = f"the class {applicable.input_class!r} of {of}"
    return (
        f"alpha={alpha:g} is below {limit} of {of} with n = {subset.n} {what}, so nothing can "
        f"be trusted; {needed}."
    )


_MAX_COUNTED: Final = 1000  # pictures up to which a share is said as so many of them


def plain(applicable: ApplicableCalibration, alpha: float, usual: ErrorQuantile | None) -> str:
    """State the promise about a mask of α for people who are no statisticians."""
    subset = applicable.subset
    if (short := subset.shortfall(alpha)) is not None:
        return f"Nothing is trusted: {short}."
    settings = subset.pipeline.fidelity
    if settings.unit == "words":
        return _of_words(subset.guarantee, alpha)
    promise = subset.guarantee
    pictures = _pictures(promise)
    # A further unit needs words.
    such = {"spot": f"spots of {pictures}", "picture": pictures}[settings.unit]
    likely = promise.summary().delta
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    if settings.spec.error_unit == "label":
        share = promise.alphas[-1] if isinstance(promise, PostHoc) else alpha
        return f"{_share_of(such, share)}, {settings.spec.right}{tail}."
    fine = " Fine detail may be invented." if settings.spec.blurs else ""
    if usual is not None and usual.error < subset.error_bound:
        error = rounded_up(usual.error) if usual.error > 0 else 0.0
        if isinstance(promise, Expectation):
            tail = f"; you asked for {_steps(alpha, settings)} on average"
        elif isinstance(promise, PostHoc):
            tail = ", even if this α was chosen after looking"
        right = _right_within(error, "trusted points", settings)
        return f"{_share_of(such, usual.share)}, {right}{tail}.{fine}"
    # An average of errors says nothing more about those that are cut.
    most = _steps(subset.error_bound, settings)
    cut = f" (more than {most} counts as {most})" if clips(settings) else ""
    worst = "the worst trusted point"
    if isinstance(promise, PostHoc):
        return (
            f"On average over {such}, the error of {worst}{cut} is at most once the α that is "
            f"chosen after looking.{fine}"
        )
    return f"On average over {such}, {_right_within(alpha, worst, settings)}{cut}{tail}.{fine}"


_SUCH: Final = "pictures like those measured"
_SHARES: Final = {0.2: "fifth", 0.25: "quarter", 0.333: "third", 0.5: "half"}


def _pictures(promise: GuaranteeSettings) -> str:
    """Of which pictures a promise is."""
    if promise.robust == 1:
        return _SUCH
    share = 1 - 1 / promise.robust
    missing = _SHARES.get(round(share, 3), f"{100 * share:.2g} %")
    return f"{_SUCH}, even without the easiest {missing} of them"


def _right_within(error: float, points: str, settings: FidelitySettings) -> str:
    """That the trusted part is right within an error, in steps that people can picture."""
    unit, steps = settings.spec.error_unit, _steps(error, settings)
    if unit == "ssim":
        return f"structures around {points} are within {steps} (0: the same, 1: the opposite)"
    what, whole = "colours", "100 steps of lightness"
    if unit == "stretch":
        what, whole = "values", "the stretch"
    where = f"mean {what} around" if settings.spec.blurs else f"{what} at"
    return f"{where} {points} are right within {steps} of {whole}"


def _steps(error: float, settings: FidelitySettings) -> str:
    """An error as people can picture it: steps of 100, or a share of the stretch."""
    match settings.spec.error_unit:
        case "ssim":
            return f"{error:g}"
        case "stretch":
            return f"{100 * error:.2g} %"
        case _:
            return f"{100 * error:.2g}"


def _of_words(promise: GuaranteeSettings, alpha: float) -> str:
    """The promise about the words in a mask of α."""
    likely = promise.summary().delta
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    reads = f"as a text reader, not a person, reads them{tail}."
    such = _pictures(promise)
    match promise:
        case Probability(tolerance=most) if most == ANY:
            return f"{_share_of(such, alpha)}, no word called right is wrong, {reads}"
        case Probability(tolerance=most):
            return (
                f"{_share_of(such, alpha)}, at most {100 * most:g} % of the words called "
                f"right are wrong, {reads}"
            )
        case PostHoc(alphas=alphas):
            alpha, free = min(alpha, alphas[-1]), ", even if α was chosen after looking"
        case _:
            free = ""
    return (
        f"Of the words called right at most {100 * alpha:.3g} % are wrong, on average over "
        f"{such}{free}, {reads}"
    )


def _share_of(such: str, share: float) -> str:
    """All but this share of such pictures, such as "In 9 of 10 spots"."""
    whole = round(1 / share) if share > 0 else 0
    if 1 < whole <= _MAX_COUNTED and math.isclose(whole * share, 1, rel_tol=1e-9):
        return f"In {whole - 1} of {whole} {such}"
    return f"In {math.floor(1000 * (1 - share)) / 10:g} % of {such}"


def theorem(
    applicable: ApplicableCalibration,
    alpha: float,
    usual: ErrorQuantile | None,
    why_not: str | None = None,
) -> str:
    """State the theorem about a mask of α, and what it does not cover."""
    group, settings = applicable.group, applicable.subset.pipeline.fidelity
    of_group = [] if group is None else [f"It speaks about images of the group {group!r} only."]
    sentences = _theorem(applicable, alpha)
    if why_not is not None:
        others = "No promise. What follows holds for other uploads."
        return " ".join([others, *sentences, *of_group])
    if alpha < applicable.subset.curve.min_alpha:
        usual = None
    match applicable.subset.guarantee:
        case PostHoc() as promise if usual is not None and usual.error > 0:
            ratio = usual.error / min(alpha, promise.alphas[-1])
            sentences.append(
                f"L exceeds {rounded_up(ratio):g}·α for some of these α with a probability of at "
                f"most {usual.share:g} over the same draw. Masks of smaller α are empty; those of "
                "larger ones are that of the largest."
            )
        case Expectation() if usual is not None and 0 < usual.error < applicable.subset.error_bound:
            sentences.append(
                f"L exceeds {rounded_up(usual.error):g} with a probability of at most "
                f"{usual.share:g} over the same draw."
            )
    if settings.unit == "spot":
        sentences.append("In a picture of many spots the largest error of all of them is larger.")
    return " ".join([*sentences, *of_group])


def _theorem(applicable: ApplicableCalibration, alpha: float) -> list[str]:
    """What L is, what is bounded, over which draw, and if what holds."""
    subset = applicable.subset
    settings, promise = subset.pipeline.fidelity, subset.guarantee
    where = {
        "spot": f" in the part of the mask inside a random spot, {settings.spot} pixels wide and "
        "high",
        "picture": " in the mask",
        "words": "",  # a share of words is of the whole mask
    }[settings.unit]
    largest = "" if settings.unit == "words" else "largest "
    loss = f"Let L be the {largest}{settings.clause}{where}"
    if isinstance(promise, Probability):
        bound = f"L exceeds {promise.tolerance:g} with a probability of at most {alpha:g}"
    else:
        cut = f"{subset.error_bound:g}"
        loss += f", where errors above {cut} count as {cut}" if clips(settings) else ""
        bound = f"The expected value of L is at most {alpha:g}"
    if isinstance(promise, PostHoc):
        choice = f"between {promise.alphas[0]:g} and {promise.alphas[-1]:g}"
        if promise.menu is not None:
            choice = f"of {', '.join(f'{alpha:g}' for alpha in promise.menu)}"
        bound = (
            f"The expected value of L/α is at most 1 for an α {choice} that is chosen after "
            "looking at the image, its masks or anything else"
        )
    if (delta := promise.summary().delta) is not None:
        bound = (
            f"With a probability of at least {1 - delta:g} over the draw of the "
            f"{applicable.scenes}, the expected value of L of a new image is at most {alpha:g}"
        )
        condition = "the image and they are drawn independently from one distribution"
    else:
        new = "this image" if subset.pairs == subset.n else "this image of a new scene"
        drawn = f", of {new}, and of the spot" if settings.unit == "spot" else f" and of {new}"
        bound += f", over the draw of the {applicable.scenes}{drawn}"
        condition = "the image is exchangeable with them"
    if promise.robust > 1:
        condition += (
            ", or from a distribution in which no image is more than "
            f"{promise.robust:g} times as likely as in theirs"
        )
    return [f"{loss}.", f"{bound}.", f"Condition: {condition}."]
