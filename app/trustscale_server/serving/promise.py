"""What is promised of an answer, in words and numbers."""

from __future__ import annotations

import math
from typing import Final

from trustscale_server.calibration.guarantee_kinds import Expectation, PostHoc, Probability
from trustscale_server.calibration.guarantees import ErrorQuantile, GuaranteeSettings, rounded_up
from trustscale_server.calibration.manifest import REMOVED
from trustscale_server.conformal.fidelity import FidelitySettings, clips
from trustscale_server.conformal.risk_curve import lab_psnr_lower_bound_db
from trustscale_server.conformal.words import ANY
from trustscale_server.images.degradation import Mixture
from trustscale_server.images.kinds import class_in_words
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.caption import about
from trustscale_server.serving.document import Guarantee


def guarantee(applicable: ApplicableCalibration, alpha: float) -> Guarantee:
    """Return the promise for a mask of this α on an output of this size."""
    subset = applicable.subset
    why_not = applicable.why_not
    settings = subset.pipeline.fidelity
    counts_errors = not isinstance(subset.guarantee, Probability)
    usual = subset.typical_error(alpha)
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
