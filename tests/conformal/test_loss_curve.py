"""The loss curve, the risk curve and its masks against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.loss_curve import LossCurves

from . import oracle, strategies
from .strategies import ALPHAS, BOUND, CURVES, staircases_of


def field(kind, size, seed=0):
    random = np.random.default_rng(seed)
    noise = random.random((size, size), dtype=np.float32)
    if kind == "rough":
        return noise
    if kind == "smooth":
        return ndimage.gaussian_filter(noise, 8)
    if kind == "tied":
        return np.where(noise < 0.87, np.float32(0), np.round(noise * 50) / np.float32(64))
    return np.minimum(noise, np.float32(0.6))  # clipped


class TestFromMaps:
    @given(strategies.maps())
    def test_equals_the_definition_at_every_level(self, maps):
        """L(t) of the loss curve is max{D : σ ≤ t} at, between and outside all values of σ."""
        sigma, error = maps
        loss_curve = LossCurve.from_maps(sigma, error)
        values = np.unique(sigma)
        for t in [*values, *np.nextafter(values, -np.inf), *np.nextafter(values, np.inf)]:
            assert loss_curve.losses(t) == oracle.loss(sigma, error, t)
        assert loss_curve.losses(-np.inf) == 0
        assert loss_curve.losses(np.inf) == error.max()

    @pytest.mark.parametrize("sigma", ["rough", "smooth", "tied", "clipped"])
    @pytest.mark.parametrize("error", ["rough", "smooth", "tied"])
    def test_filter_drops_no_breakpoint_of_a_large_image(self, sigma, error):
        """Most pixels are dropped; the breakpoints are exactly those of a full sort."""
        s, d = field(sigma, 300, 1), field(error, 300, 2)
        order = np.argsort(s.ravel(), kind="stable")
        levels, running = s.ravel()[order], np.maximum.accumulate(d.ravel()[order])
        last = np.append(np.diff(levels) > 0, True)
        levels, running = levels[last], running[last]
        rises = np.diff(running, prepend=0) > 0
        loss_curve = LossCurve.from_maps(s, d)
        np.testing.assert_array_equal(loss_curve.levels, levels[rises])
        np.testing.assert_array_equal(loss_curve.errors, running[rises])

    @pytest.mark.parametrize(
        ("sigma", "error"),
        [(np.array([[np.nan]]), np.array([[0.1]])), (np.array([[np.inf]]), np.array([[0.1]])),
         (np.array([[0.1]]), np.array([[np.nan]])), (np.array([[0.1]]), np.array([[np.inf]])),
         (np.array([[0.1]]), np.array([[-0.1]])), (np.zeros((2, 2)), np.zeros((2, 3))),
         (np.zeros((0, 2)), np.zeros((0, 2)))],
    )  # fmt: skip
    def test_refuses_maps_without_a_meaning(self, sigma, error):
        with pytest.raises(ValueError, match=r"σ|D"):
            LossCurve.from_maps(sigma.astype(np.float32), error.astype(np.float32))


class TestStaircase:
    @given(strategies.maps())
    def test_loss_below_is_the_loss_of_the_strict_mask(self, maps):
        """L(t−) is max{D : σ < t}; of many thresholds at once it is the same, and so is L(t)."""
        sigma, error = maps
        loss_curve = LossCurve.from_maps(sigma, error)
        thresholds = np.array([*np.unique(sigma), np.inf, -np.inf])
        below = [error[sigma < t].max(initial=0) for t in thresholds]
        assert [loss_curve.losses_below(t) for t in thresholds] == below
        assert loss_curve.losses_below(thresholds).tolist() == below
        expected = [loss_curve.losses(t) for t in thresholds]
        assert loss_curve.losses(thresholds).tolist() == expected

    @pytest.mark.parametrize(
        ("levels", "errors"),
        [([1, 1], [1, 2]), ([1, 2], [2, 2]), ([2, 1], [1, 2]), ([1], [0]), ([1, 2], [1]),
         ([np.nan], [1]), ([[1]], [[1]])],
    )  # fmt: skip
    def test_refuses_what_is_not_a_staircase(self, levels, errors):
        """A stored loss curve that does not rise strictly, or is not finite, is refused."""
        with pytest.raises(ValueError, match="levels and errors"):
            LossCurve(np.array(levels, np.float32), np.array(errors, np.float32))

    def test_many_at_once(self):
        """Loss curves that lie one after the other are those, empty ones too, and are checked."""
        sizes = (0, 3, 0, 0, 1, 2, 0)
        one_by_one = [LossCurve(np.arange(size), np.arange(1, size + 1)) for size in sizes]
        levels = np.concatenate([one.levels for one in one_by_one])
        errors = np.concatenate([one.errors for one in one_by_one])
        many = LossCurves(levels, errors, np.array(sizes))
        many.raise_if_inconsistent()
        assert list(many) == list(LossCurves.from_curves(one_by_one)) == one_by_one
        for t in (-1.0, 0.0, 0.5, 1.0, 9.0):
            expected = [one.losses_below(t) for one in one_by_one]
            np.testing.assert_array_equal(many.losses_below(t), expected)
        places = np.array([5, 0, 1])
        assert list(many.take(places)) == [one_by_one[place] for place in places]
        for place in range(len(levels)):
            for wrong in (np.nan, -1.0):
                changed = np.where(np.arange(len(errors)) == place, wrong, errors)
                with pytest.raises(ValueError, match="errors above 0"):
                    LossCurves(levels, changed, np.array(sizes)).raise_if_inconsistent()
        with pytest.raises(ValueError, match="add up"):
            LossCurves(levels, errors, np.array([2, 3])).raise_if_inconsistent()


def curve_of(images, bound=BOUND):
    return RiskCurve.from_calibration_set(CalibrationSet(staircases_of(images), bound))


class TestRiskCurve:
    @given(strategies.images(), ALPHAS)
    def test_threshold_equals_brute_force(self, images, alpha):
        """t_α is the supremum that Algorithm 2 looks for, −∞ and +∞ included."""
        assert curve_of(images).threshold(alpha) == oracle.threshold(images, BOUND, alpha)

    @given(strategies.images(), strategies.maps(), ALPHAS)
    def test_trust_code_holds_the_masks_of_every_alpha(self, images, served, alpha):
        """{code ≤ α/B · 65534} is the mask, but for values within two codes of α; never larger."""
        sigma, _ = served
        curve = curve_of(images)
        allowed = curve.mask_of_code(curve.trust_code(sigma), alpha)
        if alpha < BOUND:
            told = curve.trust_code(sigma) <= math.floor(alpha / BOUND * 65534)
            np.testing.assert_array_equal(allowed, told)
        mask = curve.mask(sigma, alpha)
        assert not allowed[~mask].any()
        exact = np.vectorize(curve.risk, otypes=[np.float64])(sigma)
        close = np.abs(exact - alpha) <= 2 * BOUND / 65534
        np.testing.assert_array_equal(allowed[~close], mask[~close])

    @pytest.mark.parametrize("rule", CURVES)
    @given(images=strategies.images())
    def test_it_is_a_step_curve(self, rule, images):
        """Thresholds and values rise strictly, from that of the empty mask up to at most B."""
        curve = CURVES[rule](CalibrationSet(staircases_of(images), BOUND))
        assert (curve.n, curve.bound) == (len(images), BOUND)
        assert (np.diff(curve.thresholds) > 0).all()
        assert (np.diff(curve.risks, prepend=curve.min_alpha) > 0).all()
        assert curve.risk(math.inf) <= BOUND + 1e-12
        assert curve.threshold(BOUND) == math.inf
        assert curve.threshold(math.nextafter(curve.min_alpha, 0)) == -math.inf

    def test_a_large_image_is_read_off_exactly(self):
        """The look-up table of whole images answers like a binary search."""
        generator = np.random.default_rng(0)
        sigmas = generator.lognormal(-9, 2, (20, 64, 64)).astype(np.float32)
        errors = generator.random(sigmas.shape, dtype=np.float32)
        curve = curve_of(list(zip(sigmas, errors, strict=True)))
        sigma = generator.lognormal(-9, 3, (400, 500)).astype(np.float32)
        sigma[0, :3] = [0, -0.0, 1e-42]
        sigma[1, : len(curve.thresholds)] = curve.thresholds[:500]
        steps = np.append(curve.min_alpha, curve.risks)
        exact = steps[np.searchsorted(curve.thresholds, sigma, side="right")] / BOUND * 65534
        rounded = curve.trust_code(sigma) - exact
        assert rounded.min() >= 0
        assert rounded.max() <= 1 + 1e-6

    @pytest.mark.parametrize("rule", CURVES)
    def test_a_declared_bound_is_enforced(self, rule):
        with pytest.raises(ValueError, match="exceeds the bound"):
            CURVES[rule](CalibrationSet([LossCurve([1], [1.5])], 1.0))
        for bound in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="positive"):
                CURVES[rule](CalibrationSet([], bound))

    def test_refuses_nan(self):
        curve, sigma = curve_of([]), np.full((1, 1), np.nan, np.float32)
        for read, *values in (
            (curve.risk, math.nan),
            (curve.threshold, math.nan),
            (curve.mask, sigma, 0.1),
            (curve.trust_code, sigma),
            (curve.mask_of_code, np.zeros((1, 1), np.uint16), math.nan),
        ):
            with pytest.raises(ValueError, match=r"not a number|NaN"):
                read(*values)
