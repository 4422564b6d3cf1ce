"""The methods that the paper compares with, and what is wrong with one of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trustscale_evaluation import intervals, weighted_masks


def drawn(seed, shape=(9, 7, 3), count=5, spread=12):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 256, shape)
    samples = truth + np.rint(random.normal(0, spread, (count, *shape)))
    samples = np.clip(samples, 0, 255).astype(np.uint8)
    return truth.astype(np.uint8), samples[0], samples


class TestIntervals:
    @given(st.integers(0, 99), st.integers(0, len(intervals.LAMBDAS) - 1))
    @settings(max_examples=60, deadline=None)
    def test_the_curve_is_what_the_images_lose(self, seed, index):
        """At every λ the curve is the share outside the very images that are shown."""
        truth, prediction, samples = drawn(seed)
        widths = intervals.half_widths(samples, prediction)
        scale = float(intervals.LAMBDAS[index])
        curve = intervals.miss_curve(truth, prediction, widths)
        outside, _ = intervals.interval_score(truth, *intervals.interval(prediction, widths, scale))
        assert curve[index] == pytest.approx(outside, abs=1e-12)
        # By the definition, in real numbers.
        signed = truth.astype(float) - prediction
        inside = (signed <= scale * widths[1]) & (-signed <= scale * widths[0])
        assert 1 - outside == pytest.approx(inside.mean(), abs=1e-12)

    def test_the_scale_is_the_smallest_certified(self):
        """Every λ from λ̂ on passes the test, and the one below does not."""
        curves = [
            intervals.miss_curve(truth, prediction, intervals.half_widths(samples, prediction))
            for truth, prediction, samples in map(drawn, range(60))
        ]
        scale = intervals.interval_scale(curves, alpha=0.2, delta=0.1)
        p = intervals.hoeffding_bentkus_p_value(np.mean(curves, axis=0), 60, 0.2)
        index = int(np.flatnonzero(scale == intervals.LAMBDAS)[0])
        assert max(p[index:]) <= 0.1 < p[index - 1]
        assert np.mean(curves, axis=0)[index] < 0.2


N, Q = 39, 0.05
TAU = (1 - Q) ** N  # 0.135, the probability that all are perfect


@pytest.mark.parametrize("delta", [TAU / 2, 1 - TAU / 2])  # either reading of their formula
def test_their_claim_fails(delta):
    """The paper's Example B.1, decided exactly: eq. 3 promises a violation with at most δ = τ/2.

    σ is 0 everywhere; an image is wrong by 1 everywhere with probability q, else perfect. All that
    a calibration does depends on the binomial number of wrong ones.
    """
    shape, alpha, violated = (2, 2), Q / 2, []
    confidences = np.zeros(shape)  # [σ] = 0 in the paper's formula
    for wrong in range(N + 1):
        errors = [np.full(shape, float(k < wrong), np.float32) for k in range(N)]
        scales = [weighted_masks.image_scale(confidences, error, [alpha])[0] for error in errors]
        mask = weighted_masks.weight_mask(
            confidences, weighted_masks.mask_scale(scales, delta=delta)
        )
        violated.append(Q * weighted_masks.weighted_error(mask, np.ones(shape)) > alpha)
    assert violated[0]  # the step of the paper's proof: λ = 1 when all are perfect
    assert stats.binom.pmf(np.arange(N + 1), N, Q) @ violated >= TAU


def test_the_p_value_is_mapies():
    """It equals that of an independent implementation."""
    oracle = pytest.importorskip("mapie.risk_control.methods").compute_hoeffding_bentkus_p_value
    random = np.random.default_rng(0)
    for n in (1, 7, 50, 2000):
        mean = np.concatenate([[0, 0.5, 1], random.random(100), random.random(100) / n])
        alpha = np.array([0.01, 0.05, 0.3, 0.9])
        found = intervals.hoeffding_bentkus_p_value(mean[:, None], n, alpha)
        np.testing.assert_allclose(found, oracle(mean, n, alpha), atol=1e-12)
