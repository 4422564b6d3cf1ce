"""A promise as a theorem: what is bounded, over which draw, and if what holds."""

from __future__ import annotations

from trustscale_server.calibration.guarantee_kinds import Expectation, PostHoc, Probability
from trustscale_server.calibration.guarantees import ErrorQuantile, rounded_up
from trustscale_server.conformal.fidelity import clips
from trustscale_server.serving.applicable import ApplicableCalibration


def theorem(applicable: ApplicableCalibration, alpha: float, typical: ErrorQuantile | None) -> str:
    """State the theorem about a mask of α, and what it does not cover."""
    group, subset = applicable.group, applicable.subset
    of_group = [] if group is None else [f"It speaks about images of the group {group!r} only."]
    sentences = _sentences(applicable, alpha)
    if applicable.why_not is not None:
        others = "No promise. What follows holds for other uploads."
        return " ".join([others, *sentences, *of_group])
    if typical is not None and alpha >= subset.curve.min_alpha:
        sentences += _of_typical_error(applicable, alpha, typical)
    if subset.pipeline.fidelity.unit == "spot":
        sentences.append("In a picture of many spots the largest error of all of them is larger.")
    return " ".join([*sentences, *of_group])


def _of_typical_error(
    applicable: ApplicableCalibration, alpha: float, typical: ErrorQuantile
) -> list[str]:
    """How often L exceeds a typical error, where the promise says so."""
    promise, share = applicable.subset.guarantee, f"{typical.share:g}"
    if isinstance(promise, PostHoc) and typical.error > 0:
        ratio = f"{rounded_up(typical.error / min(alpha, promise.alphas[-1])):g}"
        often = f"for some of these α with a probability of at most {share} over the same draw"
        return [
            f"L exceeds {ratio}·α {often}.",
            "Masks of smaller α are empty; those of larger ones are that of the largest.",
        ]
    if isinstance(promise, Expectation) and 0 < typical.error < applicable.subset.error_bound:
        error = f"{rounded_up(typical.error):g}"
        return [f"L exceeds {error} with a probability of at most {share} over the same draw."]
    return []


def _sentences(applicable: ApplicableCalibration, alpha: float) -> list[str]:
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
