"""Thirds of a class by the score: an exact promise in each, without scenes set aside."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.conformal import RiskCurve, Staircase
from app.conformal.curve import third_of


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=24))
def test_whoever_is_new_the_thirds_are_those_of_all(scores):
    """Each in turn the new one: its third, and its third's members, follow from the set alone."""
    expected = [3 * sum(other < one for other in scores) // len(scores) for one in scores]
    for place, third in enumerate(expected):
        known = np.delete(np.array(scores, np.float64), place)
        found, members = third_of(known, float(scores[place]))
        assert found == third
        assert members.tolist() == [one == third for one in np.delete(expected, place)]


@given(st.integers(5, 40), st.integers(0, 99), st.sampled_from([0.1, 0.3, 0.6]))
def test_the_risk_in_each_third_is_at_most_alpha(n, seed, alpha):
    """Brute force over who is new, all being equally likely: what is lost, per third."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, n, n + 1) / 7  # some are equal
    # Errors that grow with the score, so that one curve for all would not do.
    stairs = [
        Staircase(np.array([0.2, 0.5], np.float32), np.sort(random.random(2) ** (3 - s / n)))
        for s in scores
    ]
    lost = defaultdict(list)
    for place in range(n + 1):
        third, members = third_of(np.delete(scores, place), scores[place])
        others = [one for k, one in enumerate(stairs) if k != place]
        alone = [one for one, belongs in zip(others, members, strict=True) if belongs]
        curve = RiskCurve.from_staircases(alone, 1.0)
        lost[third].append(stairs[place].loss_below(curve.threshold(alpha)))
    for losses in lost.values():
        assert sum(map(Fraction, losses)) <= Fraction(alpha) * len(losses) * (1 + 1e-9)
