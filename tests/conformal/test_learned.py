"""The learned σ: a function of the samples alone, named by its weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from app.conformal import learned, texture
from app.conformal.indecision import Accumulator, Settings

LEARNED = Settings("learned")


def samples(count=5, height=48, width=56, seed=0):
    random = np.random.default_rng(seed)
    base = ndimage.gaussian_filter(random.integers(0, 256, (height, width, 3)), (3, 3, 0))
    noise = random.normal(0, 9, (count, height, width, 3))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


def sigma_of(stack, config=LEARNED):
    accumulator = Accumulator(stack.shape[1:], config)
    for sample in stack:
        accumulator.add(sample)
    return accumulator.result()


class TestSigma:
    @settings(max_examples=10, deadline=None)
    @given(st.permutations(range(6)))
    def test_the_order_of_arrival_does_not_matter(self, order):
        """Any order of the samples gives the same σ, bit for bit."""
        stack = samples(6)
        np.testing.assert_array_equal(sigma_of(stack), sigma_of(stack[list(order)]))

    def test_it_is_the_exponential_of_the_weighted_terms(self):
        """σ = exp(w₀ + Σ_j w_j f_j), interpolated from cells of 4×4 pixels."""
        accumulator = Accumulator((48, 56), LEARNED)
        for sample in samples():
            accumulator.add(sample)
        terms = texture.dense_terms(accumulator.pixel_variance(), accumulator.mean_lab())
        weights = np.array([learned.WEIGHTS.get(name, 0.0) for name in texture.term_names()])
        cells = np.exp(np.tensordot(weights, terms.astype(np.float64), 1) + learned.OFFSET)
        expected = texture.enlarge(cells, (48, 56))
        np.testing.assert_allclose(accumulator.result(), expected, rtol=1e-4)

    def test_more_disagreement_is_a_larger_sigma(self):
        """With the same mean image, four times the variance raises σ at every pixel."""
        random = np.random.default_rng(1)
        mean = ndimage.gaussian_filter(random.random((3, 64, 64)), (0, 3, 3)).astype(np.float32)
        variance = random.random((64, 64)).astype(np.float32) * 1e-3
        assert (learned.sigma(4 * variance, mean) > learned.sigma(variance, mean)).all()

    def test_its_values_are_fixed(self):
        """A calibration is portable: these values must not move with a machine or a library."""
        y, x = np.mgrid[:64, :64]
        mean = np.stack([x * 7 + y * 3 & 63, (x * y & 31) + 16, (x + 2 * y & 15) * 4]) / 64
        variance = ((x * 5 + y * 11) % 97 / 97e3).astype(np.float32)
        sigma = learned.sigma(variance, mean.astype(np.float32))
        np.testing.assert_allclose(
            [sigma[0, 0], sigma[10, 33], sigma[63, 63], sigma.mean(dtype=np.float64)],
            [0.07885231078, 0.09044829756, 0.08520976454, 0.08801498744],
            rtol=3e-7,
        )

    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 128, 255, None]))
    def test_any_samples_give_a_finite_sigma(self, height, width, level):
        """Flat, saturated, identical and tiny samples have a σ that is finite and above 0."""
        stack = samples(3, height, width)
        if level is not None:
            stack[...] = level
        sigma = sigma_of(stack)
        assert (sigma.shape, sigma.dtype) == ((height, width), np.float32)
        assert np.isfinite(sigma).all()
        assert sigma.min() > 0

    def test_the_other_settings_do_not_touch_it(self):
        """Window, blur and clipping belong to the other estimators."""
        stack = samples()
        other = Settings("learned", kernel="gaussian", size=3, blur=0, clip_quantile=0.5)
        np.testing.assert_array_equal(sigma_of(stack), sigma_of(stack, other))
        assert other.window == 1


class TestState:
    def test_every_weight_is_a_term(self):
        """No weight names a term that is not measured."""
        assert set(learned.WEIGHTS) <= set(texture.term_names())

    @given(st.sampled_from(sorted(learned.WEIGHTS)), st.floats(1e-4, 1))
    def test_other_weights_have_another_state(self, name, step):
        """The state follows from the weights: whoever changes one changes it."""
        weights = {**learned.WEIGHTS, name: learned.WEIGHTS[name] + step}
        state = learned.state_of(learned.NAME, learned.OFFSET, weights)
        assert state != learned.STATE
        assert learned.state_of(learned.NAME, learned.OFFSET, learned.WEIGHTS) == learned.STATE

    def test_it_is_part_of_the_settings(self):
        """Settings of the learned σ carry the state, those of the others none."""
        assert LEARNED.to_dict()["state"] == learned.STATE
        assert Settings().to_dict()["state"] is None
        with pytest.raises(ValueError, match="only the learned"):
            Settings(state=learned.STATE)

    def test_foreign_weights_are_never_replaced(self):
        """Settings of other weights can be read, but make no σ."""
        foreign = Settings("learned", state="of-another-program")
        with pytest.raises(ValueError, match="of-another-program"):
            sigma_of(samples(), foreign)
