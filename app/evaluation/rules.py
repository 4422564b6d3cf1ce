"""The rules by which an evaluation sets its thresholds, all on the same staircases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.conformal import HighProbabilityCurve, RiskCurve, Staircase, StepCurve


@dataclass(frozen=True, slots=True)
class Rule:
    """Which error is kept below α, and in which sense."""

    name: str
    title: str
    is_semantic: bool = False
    is_high_probability: bool = False

    def curve(
        self,
        staircases: Sequence[Staircase],
        bound: float,
        delta: float,
        *,
        scenes: Sequence[str],
        highest: float,
    ) -> StepCurve:
        """The curve from which the thresholds are read; delta is for high probability only."""
        if self.is_high_probability:
            return HighProbabilityCurve.from_staircases(
                staircases, bound, delta=delta, scenes=scenes, highest=highest
            )
        return RiskCurve.from_staircases(staircases, bound, scenes=scenes, highest=highest)


FIDELITY = Rule("fidelity", "D in expectation")
SEMANTICS = Rule("semantic", "semantic D in expectation", is_semantic=True)
HIGH_PROBABILITY = Rule("high_probability", "D with high probability", is_high_probability=True)
RULES = (FIDELITY, SEMANTICS, HIGH_PROBABILITY)
