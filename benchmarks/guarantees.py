"""Does each guarantee hold? `python -m benchmarks.guarantees [--draws 2000]`.

The law is known entirely: a new picture is one of the scenes of a class of the shipped calibration
that have no part in the shape of its risk, calibrations are drawn from them with replacement, and
the risk of a threshold is a mean over all of them. Most figures are means over the calibrations,
with their standard error; the promise is beside each. An adversary sees each new picture, its masks
and its errors, and then picks the α that loses most for its size.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.table import print_table
from trustscale_server.calibration.active import shipped_calibration
from trustscale_server.calibration.guarantee import AFTER_LOOKING, Expectation, Probability
from trustscale_server.conformal import LossCurve, RiskCurve, StepCurve
from trustscale_server.conformal.post_hoc import PostHocCurve, Shape, menu_between

ALPHA, LEVEL, TOLERANCE, DELTA = 0.1, 0.1, 0.15, 0.1
MENU = (0.05, 0.1, 0.15)
SIZES = (50, 100, 200)  # scenes of a calibration
Values = NDArray[np.float64]


class Law:
    """Scenes of one image each, and what is expected of a new one."""

    def __init__(self, loss_curves: Sequence[LossCurve], bound: float) -> None:
        self.loss_curves, self.bound = list(loss_curves), bound

    def losses(self, thresholds: Values) -> Values:
        """L(t−) of every scene at these thresholds, [scenes, …]."""
        return np.stack([one.losses(thresholds, "left") for one in self.loss_curves]).astype(float)

    def calibrations(self, n: int, draws: int) -> NDArray[np.int64]:
        """The scenes of calibrations of n each, [draws, n]."""
        random = np.random.default_rng(n)
        return random.integers(len(self.loss_curves), size=(draws, n))

    def some(self, places: NDArray[np.int64]) -> list[LossCurve]:
        """These of the scenes."""
        return [self.loss_curves[k] for k in places]


def law_and_shape(input_class: str | None) -> tuple[Law, Shape]:
    """The law of a class of the shipped calibration, and the shape of a third of its scenes.

    input_class: None means the one with most scenes that were saved without loss.
    """
    shipped = shipped_calibration("span-x4-bf16")
    clean = [name for name in shipped.partitions.classes if name.startswith("lossless")]
    input_class = input_class or max(clean, key=shipped.partitions.classes.__getitem__)
    part = shipped.partitions.of_class(input_class)
    # One picture of each scene: both of a photograph would be in the shape and in the law.
    ones = [min(of, key=lambda k: part.manifest.pairs[k].x_sha256) for of in part.members]
    order = np.random.default_rng(0).permutation(ones)
    apart, kept = np.split(order, [part.n // 3])
    shape = Shape.of([part.loss_curves[k] for k in apart])
    if shape is None:
        raise SystemExit(f"{input_class}: nothing is lost in it.")
    return Law([part.loss_curves[k] for k in kept], part.bound), shape


def shown(values: Sequence[float] | Values) -> str:
    """A mean over calibrations and its standard error."""
    return f"{np.mean(values):.3f} ± {stats.sem(values):.3f}"


def rows_of(law: Law, shape: Shape, n: int, draws: int) -> list[list[str]]:
    """Every guarantee with calibrations of n scenes."""
    drawn = [law.some(places) for places in law.calibrations(n, draws)]

    def curves(make: Callable[[list[LossCurve]], StepCurve]) -> list[StepCurve]:
        return [make(scenes) for scenes in drawn]

    def at(found: Sequence[StepCurve], alphas: Sequence[float]) -> Values:
        """L(t_α−) of every scene, [scenes, calibrations, α]."""
        return law.losses(np.array([[curve.threshold(a) for a in alphas] for curve in found]))

    rows = []

    def row(promise: str, figure: str, bound: str) -> None:
        rows.append([str(n), promise, figure, bound])

    named = curves(lambda scenes: RiskCurve.from_loss_curves(scenes, law.bound))
    losses = at(named, [ALPHA])[..., 0]
    row(f"expectation: mean L at α = {ALPHA}", shown(losses.mean(axis=0)), f"≤ {ALPHA}")

    usual = [
        Expectation().usual(curve, [[one] for one in scenes], ALPHA)
        for curve, scenes in zip(named, drawn, strict=True)
    ]
    errors = np.array([np.inf if one is None else one.error for one in usual])
    row("its sentence: share of L > τ̂", shown((losses > errors).mean(axis=0)), "≤ 0.1")

    share = Probability(tolerance=TOLERANCE, level=LEVEL)
    exceeds = at(curves(lambda scenes: share.curve(scenes, law.bound)), [LEVEL])[..., 0] > TOLERANCE
    row(f"probability: share of L > {TOLERANCE}", shown(exceeds.mean(axis=0)), f"≤ {LEVEL}")
    beyond = exceeds.mean(axis=0) > share.at_hand(LEVEL, n)
    row("the same at hand: calibrations above their bound", shown(beyond), "≤ 0.05")
    sure = Probability(tolerance=TOLERANCE, level=LEVEL, delta=DELTA)
    at_hand = at(curves(lambda scenes: sure.curve(scenes, law.bound)), [LEVEL])[..., 0] > TOLERANCE
    beyond = at_hand.mean(axis=0) > LEVEL
    row(f"with δ: calibrations above {LEVEL}", shown(beyond), f"≤ {DELTA}")

    for name, menu in (("menu", MENU), ("between", menu_between(*AFTER_LOOKING))):
        free = [
            PostHocCurve.from_loss_curves(scenes, law.bound, menu=menu, shape=shape)
            for scenes in drawn
        ]
        alphas = np.array(menu)
        ratio = (at(free, menu) / alphas).max(axis=2)
        row(f"post_hoc, {name}: mean of max L/α", shown(ratio.mean(axis=0)), "≤ 1")
        most = np.array([np.inf if curve.ratio is None else curve.ratio for curve in free])
        row("its sentence: share of max L/α > κ̂", shown((ratio > most).mean(axis=0)), "≤ 0.1")
        before = (at(named, menu) / alphas).max(axis=2)
        row(f"α named before, but picked, {name}", shown(before.mean(axis=0)), "nothing")
    return rows


def of_sizes(law: Law, n: int, draws: int) -> list[list[str]]:
    """Half of the scenes are small and lose half: what large pictures lose at α."""
    random = np.random.default_rng(1)
    large = law.loss_curves
    small = [LossCurve(one.levels, one.errors / 2) for one in large]
    losses: dict[str, list[float]] = {"all together": [], "large ones alone": []}
    for _ in range(draws):
        first, second = random.integers(len(large), size=(2, n // 2))
        alone = [large[k] for k in first]
        for name, scenes in (
            ("all together", [*alone, *(small[k] for k in second)]),
            ("large ones alone", alone),
        ):
            threshold = RiskCurve.from_loss_curves(scenes, law.bound).threshold(ALPHA)
            losses[name].append(float(law.losses(np.array(threshold)).mean()))
    return [
        [str(n), f"sizes, {name}: mean L of large", shown(values), f"≤ {ALPHA}"]
        for name, values in losses.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000, help="Calibrations for each row.")
    parser.add_argument("--input-class", help="Of the shipped calibration.")
    parser.add_argument("--scenes", type=int, nargs="*", default=SIZES)
    asked = parser.parse_args()
    law, shape = law_and_shape(asked.input_class)
    rows = [row for n in asked.scenes for row in rows_of(law, shape, n, asked.draws)]
    rows += of_sizes(law, 100, asked.draws)
    print_table(["scenes", "guarantee", "found", "promised"], rows)


if __name__ == "__main__":
    main()
