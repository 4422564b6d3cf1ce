"""The promise in words: a sentence for everybody, and the theorem.

Both say the same about the same draw: of the calibration scenes and of a picture like theirs.
"""

from __future__ import annotations

import math
from typing import Final

from app.calibration.guarantee import AT_HAND, PostHoc, Probability, Usual, rounded_up
from app.calibration.record import Calibration
from app.conformal.fidelity import FidelitySettings, clips
from app.serving.subject import Subject

_MOST_SIZES: Final = 3
_MOST_COUNTED: Final = 1000
"""Up to so many pictures a share is said as so many of them."""


def sentence(subject: Subject, alpha: float) -> str:
    """The promise about a mask of α for people who are no statisticians."""
    part = subject.part
    if subject.applicability == "unknown":
        return f"No promise: {_unknown(subject)}."
    short = part.guarantee.shortfall(alpha, part.error_bound, part.n)
    if short is not None:
        return f"Nothing is trusted: {short}."
    such = "such pictures" if subject.third is None else "pictures as hard as this one"
    if subject.applicability == "per_window":
        such = f"windows of {_listed(part.sizes.all)} pixels of such pictures"
    usual = part.usual(alpha)
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
    error = _error(Usual(alpha, 1), settings)
    return f"On average over {such} the largest error in the trusted part is no more {error}{tail}."


def _share_of(such: str, share: float) -> str:
    """All but this share of such pictures, such as "In 9 of 10 such pictures"."""
    whole = round(1 / share) if share > 0 else 0
    if 1 < whole <= _MOST_COUNTED and math.isclose(whole * share, 1, rel_tol=1e-9):
        return f"In {whole - 1} of {whole} {such}"
    return f"In {math.floor(1000 * (1 - share)) / 10:g} % of {such}"


def _error(usual: Usual, settings: FidelitySettings) -> str:
    """An error in steps that can be imagined: all of it in lightness, or all of it in colour."""
    if usual.error <= 0:
        return "than nothing"
    error = rounded_up(usual.error)
    if settings.row.unit == "ssim":
        return f"than {error:g} in structure, where 0 is the same and 1 the opposite"
    mean = ""
    if settings.row.blurs:
        mean = f", as a mean over about {max(1, round(2.355 * settings.blur))} pixels"
    return (
        f"than {error:g}: {100 * error:.2g} of the 100 steps of lightness, or {254 * error:.2g} of "
        f"the 254 of a colour axis{mean}"
    )


def statement(subject: Subject, alpha: float) -> str:
    """The theorem about a mask of α, and what it does not speak about."""
    if subject.applicability == "unknown":
        return f"No promise: {_unknown(subject)}. What follows holds for others. " + " ".join(
            [_theorem(subject, alpha, "in the mask"), *_of_group(subject)]
        )
    is_window = subject.applicability == "per_window"
    where = "in the mask"
    if is_window:
        sizes = _listed(subject.part.sizes.all)
        where = f"in the part of the mask inside a window of {sizes} pixels"
    parts = [_theorem(subject, alpha, where)]
    is_empty = alpha < subject.part.curve.min_alpha
    usual = None if is_empty else subject.part.usual(alpha)
    match subject.part.guarantee:
        case Probability() as promise:
            parts += _at_hand(subject, promise, alpha)
        case PostHoc() as promise if usual is not None and usual.error > 0:
            ratio = usual.error / min(alpha, promise.alphas[-1])
            parts.append(
                f"It exceeds {rounded_up(ratio):g}·α for some of these α with a probability of at "
                f"most {usual.share:g} over the same draw. Masks of smaller α are empty; those of "
                "larger ones are that of the largest."
            )
        case _ if usual is not None and 0 < usual.error < subject.part.error_bound:
            parts.append(
                f"It exceeds {rounded_up(usual.error):g} with a probability of at most "
                f"{usual.share:g} over the same draw."
            )
    if is_window:
        parts.append(_of_windows(subject))
    elif subject.applicability == "whole":
        parts.append(
            "It speaks about all of the image: these are the scenes of the calibration that are at "
            "least as large, each counted with the largest error of its whole picture."
        )
    return " ".join([*parts, *_of_group(subject)])


def _theorem(subject: Subject, alpha: float, where: str) -> str:
    """What is bounded, over which draw, and by what."""
    part = subject.part
    settings = part.pipeline.fidelity
    new = "this image" if part.pairs == part.n else "this image, of a new scene"
    largest = f"the largest {settings.sentence} {where}"
    promise = part.guarantee
    if isinstance(promise, Probability):
        bound = f"exceeds {promise.tolerance:g} with a probability of at most {alpha:g}"
    else:
        cut = f"{part.error_bound:g}"
        counted = f" (where errors above {cut} count as {cut})" if clips(settings) else ""
        largest, bound = f"the expected value of {largest}{counted}", f"is at most {alpha:g}"
    if isinstance(promise, PostHoc):
        largest = largest.replace("value of", "ratio of", 1)
        bound = (
            f"to an α {_choice(promise)}, chosen after looking at the image, its masks or anything "
            "else, is at most 1"
        )
    delta = promise.facts()["delta"]
    if delta is None:
        return (
            f"Over the draw of the {subject.scenes} and of {new}, {largest} {bound}, if the image "
            "is exchangeable with them."
        )
    one = "a new image" if subject.third is None else "a new image of that third"
    return (
        f"With probability at least {1 - delta:g} over the draw of the {subject.scenes}, {largest} "
        f"of {one} {bound}, if it and they are drawn independently from one distribution."
    )


def _choice(promise: PostHoc) -> str:
    """From what α can be chosen."""
    if promise.menu is None:
        return f"between {promise.alphas[0]:g} and {promise.alphas[-1]:g}"
    return f"of {', '.join(f'{alpha:g}' for alpha in promise.menu)}"


def _at_hand(subject: Subject, promise: Probability, alpha: float) -> list[str]:
    """What holds of the very scenes of the calibration, if that can be said."""
    part = subject.part
    if promise.delta is not None or part.pairs > part.n or alpha < part.curve.min_alpha:
        return []
    known = f"{rounded_up(promise.at_hand(alpha, part.n)):g}"
    sentence = (
        f"With these very {part.n} the probability is at most {known}, with a confidence of "
        f"{AT_HAND:.0%} (Clopper-Pearson) if they are independent draws."
    )
    return [sentence]


def _of_windows(subject: Subject) -> str:
    """What follows for an output that is larger than the windows that were calibrated."""
    mean = "the mean over its windows of their largest errors has this bound"
    if isinstance(subject.part.guarantee, Probability):
        mean = "the expected share of its windows with a larger error has this bound"
    return (
        "It speaks about a window that is placed at random, and approximately, since the upscaler "
        f"and the samples' disagreement see beyond its edges, and the class of a window may differ "
        f"from that of its picture; so {mean}. The largest error of all of the image is larger."
    )


def _of_group(subject: Subject) -> list[str]:
    if subject.group is None:
        return []
    return [f"It speaks about images of the group {subject.group!r} only."]


def _unknown(subject: Subject) -> str:
    """Why no promise is known to hold."""
    if not subject.is_covered:
        return "too few calibration images had an input like this upload"
    return f"this output is {outside(subject.part)}"


def outside(calibration: Calibration) -> str:
    """How a size differs from the calibrated ones when nothing is known about it."""
    sizes = _listed(calibration.sizes.all)
    return f"of another size than the calibration images ({sizes} pixels)"


def within(subject: Subject) -> str:
    """What to send in place of a picture of a size that nothing is known about."""
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
