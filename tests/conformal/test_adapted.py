"""A curve for one batch of uploads: the ratio that is estimated, and what it only takes away."""

from __future__ import annotations

import numpy as np
import pytest

from trustscale_server.conformal import CalibrationSet
from trustscale_server.conformal.adapted import (
    MIN_UPLOADS,
    Ratios,
    adapted_curve,
    effective_number,
    likelihood_ratios,
)
from trustscale_server.conformal.loss_curve import LossCurve, LossCurves
from trustscale_server.conformal.risk_curve import RiskCurve

B = 0.25


def losing(random: np.random.Generator, hardness: float) -> LossCurve:
    """The loss curve of a spot whose error at σ = t is about hardness · t."""
    levels = np.sort(random.random(6)).astype(np.float32)
    errors = np.minimum(np.cumsum(random.random(6)) / 6 * hardness * B, B).astype(np.float32)
    kept = np.append(True, np.diff(errors) > 0) & np.append(True, np.diff(levels) > 0)
    return LossCurve(levels[kept], errors[kept])


def calibrated(
    random: np.random.Generator, pictures: int, spots: int = 3
) -> tuple[LossCurves, np.ndarray]:
    curves = [losing(random, random.random()) for _ in range(pictures * spots)]
    return LossCurves.from_curves(curves), np.full(pictures, spots)


def test_a_batch_like_the_calibration_leaves_its_curve():
    """With ratios of 1 it is the risk curve in which every picture counts once."""
    curves, spots = calibrated(np.random.default_rng(0), 30)
    found = adapted_curve(curves, spots, B, Ratios(np.ones(30), 1.0))
    plain = RiskCurve.from_calibration_set(
        CalibrationSet(curves, B, scenes=np.repeat(np.arange(30), 3).tolist())
    )
    assert found.min_alpha == pytest.approx(plain.min_alpha)
    for t in np.linspace(-0.1, 1.1, 200):
        assert found.risk(t) == pytest.approx(plain.risk(t), abs=1e-9)


def test_each_picture_counts_by_its_ratio():
    """R_Q(t) is (Σ r L̄(t) + r B) / (Σ r + r), by brute force."""
    random = np.random.default_rng(1)
    curves, spots = calibrated(random, 20)
    ratios = Ratios(random.random(20) + 0.1, 1.7)
    found = adapted_curve(curves, spots, B, ratios, highest=0.9)
    assert found.highest == 0.9
    for t in random.random(100):
        losses = [
            np.mean(
                [curves[3 * k + j].losses_below(np.nextafter(np.float32(t), 2)) for j in range(3)]
            )
            for k in range(20)
        ]
        expected = (ratios.calibrated @ losses + 1.7 * B) / (ratios.calibrated.sum() + 1.7)
        assert found.risk(np.float32(t)) == pytest.approx(expected, abs=1e-9)


def test_the_ratio_finds_what_the_batch_is_like():
    """Of three kinds of calibrating pictures the one that the batch is of counts most."""
    random = np.random.default_rng(2)
    kinds = np.repeat([0, 1, 2], 60)
    centres = np.array([[0, 0, 0, 0], [3, 0, 0, 1], [0, 3, -2, 0]], np.float32)
    numbers = (centres[kinds] + random.normal(0, 1, (180, 4))).astype(np.float32)
    batch = (centres[1] + random.normal(0, 1, (MIN_UPLOADS, 4))).astype(np.float32)
    ratios = likelihood_ratios(numbers, batch)
    means = [ratios.calibrated[kinds == kind].mean() for kind in range(3)]
    assert ratios.calibrated.mean() == pytest.approx(1)
    assert means[1] > 3 * max(means[0], means[2])
    assert 0 < ratios.new <= ratios.calibrated.max()
    alike = likelihood_ratios(numbers, numbers[random.permutation(180)[:90]])
    assert np.abs(np.log(alike.calibrated)).mean() < 0.3


def test_a_shift_of_difficulty_is_met():
    """Where errors depend on φ alone, the risk in a batch of hard pictures stays near α.

    Without the batch's curve it is far above.
    """
    random = np.random.default_rng(3)
    alpha, trials, losses = 0.05, 60, {"adapted": [], "plain": []}
    for _ in range(trials):
        hardness = random.choice([0.3, 1.6], 200, p=[0.9, 0.1])
        numbers = np.column_stack([hardness, random.normal(0, 1, 200)]).astype(np.float32)
        curves = LossCurves.from_curves([losing(random, h) for h in hardness])
        ones = np.ones(200, np.int64)
        batch = np.column_stack([np.full(8, 1.6), random.normal(0, 1, 8)]).astype(np.float32)
        plain = RiskCurve.from_calibration_set(CalibrationSet(curves, B))
        found = plain.at_least(adapted_curve(curves, ones, B, likelihood_ratios(numbers, batch)))
        assert found.threshold(alpha) <= plain.threshold(alpha)
        new = losing(random, 1.6)
        for name, curve in (("adapted", found), ("plain", plain)):
            losses[name].append(float(new.losses_below(curve.threshold(alpha))))
    assert np.mean(losses["plain"]) > 1.5 * alpha
    assert np.mean(losses["adapted"]) < alpha * 1.2


def test_the_larger_of_two_curves_trusts_what_both_do():
    """Mask and trust levels of `at_least` are the intersection of those of the two curves."""
    random = np.random.default_rng(4)
    one, other = (
        RiskCurve.from_calibration_set(CalibrationSet(calibrated(random, 25)[0], B))
        for _ in range(2)
    )
    both = one.at_least(other)
    sigma = random.random((40, 40)).astype(np.float32)
    for alpha in (0.0, 0.02, 0.05, 0.1, 0.2):
        assert np.array_equal(
            both.mask(sigma, alpha), one.mask(sigma, alpha) & other.mask(sigma, alpha)
        )
    levels = np.maximum(one.trust_code(sigma), other.trust_code(sigma))
    assert np.array_equal(both.trust_code(sigma), levels)


def test_too_few_uploads_weigh_nothing():
    """Fewer uploads than needed, or other numbers, are refused."""
    numbers = np.zeros((9, 4), np.float32)
    for batch in (np.zeros((MIN_UPLOADS - 1, 4)), np.zeros((MIN_UPLOADS, 5))):
        with pytest.raises(ValueError, match="cannot weigh"):
            likelihood_ratios(numbers, batch.astype(np.float32))


def test_scenes_say_as_much_as_fewer_equal_ones():
    """Equal weights count all scenes; one that outweighs the others counts as about one."""
    members = [[0, 1], [2, 3], [4, 5]]
    assert effective_number(np.ones(6), members) == pytest.approx(3)
    assert effective_number(np.array([9, 9, 0.1, 0.1, 0.1, 0.1]), members) < 1.1
