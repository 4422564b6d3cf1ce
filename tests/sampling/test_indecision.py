"""σ against the formulae of the paper in float64."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.conformal.oracle import lab64
from tests.conformal.strategies import accumulated, samples
from trustscale_server.sampling.sigma.estimators import ESTIMATORS, Accumulator, IndecisionSettings
from trustscale_server.sampling.sigma.fits import Fit
from trustscale_server.sampling.sigma.moments import MAX_SAMPLES

FIT = Fit(weights=(("residual@1", 0.4),))
PLAIN = IndecisionSettings(size=7, blur=0.0)
OF_PIXELS = [name for name, row in ESTIMATORS.items() if not row.is_for_text]


def lab_of(rgb):
    return np.moveaxis(lab64(rgb), 0, -1)


def sigma_of(stack, config=None, enlarged=None):
    return accumulated(stack, config, enlarged).result()


def box(plane, size=7):
    return ndimage.uniform_filter(plane, size, mode="reflect")


class TestEstimators:
    def test_the_variance_over_the_samples(self):
        """σ^var = Σ_c Var_M, within the error of the Lab tables; smoothed_variance is K * σ^var."""
        stack = samples()
        expected = np.stack([lab_of(s) for s in stack]).var(axis=0).sum(axis=-1)
        got = sigma_of(stack, IndecisionSettings("pixel_variance", blur=0))
        np.testing.assert_allclose(got, expected, atol=2e-7, rtol=1e-3)
        np.testing.assert_allclose(sigma_of(stack, PLAIN), box(expected), atol=2e-7, rtol=1e-3)

    def test_patch_variance_is_the_paper_s_formula_literally(self):
        """σ^ker = E_M[μ² * K] − (E_M[μ * K])², summed over channels."""
        lab = np.stack([lab_of(s) for s in samples()])
        blurred = lambda x: np.stack([[box(s[..., c]) for c in range(3)] for s in x]).mean(axis=0)  # noqa: E731
        expected = (blurred(lab**2) - blurred(lab) ** 2).sum(axis=0)
        got = sigma_of(samples(), replace(PLAIN, estimator="patch_variance"))
        np.testing.assert_allclose(got, expected, atol=3e-6, rtol=1e-3)

    def test_gaussian_window(self):
        """A Gaussian K of size 9 has standard deviation 1.5 and ends at its edge."""
        stack = samples()
        plain = sigma_of(stack, IndecisionSettings("pixel_variance", blur=0))
        got = sigma_of(stack, IndecisionSettings(kernel="gaussian", size=9, blur=0))
        np.testing.assert_allclose(
            got, ndimage.gaussian_filter(plain, 1.5, radius=4), rtol=1e-5, atol=1e-12
        )

    def test_clip_comes_before_the_blur(self):
        """σ is cut at the quantile of its own values, then blurred."""
        stack = samples()
        plain = sigma_of(stack, PLAIN)
        got = sigma_of(stack, IndecisionSettings(size=7, clip_quantile=0.8, blur=2))
        cut = np.minimum(plain, np.float32(np.quantile(plain, 0.8)))
        np.testing.assert_allclose(got, ndimage.gaussian_filter(cut, 2), rtol=1e-5)

    @pytest.mark.parametrize("count", [1, 5])
    def test_the_enlarged_input_is_departed_from(self, count):
        """σ = the larger of two Gaussian blurs of ‖E_M[μ] − E‖₁; where they are equal it is 0."""
        stack = samples(5, 70, 90)[:count]
        enlarged = stack[0].copy()
        enlarged[:40] = stack[0][:40, ::-1]
        got = sigma_of(stack, IndecisionSettings("departure"), enlarged)
        mean = np.stack([lab_of(sample) for sample in stack]).mean(axis=0)
        away = np.abs(mean - lab_of(enlarged)).sum(axis=-1)
        expected = np.maximum(*(ndimage.gaussian_filter(away, blur) for blur in (4, 8)))
        np.testing.assert_allclose(got, expected, atol=2e-5, rtol=2e-3)
        assert count > 1 or got[-5:].max() < 1e-4

    def test_what_looks_at_the_input_is_given_it(self):
        with pytest.raises(ValueError, match="enlarged input"):
            sigma_of(samples(), IndecisionSettings("departure"))


@pytest.mark.parametrize("name", OF_PIXELS)
def test_no_sigma_looks_beyond_its_radius(name):
    """A pixel that changes leaves σ as it is beyond the radius that the row names."""
    config = IndecisionSettings(
        name, size=3, blur=0.5, fit=FIT if ESTIMATORS[name].takes_fit else None
    )
    if config.radius is None:
        return
    enlarged = samples(1, 40, 40)[0]
    found = []
    for changed in (False, True):
        stack = samples(3, 40, 40)
        if changed:
            stack[1, 20, 20] ^= 255
        found.append(sigma_of(stack, config, enlarged))
    rows, columns = np.nonzero(found[0] != found[1])
    reach = max(np.abs(rows - 20).max(), np.abs(columns - 20).max())
    assert 0 <= reach <= config.radius
    assert not config.spec.smooths or not replace(config, clip_quantile=0.9).radius


class TestAccumulator:
    @settings(max_examples=40)
    @given(st.permutations(range(6)), st.sampled_from(OF_PIXELS))
    def test_the_order_of_arrival_does_not_matter(self, order, estimator):
        enlarged, *_ = stack = samples(6)
        config = IndecisionSettings(estimator, fit=FIT if ESTIMATORS[estimator].takes_fit else None)
        np.testing.assert_array_equal(
            sigma_of(stack, config, enlarged),
            sigma_of(stack[order], config, enlarged),
        )

    def test_identical_samples_are_noticed(self):
        one, other = samples(2)
        accumulator = Accumulator(one.shape)
        accumulator.add(one)
        assert not accumulator.identical()
        accumulator.add(one)
        assert accumulator.identical()
        assert (accumulator.pixel_variance() == 0).all()
        accumulator.add(other)
        assert not accumulator.identical()

    def test_what_cannot_be_folded(self):
        """Another size is an error, σ of nothing too, and a sample that could overflow the sums."""
        with pytest.raises(ValueError, match="expected a sample"):
            Accumulator((5, 5)).add(np.zeros((5, 6, 3), np.uint8))
        accumulator = Accumulator((1, 1))
        with pytest.raises(ValueError, match="no samples"):
            accumulator.result()
        for _ in range(MAX_SAMPLES):
            accumulator.add(np.full((1, 1, 3), 255, np.uint8))
        assert accumulator.pixel_variance() == 0
        with pytest.raises(ValueError, match="at most"):
            accumulator.add(np.zeros((1, 1, 3), np.uint8))


@pytest.mark.parametrize("height", [3, 64, 150])
def test_kept_or_folded(height):
    """Two samples that are kept as they are say the same, bit for bit, as their sums."""
    random = np.random.default_rng(height)
    enlarged, *stack = random.integers(0, 256, (3, height, 37, 3), np.uint8)
    sums = accumulated(np.array(stack), IndecisionSettings("departure"), enlarged)

    def told():
        return (*sums.maps(), sums.pixel_variance(), sums.result(), sums.identical())

    kept = told()
    sums.patch_variance("box", 3)  # needs the sums
    for one, other in zip(kept, told(), strict=True):
        np.testing.assert_array_equal(one, other)
