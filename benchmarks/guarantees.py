"""Does each guarantee hold? `python -m benchmarks.guarantees [--draws 200]`.

The law is known entirely: a new picture is of one of the scenes of a class of the shipped
calibration that have no part in the shape of its risk, by weight, and of it a random spot is meant.
Calibrations are drawn from these scenes with replacement, and the risk of a threshold is a mean
over all of them. Most figures are means over the calibrations, with their standard error; the
promise is beside each. An adversary sees each new spot, its masks and its errors, and then picks
the α that loses most for its size.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.table import print_table
from trustscale_server.calibration.guarantee_kinds import (
    AFTER_LOOKING,
    Expectation,
    HighProbability,
    Probability,
)
from trustscale_server.calibration.guarantees import LEVELS
from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.calibration.review_settings import ReviewSettings
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal import CalibrationSet, LossCurve, StepCurve
from trustscale_server.conformal.post_hoc import PostHocCurve, menu_between
from trustscale_server.conformal.review import TOLERANCES, accepted_of_batch, p_value
from trustscale_server.conformal.risk_shape import Shape

ALPHA, LEVEL, TOLERANCE, DELTA = LEVELS["balanced"], 0.1, 0.1, 0.1
MENU = tuple(LEVELS.values())
REVIEWED, OFF_SHARE = ReviewSettings().delta, 0.01
SIZES = (50, 100, 200)  # scenes of a calibration
Values = NDArray[np.float64]


class Spots(NamedTuple):
    """The loss curves of the spots of one scene, and their weights."""

    curves: Sequence[LossCurve]
    weights: Sequence[Fraction]


class Law:
    """Scenes, and what is expected of a spot of a new one."""

    def __init__(self, scenes: Sequence[Spots], bound: float) -> None:
        self.scenes, self.bound = scenes, bound

    def expected(self, thresholds: Values, of: Callable[[Values], Values]) -> Values:
        """The expectation of something of a spot's losses at [calibrations, α] thresholds.

        `of` makes [spots, calibrations] of L(t−), [spots, calibrations, α].
        """
        total, weight = np.zeros(len(thresholds)), 0.0
        for curves, weights in self.scenes:
            losses = np.stack([one.losses_below(thresholds) for one in curves]).astype(float)
            own = np.array([float(one) for one in weights])
            total += own @ of(losses)
            weight += own.sum()
        return np.asarray(total / weight)

    def calibrations(self, n: int, draws: int) -> list[CalibrationSet]:
        """Calibrations of n scenes each."""
        random = np.random.default_rng(n)
        found = []
        for places in random.integers(len(self.scenes), size=(draws, n)):
            drawn = [self.scenes[place] for place in places]
            found.append(
                CalibrationSet(
                    [curve for one in drawn for curve in one.curves],
                    self.bound,
                    scenes=[k for k, one in enumerate(drawn) for _ in one.curves],
                    weights=[weight for one in drawn for weight in one.weights],
                )
            )
        return found


def law_and_shape(input_class: str) -> tuple[Law, Shape]:
    """The law of a class of the shipped calibration, and the shape of a third of its scenes."""
    part = shipped_calibration("span-x4-bf16").everything.of_class(input_class)
    scenes = [
        Spots(
            [curve for place in places for curve in part.arrays.spots_of(place)],
            [
                part.weights[place] / int(part.arrays.spots[place])
                for place in places
                for _ in range(int(part.arrays.spots[place]))
            ],
        )
        for places in part.members
    ]
    order = np.random.default_rng(0).permutation(len(scenes)).tolist()
    third = len(order) // 3
    shape = Shape.from_loss_curves([curve for k in order[:third] for curve in scenes[k].curves])
    if shape is None:
        raise SystemExit(f"{input_class}: nothing is lost in it.")
    return Law([scenes[k] for k in order[third:]], part.bound), shape


def shown(values: NDArray[Any]) -> str:
    """A mean over calibrations and its standard error."""
    return f"{np.mean(values):.3f} ± {stats.sem(values):.3f}"


def rows_of(law: Law, shape: Shape, n: int, draws: int) -> list[list[str]]:
    """Every guarantee with calibrations of n scenes."""
    drawn = law.calibrations(n, draws)

    def at(found: Sequence[StepCurve], alphas: Sequence[float]) -> Values:
        """t_α, [calibrations, α]."""
        return np.array([[curve.threshold(alpha) for alpha in alphas] for curve in found])

    def mean(losses: Values) -> Values:
        return losses[..., 0]

    def exceeds(losses: Values) -> Values:
        return np.asarray(losses[..., 0] > TOLERANCE, np.float64)

    rows = []

    def row(promise: str, figure: str, bound: str) -> None:
        rows.append([str(n), promise, figure, bound])

    named = [Expectation().curve(one) for one in drawn]
    lost = law.expected(at(named, [ALPHA]), mean)
    row(f"expectation: mean L at α = {ALPHA}", shown(lost), f"≤ {ALPHA}")

    typical = [
        Expectation().typical_error(curve, one, ALPHA)
        for curve, one in zip(named, drawn, strict=True)
    ]
    errors = np.array([np.inf if one is None else one.error for one in typical])

    def unlikely(losses: Values) -> Values:
        return np.asarray(losses[..., 0] > errors, np.float64)

    above = law.expected(at(named, [ALPHA]), unlikely)
    row("its sentence: share of L > τ̂", shown(above), "≤ 0.1")

    sure = [HighProbability(delta=DELTA).curve(one) for one in drawn]
    beyond = law.expected(at(sure, [ALPHA]), mean) > ALPHA
    row(f"high_probability: calibrations above {ALPHA}", shown(beyond), f"≤ {DELTA}")

    share = Probability(tolerance=TOLERANCE, level=LEVEL)
    above = law.expected(at([share.curve(one) for one in drawn], [LEVEL]), exceeds)
    row(f"probability: share of L > {TOLERANCE}", shown(above), f"≤ {LEVEL}")
    share = Probability(tolerance=TOLERANCE, level=LEVEL, delta=DELTA)
    beyond = law.expected(at([share.curve(one) for one in drawn], [LEVEL]), exceeds) > LEVEL
    row(f"with δ: calibrations above {LEVEL}", shown(beyond), f"≤ {DELTA}")

    for name, menu in (("menu", MENU), ("between", menu_between(*AFTER_LOOKING))):
        alphas = np.array(menu)

        def worst(losses: Values, alphas: NDArray[Any] = alphas) -> Values:
            return np.asarray((losses / alphas).max(axis=2))

        free = [PostHocCurve.from_calibration_set(one, menu=menu, shape=shape) for one in drawn]
        limits = at(free, menu)
        row(f"post_hoc, {name}: mean of max L/α", shown(law.expected(limits, worst)), "≤ 1")
        most = np.array([np.inf if curve.ratio is None else curve.ratio for curve in free])

        def unusual(
            losses: Values, worst: Callable[[Values], Values] = worst, most: Values = most
        ) -> Values:
            return np.asarray(worst(losses) > most, np.float64)

        row("its sentence: share of max L/α > κ̂", shown(law.expected(limits, unusual)), "≤ 0.1")
        before = law.expected(at(named, menu), worst)
        row(f"α named before, but picked, {name}", shown(before), "nothing")
    return rows


def of_pictures(pairs: Sequence[PairInfo], n: int, draws: int) -> list[list[str]]:
    """Whole pictures that need no look, one by one and in batches of n others."""
    place = TOLERANCES.index(ReviewSettings().tolerance)
    bad = np.array([pair.off[place] > OFF_SHARE for pair in pairs])
    high = np.array([pair.high_sigma[0] for pair in pairs])
    random = np.random.default_rng(n)
    alone, together = np.empty(draws), np.zeros(draws)
    for draw in range(draws):
        known, new = random.integers(len(pairs), size=(2, n))
        p_values = [p_value(high[known][bad[known]], n, one) for one in high[new]]
        alone[draw] = np.mean(bad[new] & (np.array(p_values) <= REVIEWED))
        if any(kept := accepted_of_batch(p_values, REVIEWED)):
            together[draw] = bad[new][kept].mean()
    return [
        [str(n), "review: share that is bad and p ≤ δ", shown(alone), f"≤ {REVIEWED}"],
        [str(n), "review of a batch: bad of the accepted", shown(together), f"≤ {REVIEWED}"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=200, help="Calibrations for each row.")
    parser.add_argument("--input-class", default="lossless", help="Of the shipped calibration.")
    parser.add_argument("--scenes", type=int, nargs="*", default=SIZES)
    asked = parser.parse_args()
    law, shape = law_and_shape(asked.input_class)
    rows = [row for n in asked.scenes for row in rows_of(law, shape, n, asked.draws)]
    part = shipped_calibration("span-x4-bf16").everything.of_class(asked.input_class)
    known = part.one_of_each
    rows += [row for n in asked.scenes for row in of_pictures(known, n, asked.draws)]
    print_table(["scenes", "guarantee", "found", "promised"], rows)


if __name__ == "__main__":
    main()
