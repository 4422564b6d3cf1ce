"""What nine of ten pictures do not exceed, how many exceed a tolerance, which are unlike others."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.calibration.guarantee import Expectation, Probability
from app.conformal import RiskCurve
from app.conformal.concentration import clopper_pearson_bound
from app.conformal.risk import exceeded_by
from app.conformal.typicality import p_value

from . import oracle, strategies
from .strategies import ALPHAS, BOUND, staircases_of
from .test_guarantee import image

LOSSES = st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0]), min_size=1, max_size=3))
SIGMAS = 5
"""Standard errors that a simulation may be off: chance does that once in three million."""


@given(LOSSES, st.sampled_from([0.1, 0.25, 0.5]))
def test_the_share_that_exceeds_it(losses, share):
    """It is the least value that so few scenes exceed, the new one counted; None: there is none."""

    def exceeds(tau):
        above = math.fsum(np.mean([loss > tau for loss in crops]) for crops in losses)
        return (above + 1) / (len(losses) + 1)

    values = sorted({0.0, *(loss for crops in losses for loss in crops)})
    fitting = [tau for tau in values if exceeds(tau) <= share]
    assert exceeded_by(losses, share) == (fitting[0] if fitting else None)


@given(strategies.maps(), st.floats(0, BOUND))
def test_a_tolerance_makes_one_step(maps, tolerance):
    """Its loss is 1 from where the largest error exceeds τ, else 0."""
    (staircase,) = staircases_of([maps])
    step = staircase.exceeding(tolerance)
    for t in maps[0].ravel():
        assert step.loss(t) == (oracle.loss(*maps, t) > tolerance)


@given(strategies.images(min_size=1), ALPHAS, st.sampled_from([0.1, 0.3, 1.0]))
def test_the_threshold_of_a_share(images, alpha, tolerance):
    """It is that of the risk curve of errors of 0 or 1, whatever bound the errors have."""
    exceeds = [(sigma, (error > tolerance).astype(np.float32)) for sigma, error in images]
    curve = Probability(tolerance=tolerance).curve(staircases_of(images), BOUND)
    assert curve.threshold(alpha) == oracle.threshold(exceeds, 1.0, alpha)


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.5, 0.1, 0.01]))
def test_clopper_and_pearson(count, n, delta):
    """At their bound so few of n are seen with probability δ; of n of n it is 1."""
    bound = float(clopper_pearson_bound(count, n, delta))
    if count >= n:
        assert bound == 1
    else:
        assert stats.binom.cdf(count, n, bound) == pytest.approx(delta, rel=1e-6)


@pytest.fixture(scope="module")
def population():
    """The whole law: 400 images whose error grows with σ, σ on 256 levels, so that it has ties."""
    random = np.random.default_rng(3)
    return [image(random, 256) for _ in range(400)]


def calibrations(population, n, draws=600):
    """Calibrations of n images drawn from the population, and the loss of all of it at any t."""
    random = np.random.default_rng(11)
    for _ in range(draws):
        yield [population[k] for k in random.integers(len(population), size=n)]


def test_one_of_ten_exceeds_it(population):
    """τ̂ and the mask are of the same scenes, and still at most one of ten new ones exceeds τ̂."""
    found, naive = [], []
    for drawn in calibrations(population, 99, draws=300):
        curve = RiskCurve.from_staircases(drawn, 1.0)
        threshold = curve.threshold(0.2)
        losses = np.array([one.loss_below(threshold) for one in population])
        usual = Expectation().usual(curve, [[one] for one in drawn], 0.2)
        found.append(np.mean(losses > usual.error))
        naive.append(np.mean(losses > exceeded_by([[one.loss_below(threshold)] for one in drawn])))
    assert np.mean(found) <= 0.1 + SIGMAS * stats.sem(found)
    assert np.mean(found) < np.mean(naive)
    assert np.mean(found) > 0.03  # it is no empty caution


def test_a_share_of_pictures(population):
    """At most β of new pictures exceed τ; at hand what Clopper and Pearson say, 19 in 20."""
    plain, sure = Probability(tolerance=0.3), Probability(tolerance=0.3, delta=0.1)
    lost = np.array([one.exceeding(0.3).levels[:1].sum() or np.inf for one in population])
    shares, at_hand, above = [], [], []
    for drawn in calibrations(population, 49):
        share = np.mean(lost < plain.curve(drawn, 1.0).threshold(0.2))
        shares.append(share)
        at_hand.append(share > plain.at_hand(0.2, 49))
        above.append(np.mean(lost < sure.curve(drawn, 1.0).threshold(0.2)) > 0.2)
    assert np.mean(shares) <= 0.2 + SIGMAS * stats.sem(shares)
    assert np.mean(shares) > 0.1
    assert np.mean(at_hand) <= 0.05 + SIGMAS * math.sqrt(0.05 * 0.95 / 600)
    assert np.mean(above) <= 0.1 + SIGMAS * math.sqrt(0.1 * 0.9 / 600)
    assert np.mean(np.array(shares) > 0.2) > 0.2  # in expectation no such thing holds


@pytest.mark.parametrize("n", [3, 15, 60])
def test_it_is_valid_however_few_they_are(n):
    """P(p ≤ u) ≤ u for exchangeable points of a skewed law with dependent coordinates."""
    random = np.random.default_rng(n)
    draws = 1500
    points = random.gamma(0.7, 1, (draws, n + 1, 4))
    points[..., 1] += 3 * points[..., 0]
    found = [p_value(p[:-1], p[-1]) for p in points]
    for u in (1 / (n + 1), 0.1, 0.3, 0.7):
        below = np.sum(np.array(found) <= u + 1e-12)
        assert below <= stats.binom.ppf(0.9999, draws, max(u, 1 / (n + 1)))


def test_it_sees_what_no_single_fact_shows():
    """Two facts within their ranges, but never together so, give the smallest p-value."""
    random = np.random.default_rng(0)
    known = random.normal(size=(60, 1)) * [1, 1] + random.normal(scale=0.05, size=(60, 2))
    assert p_value(known, np.array([1.2, -1.2])) == pytest.approx(1 / 61)
    assert p_value(known, np.array([1.2, 1.2])) > 0.1
