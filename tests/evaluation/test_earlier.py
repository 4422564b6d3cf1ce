"""The methods that the paper compares with, and what is wrong with one of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trustscale_evaluation import earlier


def drawn(seed, shape=(9, 7, 3), count=5, spread=12):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 256, shape)
    samples = truth + np.rint(random.normal(0, spread, (count, *shape)))
    samples = np.clip(samples, 0, 255).astype(np.uint8)
    return truth.astype(np.uint8), samples[0], samples


class TestIntervals:
    @given(st.integers(0, 99), st.integers(2, 12), st.floats(0, 40))
    @settings(max_examples=40, deadline=None)
    def test_half_widths(self, seed, count, spread):
        """They reach from the prediction to the quantiles of the samples, at least the floor."""
        _, prediction, samples = drawn(seed, count=count, spread=spread)
        below, above = earlier.half_widths(samples, prediction)
        low = np.quantile(samples, 0.05, axis=0, method="lower").astype(int)
        high = np.quantile(samples, 0.95, axis=0, method="higher").astype(int)
        assert np.array_equal(below, np.maximum(1, prediction.astype(int) - low))
        assert np.array_equal(above, np.maximum(1, high - prediction.astype(int)))

    @given(st.integers(0, 99), st.integers(0, len(earlier.LAMBDAS) - 1))
    @settings(max_examples=60, deadline=None)
    def test_the_curve_is_what_the_images_lose(self, seed, index):
        """At every λ the curve is the share outside the very images that are shown."""
        truth, prediction, samples = drawn(seed)
        widths = earlier.half_widths(samples, prediction)
        scale = float(earlier.LAMBDAS[index])
        curve = earlier.miss_curve(truth, prediction, widths)
        outside, _ = earlier.interval_score(truth, *earlier.interval(prediction, widths, scale))
        assert curve[index] == pytest.approx(outside, abs=1e-12)
        # By the definition, in real numbers.
        signed = truth.astype(float) - prediction
        inside = (signed <= scale * widths[1]) & (-signed <= scale * widths[0])
        assert 1 - outside == pytest.approx(inside.mean(), abs=1e-12)

    def test_the_scale_is_the_smallest_certified(self):
        """Every λ from λ̂ on passes the test, and the one below does not."""
        curves = [
            earlier.miss_curve(truth, prediction, earlier.half_widths(samples, prediction))
            for truth, prediction, samples in map(drawn, range(60))
        ]
        scale = earlier.interval_scale(curves, alpha=0.2, delta=0.1)
        p = earlier.hoeffding_bentkus_p_value(np.mean(curves, axis=0), 60, 0.2)
        index = int(np.flatnonzero(scale == earlier.LAMBDAS)[0])
        assert max(p[index:]) <= 0.1 < p[index - 1]
        assert np.mean(curves, axis=0)[index] < 0.2


@given(st.integers(0, 999), st.floats(0, 0.6))
@settings(max_examples=60, deadline=None)
def test_the_scale_of_an_image(seed, alpha):
    """λ_i keeps the weighted error at α, and a larger λ does not."""
    random = np.random.default_rng(seed)
    confidences = np.round(random.random((6, 5)), 1)  # with ties
    error = random.random((6, 5)) * random.integers(0, 2, (6, 5))
    [scale] = earlier.image_scale(confidences, error, [alpha])
    assert 0 <= scale <= 1
    assert earlier.weighted_error(earlier.weight_mask(confidences, scale), error) <= alpha + 1e-12
    if scale < 1:
        larger = earlier.weight_mask(confidences, scale * (1 + 1e-6) + 1e-9)
        assert earlier.weighted_error(larger, error) > alpha


class TestExampleB1:
    """The paper's Example B.1, decided exactly.

    σ is 0 everywhere; an image is perfect with probability 1 − q and wrong by 1 everywhere with
    probability q. With n calibration images the number K of wrong ones is binomial, and everything
    that a calibration can do depends on K alone: the method is run for every K, and the
    probabilities are summed. τ = (1 − q)^n is the probability that all are perfect.
    """

    N, Q = 39, 0.05
    SHAPE = (2, 2)
    TAU = (1 - Q) ** N  # 0.135
    DELTA = TAU / 2
    ALPHA = Q / 2

    @property
    def chances(self):
        """P(K = 0), …, P(K = n)."""
        return stats.binom.pmf(np.arange(self.N + 1), self.N, self.Q)

    def errors(self, wrong):
        return [np.full(self.SHAPE, float(k < wrong), np.float32) for k in range(self.N)]

    @pytest.mark.parametrize("quantile", [DELTA, 1 - DELTA])
    def test_their_claim_fails(self, quantile):
        """Eq. 3 promises a violation with probability at most δ; it is at least τ = 2δ."""
        confidences = np.zeros(self.SHAPE)  # [σ] = 0 in the paper's formula
        violated = []
        for wrong in range(self.N + 1):
            scales = [
                earlier.image_scale(confidences, error, [self.ALPHA])[0]
                for error in self.errors(wrong)
            ]
            scale = earlier.mask_scale(scales, delta=quantile)
            mask = earlier.weight_mask(confidences, scale)
            expected = self.Q * earlier.weighted_error(mask, np.ones(self.SHAPE))
            violated.append(expected > self.ALPHA)
        assert violated[0]  # the step of the paper's proof: λ = 1 when all are perfect
        probability = float(self.chances @ violated)
        assert probability >= self.TAU > self.DELTA


def test_the_p_value_is_mapies():
    """It equals that of an independent implementation."""
    oracle = pytest.importorskip("mapie.risk_control.methods").compute_hoeffding_bentkus_p_value
    random = np.random.default_rng(0)
    for n in (1, 7, 50, 2000):
        mean = np.concatenate([[0, 0.5, 1], random.random(100), random.random(100) / n])
        alpha = np.array([0.01, 0.05, 0.3, 0.9])
        found = earlier.hoeffding_bentkus_p_value(mean[:, None], n, alpha)
        np.testing.assert_allclose(found, oracle(mean, n, alpha), atol=1e-12)
