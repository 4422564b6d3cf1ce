"""α chosen after looking: the thresholds against brute force, and an adversary who chooses α."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.backtest import highest_trusted, sigma_quantiles
from trustscale_server.conformal.post_hoc import PostHocCurve, on_codes
from trustscale_server.conformal.risk_shape import Shape

from . import strategies
from .strategies import BOUND, staircases_of
from .test_guarantee import image
from .test_typical_error import SIGMAS

MENU = (0.25, 0.5, 1.0)
MENUS = st.lists(st.sampled_from([0.1, 0.3, 0.5, 1.0, 1.7]), min_size=1, unique=True).map(sorted)
SHAPES = st.sampled_from(
    [Shape.power(1.0), Shape.power(0.5), Shape((0.1, 0.3, 2.0), (0.01, 0.5, 0.6))]
)


def thresholds(shape, menu, place):
    """t_α(s) of each α at a place of the grid of scales."""
    risks = on_codes(np.array(menu), BOUND) * 2.0 ** (place / 512)
    with np.errstate(over="ignore"):
        return shape.level(risks).astype(np.float32)


def ratio(sigma, error, cuts, menu):
    """G(s) of an image: the largest L/α of its masks."""
    alphas = on_codes(np.array(menu), BOUND)
    losses = [error[sigma < cut].max(initial=0) for cut in cuts]
    return max(float(loss) / alpha for loss, alpha in zip(losses, alphas, strict=True))


def by_hand(images, menu, shape, places):
    """Whether (Σ G(s) + B/min A)/(K + 1) ≤ 1 at these places of the grid."""
    largest = BOUND / on_codes(np.array(menu), BOUND)[0]
    for place in places:
        cuts = thresholds(shape, menu, place)
        total = math.fsum(ratio(*maps, cuts, menu) for maps in images)
        yield (total + largest) / (len(images) + 1) <= 1 + 1e-12


def test_the_end_of_what_is_trusted_depends_on_the_scenes():
    """Whichever of 40 scenes is the new one, the end follows from the others: mean max L/α ≤ 1.

    Without one of twelve that lose at σ = 2 less than 95 % of the area lies below, without any
    other not; three lose at the smallest σ.
    """
    count, menu = 40, (0.1, 0.5)
    sigmas, errors = np.full((count, 1, 101), 2, np.float32), np.zeros((count, 1, 101), np.float32)
    for scene, low in enumerate([96] * 12 + [94] * 12 + [95] * 16):
        sigmas[scene, 0, : low + 1] = 1
    sigmas[:, 0, 0] = 0.5
    errors[:12, 0, 97:], errors[12:15, 0, 0] = 1, 1
    images = [LossCurve.from_maps(*maps) for maps in zip(sigmas, errors, strict=True)]
    levels = np.linspace(0, 1, 101)
    quantiles = np.array([sigma_quantiles(sigma, levels) for sigma in sigmas])
    worst = []
    for new in range(count):
        known = [k for k in range(count) if k != new]
        highest = highest_trusted(quantiles[known], [Fraction(1)] * len(known))
        calibration_set = CalibrationSet([images[k] for k in known], 1.0, highest=highest)
        curve = PostHocCurve.from_calibration_set(
            calibration_set, menu=menu, shape=Shape.power(1.0)
        )
        worst.append(max(images[new].losses_below(curve.threshold(a)) / a for a in menu))
    assert np.mean(worst) <= 1


@given(strategies.images(min_size=1), MENUS, SHAPES)
def test_the_scale_is_the_last_that_fits(images, menu, shape):
    """At the masks of the curve the sum fits; a step further it does not, or all is in."""
    # Without numbers that are too small for the search below.
    images = [(np.where(sigma < 1e-30, np.float32(0), sigma), error) for sigma, error in images] * 4
    curve = PostHocCurve.from_calibration_set(
        CalibrationSet(staircases_of(images), BOUND), menu=menu, shape=shape
    )
    low, high = (int(512 * math.log2(float(shape.risk(level)))) for level in (1e-38, 1e38))
    low, high = low + 4096, high + 4096  # no threshold is below all numbers
    if curve.highest == -math.inf:
        assert not any(by_hand(images, menu, shape, [low]))
        assert not curve.mask(images[0][0], 1.9).any()
        return
    cut = curve.threshold(menu[0])
    while high - low > 1:  # the last place of the grid with such a threshold
        middle = (low + high) // 2
        is_below = thresholds(shape, menu, middle)[0] <= cut
        low, high = (middle, high) if is_below else (low, middle)
    np.testing.assert_array_equal(
        [curve.threshold(alpha) for alpha in menu], thresholds(shape, menu, low)
    )
    fits, further = by_hand(images, menu, shape, [low, low + 1])
    assert fits
    assert not further or all((sigma < cut).all() for sigma, _ in images)


@given(strategies.images(min_size=1), strategies.maps(), MENUS, SHAPES)
def test_its_masks(images, served, menu, shape):
    """They grow with α, lie inside those for an α named before, and are those of the codes."""
    loss_curves, sigma = staircases_of(images * 5), served[0]
    curve = PostHocCurve.from_calibration_set(
        CalibrationSet(loss_curves, BOUND), menu=menu, shape=shape
    )
    named = RiskCurve.from_calibration_set(CalibrationSet(loss_curves, BOUND))
    codes = curve.trust_code(sigma)
    masks = [curve.mask(sigma, alpha) for alpha in menu]
    for alpha, mask, larger in zip(menu, masks, [*masks[1:], masks[-1]], strict=True):
        assert not (mask & ~larger).any()
        assert not (mask & ~named.mask(sigma, alpha)).any()
        np.testing.assert_array_equal(curve.mask_of_code(codes, alpha), mask)
        np.testing.assert_array_equal(curve.mask(sigma, alpha * 1.01), mask)
    assert not curve.mask(sigma, menu[0] * 0.99).any()
    np.testing.assert_array_equal(curve.mask(sigma, min(BOUND * 0.99, 2 * menu[-1])), masks[-1])


@pytest.mark.parametrize("slope", [2, 8, 20, 1e3, 1e6])
def test_steep_shapes(slope):
    """Their risks at the smallest and the largest σ are no float64; the sum fits all the same."""
    random = np.random.default_rng(0)
    sigmas, errors = random.random((2, 40, 8, 8), np.float32)
    shape = Shape((0.5, 0.5 * 2 ** (1 / slope)), (0.1, 0.2))
    images = [LossCurve.from_maps(*maps) for maps in zip(sigmas, errors / 5, strict=True)]
    calibration_set = CalibrationSet(images, BOUND, highest=0.9)
    curve = PostHocCurve.from_calibration_set(calibration_set, menu=MENU, shape=shape)
    cuts = [curve.threshold(alpha) for alpha in MENU]
    alphas = on_codes(np.array(MENU), BOUND)
    total = math.fsum(ratio(*maps, cuts, MENU) for maps in zip(sigmas, errors / 5, strict=True))
    assert cuts[-1] > 0
    assert (total + BOUND / alphas[0]) / (len(images) + 1) <= 1 + 1e-12


def test_several_crops_are_one_scene():
    """A scene counts with the mean of its crops: twice each is the same as once."""
    random = np.random.default_rng(0)
    crops = [image(random, 0) for _ in range(30)]
    once = PostHocCurve.from_calibration_set(
        CalibrationSet(crops, 1.0), menu=MENU, shape=Shape.power(1)
    )
    twice = PostHocCurve.from_calibration_set(
        CalibrationSet(crops * 2, 1.0, scenes=[*range(30)] * 2), menu=MENU, shape=Shape.power(1)
    )
    assert (twice.n, twice.ratio) == (30, once.ratio)
    np.testing.assert_array_equal(twice.thresholds, once.thresholds)


@pytest.mark.parametrize("wrong", [(), (0.2, 0.1), (0.0, 0.1), (-0.1,), (0.1, 0.1), (1e-9,)])
def test_refuses(wrong):
    """A menu that does not rise from above 0, or from what 16 bits can hold."""
    with pytest.raises(ValueError, match="risk level"):
        PostHocCurve.from_calibration_set(CalibrationSet([], 1.0), menu=wrong, shape=Shape.power(1))


def test_through_its_knots():
    """It is monotone, passes the knots, and goes straight on in logarithms."""
    shape = Shape((0.1, 1.0, 10.0), (0.01, 0.1, 0.2))
    np.testing.assert_allclose(shape.risk([0.1, 1, 10]), [0.01, 0.1, 0.2])
    np.testing.assert_allclose(shape.risk([0.01, 100]), [0.001, 0.4])
    levels = np.geomspace(1e-6, 1e6, 50)
    np.testing.assert_allclose(shape.level(shape.risk(levels)), levels)


@pytest.fixture(scope="module")
def drawn():
    """Of each of 250 calibrations of 40 scenes: max L/α over new images, ratio, and those of today.

    Every new image has an adversary who picks the α of the menu that loses most for its size.
    """
    random = np.random.default_rng(5)
    population = [image(random, 256) for _ in range(300)]
    shape = Shape.from_loss_curves([image(random, 256) for _ in range(40)])
    cuts, ratios = [], []
    for _ in range(250):
        scenes = [population[k] for k in random.integers(300, size=40)]
        curve = PostHocCurve.from_calibration_set(
            CalibrationSet(scenes, 1.0), menu=MENU, shape=shape
        )
        named = RiskCurve.from_calibration_set(CalibrationSet(scenes, 1.0))
        cuts.append([[one.threshold(alpha) for alpha in MENU] for one in (curve, named)])
        ratios.append(curve.ratio)
    worst = np.array([np.max(one.losses_below(np.array(cuts)) / MENU, -1) for one in population])
    return *worst.mean(axis=0).T, np.mean(worst[..., 0] > ratios, axis=0)


def test_an_adversary_gains_nothing(drawn):
    """E[L/α] ≤ 1 although α is picked to lose most; with the thresholds for a named α he gains."""
    post_hoc, named, exceeds = drawn
    assert post_hoc.mean() <= 1 + SIGMAS * stats.sem(post_hoc)
    assert post_hoc.mean() > 0.7  # it is no empty caution
    assert named.mean() > 1 + SIGMAS * stats.sem(named)
    assert exceeds.mean() <= 0.1 + SIGMAS * stats.sem(exceeds)
