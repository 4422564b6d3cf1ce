"""Canaries: exact where answers repeat, a test martingale where they do not."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from app.calibration.canaries import Canary, start, statistics_of
from app.calibration.canaries import observe as observed
from app.upscalers.base import image_digest

NAMES = [f"c{i}" for i in range(8)]


def observe(state, answers, uniform):
    return observed(state, answers, uniform, datetime.now(UTC))


def sample(random, gain=1.0):
    return np.clip(random.normal(128, 40 * gain, (16, 16, 3)), 0, 255).astype(np.uint8)


def first(name, answers, *, repeats):
    values = [statistics_of(answer) for answer in answers]
    draws = {key: tuple(sorted(value[key] for value in values)) for key in values[0]}
    sha256 = image_digest(answers[0]) if repeats else None
    return Canary(name=name, seed=1, sha256=sha256, draws=draws)


def exact():
    pictures = {name: sample(np.random.default_rng(i)) for i, name in enumerate(NAMES)}
    return pictures, start("f", 4, [first(name, [p], repeats=True) for name, p in pictures.items()])


def statistical(random, draws=10):
    answers = {name: [sample(random) for _ in range(draws)] for name in NAMES}
    return start("f", 4, [first(name, given, repeats=False) for name, given in answers.items()])


def test_exact_answers():
    """One changed pixel of one canary raises the alarm, which stays; others are no evidence."""
    pictures, canaries = exact()
    assert not observe(canaries, pictures, lambda: 0.5).alarm
    assert observe(canaries, {}, lambda: 0.5).items == canaries.items
    other = pictures["c3"].copy()
    other[0, 0, 0] ^= 1
    after = observe(canaries, {**pictures, "c3": other}, lambda: 0.5)
    assert after.changed == ("c3",)
    assert after.alarm
    assert observe(after, pictures, lambda: 0.5).alarm


class TestStatistical:
    def test_false_alarms(self):
        """An unchanged model raises an alarm at delta = 0.1 in at most 10 % of long watches."""
        alarms = 0
        for run in range(60):
            random = np.random.default_rng(run)
            canaries, raised = statistical(random, draws=5), False
            for _ in range(12):
                fresh = {name: sample(random) for name in NAMES}
                canaries = observe(canaries, fresh, random.random)
                raised |= canaries.evidence >= 10
            alarms += raised
        # Binomial(60, 0.1) exceeds 13 with probability below 0.1 %.
        assert alarms <= 13

    def test_detection(self):
        """A model with 10 % more contrast is found within a few rounds of eight canaries."""
        random = np.random.default_rng(0)
        canaries = statistical(random)
        rounds = 0
        while not canaries.alarm:
            fresh = {name: sample(random, 1.1) for name in NAMES}
            canaries, rounds = observe(canaries, fresh, random.random), rounds + 1
            assert rounds < 8
        assert rounds >= 1

    def test_fresh_draws_join_the_pool(self):
        """Every answer is ranked among all earlier ones."""
        random = np.random.default_rng(0)
        canaries = observe(statistical(random), {"c0": sample(random)}, random.random)
        assert [len(item.draws["sharpness"]) for item in canaries.items] == [11] + 7 * [10]


def test_one_that_does_not_repeat_is_enough():
    """Unless every canary repeats exactly, all are compared statistically."""
    random = np.random.default_rng(0)
    answers = [sample(random), sample(random)]
    repeats, other = (first("a", answers, repeats=flag) for flag in (True, False))
    mixed = start("f", 4, [repeats, other])
    assert all(item.sha256 is None for item in mixed.items)
    assert mixed.evidence == pytest.approx(1)
    assert start("f", 4, [repeats, repeats]).items[0].sha256 == image_digest(answers[0])


def test_no_canary():
    """Nothing cannot be watched."""
    with pytest.raises(ValueError, match="at least one"):
        start("f", 4, [])
