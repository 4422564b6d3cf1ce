"""The robust promise: against the bound itself, every order of few scenes, and the hardest law."""

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.post_hoc import PostHocCurve
from trustscale_server.conformal.risk_shape import Shape
from trustscale_server.conformal.robust import MAX_ROBUST, RobustCurve, cut_share, harder

from . import strategies
from .strategies import ALPHAS, BOUND, staircases_of

FACTORS = st.sampled_from([1.0, 1.25, 1.5, 2.0, 7.0])
SIGMAS = 5
"""Standard errors that a simulation may be off: chance does that once in three million."""


def hardest(losses, weights, robust):
    """The largest weighted mean, if every weight may grow by Γ and their sum stays."""
    left, total = sum(weights), 0.0
    for loss, weight in sorted(zip(losses, weights, strict=True), reverse=True):
        taken = min(left, robust * weight)
        total, left = total + taken * loss, left - taken
    return total / sum(weights)


def excess(losses, weights, alpha, robust, *, new):
    """Σ w (L′ − α) of pictures, and of a new one that loses B or, at the least, κ α."""
    cut = cut_share(robust) * alpha

    def raised(loss):
        return cut + robust * max(loss - cut, 0)

    known = math.fsum(w * (raised(loss) - alpha) for loss, w in zip(losses, weights, strict=True))
    return known + raised(BOUND if new else 0) - alpha


PICTURES = st.lists(
    st.tuples(
        st.lists(strategies.maps(), min_size=1, max_size=3),
        st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(1, 7)]),
    ),
    max_size=5,
)


@given(PICTURES, ALPHAS, FACTORS)
def test_the_threshold_is_that_of_the_bound(pictures, alpha, robust):
    """sup{t : Σ w (L̄′ − α) + new one ≤ 0}, tried at every σ; t⁺ with a new one without error."""
    curves = [staircases_of(spots) for spots, _ in pictures]
    weights = [weight for _, weight in pictures]
    curve = RobustCurve.from_calibration_set(
        CalibrationSet(
            [spot for spots in curves for spot in spots],
            BOUND,
            pictures=[k for k, spots in enumerate(curves) for _ in spots],
            weights=[
                w / len(spots) for spots, w in zip(curves, weights, strict=True) for _ in spots
            ],
        ),
        robust=robust,
    )
    levels = sorted({float(level) for spots in curves for spot in spots for level in spot.levels})
    for found, new in ((curve.threshold(alpha), True), (curve.lenient_threshold(alpha), False)):
        for t in [-math.inf, *levels]:
            means = [
                float(np.mean([spot.losses(t) for spot in spots], dtype=float)) for spots in curves
            ]
            over = excess(means, list(map(float, weights)), alpha, robust, new=new)
            if abs(over) > 1e-7 and alpha < BOUND:
                assert (t < found or found == math.inf) == (over < 0) or found == t == -math.inf


@given(strategies.images(), ALPHAS)
def test_with_factor_one_it_is_the_plain_promise(images, alpha):
    curves = staircases_of(images)
    plain = RiskCurve.from_calibration_set(CalibrationSet(curves, BOUND))
    robust = RobustCurve.from_calibration_set(CalibrationSet(curves, BOUND), robust=1.0)
    scaled = harder(plain, 1.0)
    for t in [-math.inf, 0.0, *plain.thresholds.tolist()]:
        assert robust.risk(t) == pytest.approx(plain.risk(t), rel=1e-9)
        assert scaled.risk(t) == pytest.approx(plain.risk(t), rel=1e-9)
    assert robust.threshold(alpha * (1 - 1e-9)) <= plain.threshold(alpha)


SCENES = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, BOUND]), min_size=3, max_size=3).map(sorted),
    min_size=2,
    max_size=5,
)
"""Losses of a few scenes at three thresholds."""


@given(SCENES, st.sampled_from([0.3, 0.5, 0.8, 1.2, 1.7]), FACTORS)
def test_every_order_of_few_scenes(scenes, alpha, robust):
    """Whichever is the new one, and however an opponent weighs them by up to Γ, the mean loss ≤ α.

    The population is known entirely; all its orders are as likely as each other, and the opponent
    knows the calibration and the errors of the new scene.
    """
    curves = [
        LossCurve.from_maps(np.float32([[0, 1, 2]]), np.float32([losses])) for losses in scenes
    ]
    lost = []
    for order in permutations(range(len(scenes))):
        *known, new = order
        threshold = RobustCurve.from_calibration_set(
            CalibrationSet([curves[k] for k in known], BOUND), robust=robust
        ).threshold(alpha)
        lost.append(float(curves[new].losses_below(threshold)))
    assert hardest(lost, [1.0] * len(lost), robust) <= alpha + 1e-9


@given(SCENES, FACTORS)
def test_every_order_where_alpha_is_chosen_after_looking(scenes, robust):
    """The same of max L/α over a menu, by an opponent who also chooses α: at most 1."""
    curves = [
        LossCurve.from_maps(np.float32([[0.1, 1, 2]]), np.float32([losses])) for losses in scenes
    ]
    menu = (0.6, 1.1, 1.9)
    ratios = []
    for order in permutations(range(len(scenes))):
        *known, new = order
        made = PostHocCurve.from_calibration_set(
            CalibrationSet([curves[k] for k in known], BOUND),
            menu=menu,
            shape=Shape.power(1.0),
            robust=robust,
        )
        ratios.append(max(float(curves[new].losses_below(made.threshold(a))) / a for a in menu))
    assert hardest(ratios, [1.0] * len(ratios), robust) <= 1 + 1e-4


LAWS = {
    "exponential": lambda random, n: random.exponential(1.0, n),
    "mostly none": lambda random, n: random.exponential(2.0, n) * (random.random(n) < 0.3),
    "even": lambda random, n: random.uniform(0.5, 1.5, n),
}
"""How steeply the errors of n pictures rise with σ."""

SIGMA = np.geomspace(0.05, 0.5, 120).astype(np.float32)


def rising(slope):
    errors = np.minimum(SIGMA * np.float32(slope), 1)
    return LossCurve.from_maps(SIGMA[None], errors[None])


def lost_by_the_hardest(slopes, threshold, robust):
    """The mean loss of the worst 1/Γ of these pictures inside {σ < t}."""
    most = SIGMA[np.searchsorted(SIGMA, threshold) - 1] if threshold > SIGMA[0] else 0
    return np.sort(np.minimum(slopes * most, 1))[-int(len(slopes) / robust) :].mean()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("robust", [1.25, 2.0])
def test_the_hardest_selection_reaches_the_bound(law, robust):
    """Of new pictures the worst 1/Γ are kept: they lose at most α, and hardly less.

    The plain promise breaks under the same selection.
    """
    random = np.random.default_rng(5)
    alpha, slopes = 0.2, LAWS[law](random, 4000)
    found = {"robust": [], "plain": []}
    for _ in range(40):
        curves = [rising(slope) for slope in LAWS[law](random, 200)]
        robust_curve = RobustCurve.from_calibration_set(CalibrationSet(curves, 1.0), robust=robust)
        plain_curve = RiskCurve.from_calibration_set(CalibrationSet(curves, 1.0))
        for name, curve in (("robust", robust_curve), ("plain", plain_curve)):
            found[name].append(lost_by_the_hardest(slopes, curve.threshold(alpha), robust))
    risks, plain = np.array(found["robust"]), np.array(found["plain"])
    assert risks.mean() <= alpha + SIGMAS * stats.sem(risks)
    assert plain.mean() > alpha + SIGMAS * stats.sem(plain)
    if law == "exponential":  # for which κ is best
        assert risks.mean() > 0.9 * alpha


@pytest.mark.parametrize("robust", [0.99, MAX_ROBUST + 1, math.nan])
def test_factors_without_meaning(robust):
    with pytest.raises(ValueError, match="robust"):
        cut_share(robust)
