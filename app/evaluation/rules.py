"""The rules by which an evaluation sets its thresholds, all on the same staircases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.conformal import HighProbabilityCurve, RiskCurve, Staircase, StepCurve

GRID_POINTS = 32


@dataclass(frozen=True, slots=True)
class Rule:
    """Which error is kept below α, and in which sense."""

    name: str
    title: str
    is_semantic: bool = False
    is_high_probability: bool = False


FIDELITY = Rule("fidelity", "D in expectation")
SEMANTICS = Rule("semantic", "semantic D in expectation", is_semantic=True)
HIGH_PROBABILITY = Rule("high_probability", "D with high probability", is_high_probability=True)
RULES = (FIDELITY, SEMANTICS, HIGH_PROBABILITY)


def curve_of(
    rule: Rule,
    staircases: Sequence[Staircase],
    bound: float,
    delta: float,
    *,
    scenes: Sequence[str],
    highest: float,
) -> StepCurve:
    """The curve from which the thresholds of a rule are read.

    Args:
        rule: which error is kept small, and how.
        staircases: of the calibration images.
        bound: B.
        delta: of a promise with high probability.
        scenes: the scene of each image.
        highest: the largest σ of all of them.
    """
    if rule.is_high_probability:
        return HighProbabilityCurve.from_staircases(
            staircases, bound, delta=delta, scenes=scenes, highest=highest
        )
    return RiskCurve.from_staircases(staircases, bound, scenes=scenes, highest=highest)


def alpha_grid(curve: StepCurve, wanted: Sequence[float]) -> NDArray[np.float64]:
    """The wanted α and a grid up to a little beyond the α at which everything is trusted."""
    top = 1.15 * curve.risk(np.inf)
    grid = np.linspace(0, top, GRID_POINTS + 1)[1:]
    return np.unique(np.concatenate([np.asarray(wanted, np.float64), grid]))
