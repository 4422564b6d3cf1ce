"""Several crops of one scene: R_S by definition, and what pooling the crops does to the promise."""

import math
from dataclasses import astuple
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.backtest import Pairs, backtest
from trustscale_server.pixels.filters import largest_float32

from . import oracle, strategies
from .simulation import expected_losses, thresholds
from .strategies import BOUND, CURVES, DELTA, staircases_of


def listed(scenes):
    crops = [(k, LossCurve.from_maps(*maps)) for k, scene in enumerate(scenes) for maps in scene]
    return [crop for _, crop in crops], [k for k, _ in crops]


@pytest.mark.parametrize("rule", CURVES)
@given(images=strategies.images(min_size=1, max_size=4), seed=st.integers(0, 9))
def test_repeating_a_crop_within_its_scene_changes_nothing(rule, images, seed):
    """The same crop three times in one scene is one observation, in any order of the list."""
    once = staircases_of(images)
    names = [k for k in range(len(once)) for _ in range(3)]
    single = CURVES[rule](CalibrationSet(once, BOUND))
    if rule != "high_probability":
        np.random.default_rng(seed).shuffle(names)
    thrice = CURVES[rule](CalibrationSet([once[k] for k in names], BOUND, scenes=names))
    assert thrice.n == single.n
    np.testing.assert_array_equal(thrice.thresholds, single.thresholds)
    np.testing.assert_allclose(thrice.risks, single.risks, rtol=1e-9)


class TestTheEnd:
    """Beyond the σ where trust ends nothing is trusted, though losses rise there."""

    @given(strategies.images(min_size=1), strategies.maps(), st.floats(0, 2.5), st.floats(0, 1))
    def test_mask_and_code_end_together(self, images, served, alpha, share):
        """Both agree at, above and far above it, even for α ≥ B; from its risk on masks are one."""
        sigma = np.append(served[0].ravel(), np.float32([4, 1e30, np.inf]))
        highest = float(
            np.float32(np.quantile(np.concatenate([s.ravel() for s, _ in images]), share))
        )
        stairs = staircases_of(images)
        curve = RiskCurve.from_calibration_set(CalibrationSet(stairs, BOUND, highest=highest))
        mask = curve.mask(sigma, alpha)
        assert not mask[sigma > highest].any()
        free = RiskCurve.from_calibration_set(CalibrationSet(stairs, BOUND)).mask(sigma, alpha)
        np.testing.assert_array_equal(mask, free & (sigma <= highest))
        if alpha >= curve.risk(highest):
            np.testing.assert_array_equal(mask, sigma <= highest)
        code = curve.trust_code(sigma)
        assert (code[sigma > highest] == 65535).all()
        assert not curve.mask_of_code(code, alpha)[~mask].any()

    @given(st.integers(1, 65533), st.sampled_from([0.5, 1.0, 1.9576, 3.0]), st.integers(-4, 4))
    def test_codes_never_round_towards_trust(self, code, bound, ulps):
        """At levels within rounding of a code's edge, no smaller α trusts the pixel by its code."""
        risk = code * bound / 65534
        for _ in range(abs(ulps)):
            risk = np.nextafter(risk, math.copysign(math.inf, ulps))
        curve = RiskCurve(1, bound, risk / 2, np.zeros(1, np.float32), np.array([risk]))
        found = int(curve.trust_code(np.ones((1, 1), np.float32))[0, 0])
        below = float(np.nextafter(risk, 0))
        assert found > math.floor(below / bound * 65534)
        assert found <= code + 1


LEVELS = np.arange(1, 65, dtype=np.float32)


def scene(random):
    """Two to six crops; easy scenes, where errors are small, bring more of them."""
    hardness = random.gamma(2.0, 0.5)
    count = 6 if hardness < 0.6 else 4 if hardness < 1.2 else 2
    worst = np.float32(hardness * random.uniform(0.5, 1.5, count))
    return [LossCurve(LEVELS, (LEVELS / len(LEVELS)) ** 2 * one).counted(1.0) for one in worst]


SCENES_OF_THE_LAW = [scene(np.random.default_rng(k)) for k in range(200)]
HIGHEST = float(LEVELS[-1])


def counted(cut):
    """The scenes of the law, their errors counted up to `cut`."""
    return [[crop.counted(cut) for crop in one] for one in SCENES_OF_THE_LAW]


def calibrated(cut, draws, *, pooled=False):
    """t_α for α = 0.1 of calibrations of 40 scenes, in expectation."""
    options = {"n": 40, "draws": draws, "alpha": 0.1, "bound": cut, "highest": HIGHEST}
    return thresholds(counted(cut), "expectation", pooled=pooled, **options)


@pytest.mark.parametrize("cut", [1.0, 0.4])
def test_the_promise_is_kept_for_a_crop_of_a_new_scene(cut):
    """E[min(L, c)] ≤ α under R_S with B = c; α − B/(K + 1) is nearly used up."""
    risks, pooled = (
        expected_losses(counted(cut), calibrated(cut, draws, pooled=pooled))
        for pooled, draws in ((False, 250), (True, 60))
    )
    assert risks.mean() <= 0.1 + 3 * stats.sem(risks)
    assert risks.mean() >= 0.1 - cut / 41 - 0.01
    assert pooled.mean() > 0.1 + 4 * stats.sem(pooled)


def test_high_probability_counts_scenes():
    """At most δ of the calibrations exceed α in expectation; of the pooled ones far more do."""
    cut = 0.4
    options = {"n": 100, "draws": 80, "alpha": 0.1, "bound": cut, "highest": HIGHEST}
    most = stats.binom.ppf(0.999, 80, DELTA)
    for pooled in (False, True):
        found = thresholds(counted(cut), "high_probability", pooled=pooled, **options)
        violations = (expected_losses(counted(cut), found) > 0.1).sum()
        assert violations > most if pooled else violations <= most


def test_counting_errors_up_to_c_is_cutting_the_map():
    """The loss curve of min(D, c) follows from that of D, so no image is needed again."""
    random = np.random.default_rng(0)
    sigma, error = random.random((2, 40, 50), dtype=np.float32)
    whole = LossCurve.from_maps(sigma, error)
    for most in (0.2, float(whole.errors[3]), 0.999, 5.0):
        cut = LossCurve.from_maps(sigma, np.minimum(error, largest_float32(most)))
        assert whole.counted(most) == cut
    with pytest.raises(ValueError, match="positive"):
        whole.counted(0)


def test_a_backtest_never_divides_a_scene():
    """Splits are of scenes: crops that are all alike cannot flatter the served half."""
    random = np.random.default_rng(2)
    scenes = [scene(random)[:1] * 8 for _ in range(10)]
    crops = [crop for one in scenes for crop in one]
    names = [k for k in range(10) for _ in range(8)]
    options = {"bound": 1.0, "alphas": (0.1, 0.3), "splits": 20}
    by_scene = backtest(pairs_of(crops, names), **options)
    singles = backtest(pairs_of(crops[::8]), **options)
    for one, other in zip(by_scene, singles, strict=True):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-9)
    assert backtest(pairs_of(crops), **options)[0].risk != by_scene[0].risk
    with pytest.raises(ValueError, match="different scenes"):
        backtest(pairs_of(crops, ["one"] * 80), **options)


def pairs_of(crops, names=None):
    """Pairs of one spot each."""
    names = list(range(len(crops)) if names is None else names)
    quantiles = np.tile(np.linspace(1, 64, 101, dtype=np.float32), (len(crops), 1))
    weights = [Fraction(1, names.count(name)) for name in names]
    return Pairs(
        [[one] for one in crops],
        names,
        weights,
        quantiles,
        lambda t: np.array([one.losses_below(t) for one in crops], float),
    )


@st.composite
def weighted(draw):
    """Scenes of loss curves, and of each curve its weight; those of a scene sum to at most 1.

    Or None, where those of a scene share its weight of 1.
    """
    scenes = draw(st.lists(st.lists(strategies.maps(), min_size=1, max_size=3), max_size=4))
    if draw(st.booleans()):
        return scenes, None
    counts = [draw(st.lists(st.integers(1, 9), min_size=len(s), max_size=len(s))) for s in scenes]
    rooms = [draw(st.integers(0, 9)) for _ in scenes]
    weights = [
        [Fraction(count, sum(of) + room) for count in of]
        for of, room in zip(counts, rooms, strict=True)
    ]
    return scenes, weights


class TestWeights:
    """A scene counts as much as it belongs to the class that the curve is for."""

    @given(weighted())
    def test_risk_by_its_definition(self, drawn):
        """R(t) = (Σ w_ij L_ij(t) + B)/(Σ w_ij + 1) at every value of σ."""
        scenes, weights = drawn
        crops, names = listed(scenes)
        flat = weights and [weight for one in weights for weight in one]
        curve = RiskCurve.from_calibration_set(
            CalibrationSet(crops, BOUND, scenes=names, weights=flat)
        )
        flat = flat or [Fraction(1, len(scene)) for scene in scenes for _ in scene]
        assert curve.n == pytest.approx(float(sum(flat)))
        maps = [one for scene in scenes for one in scene]
        for t in [*{float(t) for sigma, _ in maps for t in sigma.ravel()}, -math.inf, math.inf]:
            lost = math.fsum(
                float(w) * oracle.loss(s, d, t) for w, (s, d) in zip(flat, maps, strict=True)
            )
            expected = (lost + BOUND) / (float(sum(flat)) + 1)
            assert curve.risk(t) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("weight", [Fraction(0), Fraction(-1, 2), Fraction(3, 2)])
    def test_impossible_ones(self, weight):
        with pytest.raises(ValueError, match="weights of a scene"):
            RiskCurve.from_calibration_set(
                CalibrationSet([SCENES_OF_THE_LAW[0][0]], 1.0, weights=[weight])
            )

    def test_the_promise_holds_for_the_class(self):
        """Hard scenes are seldom of the class: given that one is, it loses α at most on average.

        Counting every scene fully would leave out what may be trusted: these are harder.
        """
        random = np.random.default_rng(5)
        losses = counted(1.0)
        hardness = np.array([np.mean([one.errors[-1] for one in scene]) for scene in losses])
        share = [Fraction(1 if hard < 0.6 else 0.2).limit_denominator(10) for hard in hardness]
        per_class, fully = [], []
        for _ in range(60):
            places = random.integers(len(losses), size=120)
            names = [k for k, place in enumerate(places) for _ in losses[place]]
            curves = [one for place in places for one in losses[place]]
            weights = [share[p] / len(losses[p]) for p in places for _ in losses[p]]
            for found, given_weights in ((per_class, weights), (fully, None)):
                curve = RiskCurve.from_calibration_set(
                    CalibrationSet(
                        curves, 1.0, scenes=names, weights=given_weights, highest=HIGHEST
                    )
                )
                t = curve.threshold(0.1)
                lost = [
                    np.mean([one.losses_below(t) for one in scene], dtype=float) for scene in losses
                ]
                found.append(np.average(lost, weights=np.array(share, float)))
        assert np.mean(per_class) <= 0.1 + 3 * stats.sem(per_class)
        assert np.mean(per_class) >= 0.1 - 1 / 30 - 0.012
        assert np.mean(fully) < np.mean(per_class) - 4 * stats.sem(fully)
