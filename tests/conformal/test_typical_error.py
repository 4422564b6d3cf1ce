"""What nine of ten spots do not exceed, and how many exceed a tolerance."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.calibration.guarantee_kinds import Expectation, Probability
from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.backtest import highest_trusted, sigma_quantiles
from trustscale_server.conformal.risk_curve import exceeded_by
from trustscale_server.conformal.scenes import Scene

from . import oracle, strategies
from .strategies import ALPHAS, BOUND, staircases_of
from .test_guarantee import image

LOSSES = st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0]), min_size=1, max_size=3))
SIGMAS = 5
"""Standard errors that a simulation may be off: chance does that once in three million."""


@given(LOSSES, st.sampled_from([0.1, 0.25, 0.5]))
@example([[0.0]] * 10 + [[0.1]] * 7 + [[0.1] * 3, [0.25]], 0.5)  # a tie that floats would miss
def test_the_share_that_exceeds_it(losses, share):
    """It is the least value that so few scenes exceed, the new one counted; None: there is none."""

    def exceeds(tau):
        shares = (Fraction(sum(loss > tau for loss in crops), len(crops)) for crops in losses)
        return (sum(shares) + 1) / (len(losses) + 1)

    values = sorted({0.0, *(loss for crops in losses for loss in crops)})
    expected = next((tau for tau in values if exceeds(tau) <= Fraction(share)), None)
    scenes = [Scene([], [1] * len(crops), len(crops)) for crops in losses]
    assert exceeded_by(list(map(np.array, losses)), scenes, share) == expected


@given(strategies.maps(), st.floats(0, BOUND))
def test_a_tolerance_makes_one_step(maps, tolerance):
    """Its loss is 1 from where the largest error exceeds τ, else 0."""
    (loss_curve,) = staircases_of([maps])
    step = loss_curve.exceeding(tolerance)
    for t in maps[0].ravel():
        assert step.losses(t) == (oracle.loss(*maps, t) > tolerance)


@given(strategies.images(min_size=1), ALPHAS, st.sampled_from([0.1, 0.3, 1.0]))
def test_the_threshold_of_a_share(images, alpha, tolerance):
    """It is that of the risk curve of errors of 0 or 1, whatever bound the errors have."""
    exceeds = [(sigma, (error > tolerance).astype(np.float32)) for sigma, error in images]
    curve = Probability(tolerance=tolerance).curve(CalibrationSet(staircases_of(images), BOUND))
    assert curve.threshold(alpha) == oracle.threshold(exceeds, 1.0, alpha)


@pytest.fixture(scope="module")
def population():
    """The whole law: 400 images whose error grows with σ, σ on 256 levels, so that it has ties."""
    random = np.random.default_rng(3)
    return [image(random, 256) for _ in range(400)]


def calibrations(population, n, draws):
    """The places of n images of each calibration drawn from the population, and these images."""
    random = np.random.default_rng(11)
    places = random.integers(len(population), size=(draws, n))
    return places, [[population[k] for k in drawn] for drawn in places]


def test_one_of_ten_exceeds_it(population):
    """τ̂ and the mask are of the same scenes, and still at most one of ten new ones exceeds τ̂."""
    places, drawn = calibrations(population, 99, 200)
    curves = [RiskCurve.from_calibration_set(CalibrationSet(images, 1.0)) for images in drawn]
    cuts = np.array([curve.threshold(0.2) for curve in curves])
    lost = np.array([one.losses_below(cuts) for one in population]).T  # [draw, image]
    typical = [
        Expectation().typical_error(curve, CalibrationSet(images, 1.0), 0.2).error
        for curve, images in zip(curves, drawn, strict=True)
    ]
    own = np.take_along_axis(lost, places, axis=1)
    one_each = [Scene([], [1], 1)] * own.shape[1]
    found = (lost > np.array(typical)[:, None]).mean(axis=1)
    taus = [exceeded_by(list(losses[:, None]), one_each) for losses in own]
    naive = (lost > np.array(taus)[:, None]).mean(axis=1)
    assert found.mean() <= 0.1 + SIGMAS * stats.sem(found)
    assert found.mean() < naive.mean()
    assert found.mean() > 0.03  # it is no empty caution


def cut_by_area(count):
    """σ and D of `count` scenes, two of which lose 0.5 at σ = 1, and two others 1 at σ = 2.

    Without one of the latter less than 95 % of the area lies at σ = 1, without any other scene not:
    so the end of what is trusted is 2 only where one of these is the new scene.
    """
    sigmas, errors = np.full((count, 1, 101), 2, np.float32), np.zeros((count, 1, 101), np.float32)
    for scene, low in enumerate([96, 96, 94, 94, *[95] * (count - 4)]):
        sigmas[scene, 0, : low + 1] = 1
    errors[:2, 0, 97:], errors[2:4, 0, 0] = 1, 0.5
    return sigmas, errors


@pytest.mark.parametrize(("robust", "count"), [(1.0, 20), (1.25, 25)])
def test_the_end_of_what_is_trusted_depends_on_the_scenes(robust, count):
    """Whichever scene is the new one, the end follows from the others: β/Γ of them exceed τ̂."""
    sigmas, errors = cut_by_area(count)
    images = [LossCurve.from_maps(*maps) for maps in zip(sigmas, errors, strict=True)]
    levels = np.linspace(0, 1, 101)
    quantiles = np.array([sigma_quantiles(sigma, levels) for sigma in sigmas])
    promise, exceeds = Expectation(robust=robust), []
    for new in range(count):
        known = [k for k in range(count) if k != new]
        highest = highest_trusted(quantiles[known], [Fraction(1)] * len(known))
        calibration_set = CalibrationSet([images[k] for k in known], 1.0, highest=highest)
        curve = promise.curve(calibration_set)
        typical = promise.typical_error(curve, calibration_set, 0.9)
        exceeds.append(images[new].losses_below(curve.threshold(0.9)) > typical.error)
    assert np.mean(exceeds) <= 0.1 / robust


def test_a_share_of_pictures(population):
    """At most β of new pictures exceed τ; with δ also for the calibration at hand."""
    draws = 250
    plain, sure = Probability(tolerance=0.3), Probability(tolerance=0.3, delta=0.1)
    lost = np.array([one.exceeding(0.3).levels[:1].sum() or np.inf for one in population])
    _, drawn = calibrations(population, 49, draws)
    shares, above = (
        np.array(
            [
                np.mean(lost < one.curve(CalibrationSet(images, 1.0)).threshold(0.2))
                for images in drawn
            ]
        )
        for one in (plain, sure)
    )
    assert shares.mean() <= 0.2 + SIGMAS * stats.sem(shares)
    assert shares.mean() > 0.1
    assert np.mean(above > 0.2) <= 0.1 + SIGMAS * math.sqrt(0.1 * 0.9 / draws)
    assert np.mean(shares > 0.2) > 0.2  # in expectation no such thing holds
