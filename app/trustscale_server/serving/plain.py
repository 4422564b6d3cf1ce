"""A promise in words, for people who are no statisticians."""

from __future__ import annotations

import math
from typing import Final

from trustscale_server.calibration.guarantee_kinds import Expectation, PostHoc, Probability
from trustscale_server.calibration.guarantees import ErrorQuantile, GuaranteeSettings, rounded_up
from trustscale_server.conformal.fidelity import FidelitySettings, clips
from trustscale_server.conformal.words import ANY
from trustscale_server.serving.applicable import ApplicableCalibration

NOTHING: Final = "Nothing is trusted"
"""How a promise begins that too few scenes hold at its α; stored answers are read by it."""


def plain(applicable: ApplicableCalibration, alpha: float, typical: ErrorQuantile | None) -> str:
    """State the promise about a mask of α for people who are no statisticians."""
    if applicable.why_not is not None:
        return f"No promise. {applicable.why_not}."
    subset = applicable.subset
    if (short := subset.shortfall(alpha)) is not None:
        return f"{NOTHING}: {short}."
    settings, promise = subset.pipeline.fidelity, subset.guarantee
    if settings.unit == "words":
        return _of_words(promise, alpha)
    pictures = _pictures(promise)
    # A further unit needs words.
    such = {"spot": f"spots of {pictures}", "picture": pictures}[settings.unit]
    if settings.spec.error_unit == "label":
        share = promise.alphas[-1] if isinstance(promise, PostHoc) else alpha
        return f"{_share_of(such, share)}, {settings.spec.right}{_certainty(promise)}."
    fine = " Fine detail may be invented." if settings.spec.blurs else ""
    if typical is not None and typical.error < subset.error_bound:
        return f"{_mostly(such, typical, settings, promise, alpha)}.{fine}"
    # An average of errors says nothing more about those that are cut.
    return f"{_on_average(such, subset.error_bound, settings, promise, alpha)}.{fine}"


def _mostly(
    such: str,
    typical: ErrorQuantile,
    settings: FidelitySettings,
    promise: GuaranteeSettings,
    alpha: float,
) -> str:
    """That in most of these the error stays below a typical one."""
    error = rounded_up(typical.error) if typical.error > 0 else 0.0
    right = _right_within(error, "trusted points", settings)
    match promise:
        case Expectation():
            tail = f"; you asked for {_steps(alpha, settings)} on average"
        case PostHoc():
            tail = ", even if this α was chosen after looking"
        case _:
            tail = _certainty(promise)
    return f"{_share_of(such, typical.share)}, {right}{tail}"


def _on_average(
    such: str,
    bound: float,
    settings: FidelitySettings,
    promise: GuaranteeSettings,
    alpha: float,
) -> str:
    """That on average over these the worst error is at most α; larger ones are cut at a bound."""
    most, worst = _steps(bound, settings), "the worst trusted point"
    cut = f" (more than {most} counts as {most})" if clips(settings) else ""
    if isinstance(promise, PostHoc):
        return (
            f"On average over {such}, the error of {worst}{cut} is at most once the α that is "
            "chosen after looking"
        )
    right = _right_within(alpha, worst, settings)
    return f"On average over {such}, {right}{cut}{_certainty(promise)}"


def _certainty(promise: GuaranteeSettings) -> str:
    """With which probability over the calibration it holds, where it may fail to."""
    delta = promise.summary().delta
    return "" if delta is None else f", with a probability of {1 - delta:g} over the calibration"


def _pictures(promise: GuaranteeSettings) -> str:
    """Of which pictures a promise is."""
    such = "pictures like those measured"
    if promise.robust == 1:
        return such
    share = 1 - 1 / promise.robust
    names = {0.2: "fifth", 0.25: "quarter", 0.333: "third", 0.5: "half"}
    missing = names.get(round(share, 3), f"{100 * share:.2g} %")
    return f"{such}, even without the easiest {missing} of them"


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
    reads = f"as a text reader, not a person, reads them{_certainty(promise)}."
    such = _pictures(promise)
    if isinstance(promise, Probability):
        wrong = f"at most {100 * promise.tolerance:g} % of the words called right are wrong"
        if promise.tolerance == ANY:
            wrong = "no word called right is wrong"
        return f"{_share_of(such, alpha)}, {wrong}, {reads}"
    free = ""
    if isinstance(promise, PostHoc):
        alpha, free = min(alpha, promise.alphas[-1]), ", even if α was chosen after looking"
    return (
        f"Of the words called right at most {100 * alpha:.3g} % are wrong, on average over "
        f"{such}{free}, {reads}"
    )


def _share_of(such: str, share: float) -> str:
    """All but this share of such pictures, such as "In 9 of 10 spots"."""
    whole = round(1 / share) if share > 0 else 0
    if 1 < whole <= 1000 and math.isclose(whole * share, 1, rel_tol=1e-9):
        return f"In {whole - 1} of {whole} {such}"
    return f"In {math.floor(1000 * (1 - share)) / 10:g} % of {such}"
