"""Several crops of one scene: R_S by definition, and what pooling the crops does to the promise."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.conformal import LossCurve, RiskCurve
from trustscale_server.conformal.backtest import backtest
from trustscale_server.conformal.fidelity import largest_float32

from . import oracle, strategies
from .simulation import expected_losses, thresholds
from .strategies import BOUND, CURVES, DELTA, staircases_of

SCENES = st.lists(st.lists(strategies.maps(), min_size=1, max_size=3), max_size=4)


def listed(scenes):
    crops = [(k, LossCurve.from_maps(*maps)) for k, scene in enumerate(scenes) for maps in scene]
    return [crop for _, crop in crops], [k for k, _ in crops]


class TestDefinition:
    @given(SCENES)
    def test_risk_is_the_mean_over_scenes_of_the_mean_over_crops(self, scenes):
        """R_S(t) = (Σ_i (1/n_i) Σ_j L_ij(t) + B)/(K + 1) at every value of σ."""
        crops, names = listed(scenes)
        curve = RiskCurve.from_loss_curves(crops, BOUND, scenes=names)
        assert curve.n == len(scenes)
        levels = {float(t) for scene in scenes for sigma, _ in scene for t in sigma.ravel()}
        for t in [*levels, -math.inf, math.inf]:
            means = [math.fsum(oracle.loss(s, d, t) for s, d in one) / len(one) for one in scenes]
            expected = (math.fsum(means) + BOUND) / (len(scenes) + 1)
            assert curve.risk(t) == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize("rule", CURVES)
    @given(images=strategies.images(min_size=1, max_size=4), seed=st.integers(0, 9))
    def test_repeating_a_crop_within_its_scene_changes_nothing(self, rule, images, seed):
        """The same crop three times in one scene is one observation, in any order of the list."""
        once = staircases_of(images)
        names = [k for k in range(len(once)) for _ in range(3)]
        single = CURVES[rule](once, BOUND)
        if rule != "high_probability":
            np.random.default_rng(seed).shuffle(names)
        thrice = CURVES[rule]([once[k] for k in names], BOUND, scenes=names)
        assert thrice.n == single.n
        np.testing.assert_array_equal(thrice.thresholds, single.thresholds)
        np.testing.assert_allclose(thrice.risks, single.risks, rtol=1e-9)


class TestTheEnd:
    """Beyond the largest σ of the calibration images nothing is trusted."""

    @given(strategies.images(min_size=1), strategies.maps(), st.floats(0, 2.5))
    def test_mask_and_code_end_together(self, images, served, alpha):
        """Both agree at, above and far above the largest σ, even for α ≥ B."""
        sigma = np.append(served[0].ravel(), np.float32([4, 1e30, np.inf]))
        highest = max(float(s.max()) for s, _ in images)
        stairs = staircases_of(images)
        curve = RiskCurve.from_loss_curves(stairs, BOUND, highest=highest)
        mask = curve.mask(sigma, alpha)
        assert not mask[sigma > highest].any()
        free = RiskCurve.from_loss_curves(stairs, BOUND).mask(sigma, alpha)
        np.testing.assert_array_equal(mask, free & (sigma <= highest))
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


@pytest.mark.parametrize("cut", [0.4, 1.0])
def test_high_probability_counts_scenes(cut):
    """At most δ of the calibrations exceed α in expectation; of the pooled ones far more do."""
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
    quantiles = np.tile(np.linspace(1, 64, 101, dtype=np.float32), (80, 1))
    options = {"bound": 1.0, "alphas": (0.1, 0.3), "splits": 20}
    by_scene = backtest(crops, quantiles, scenes=names, **options)
    singles = backtest(crops[::8], quantiles[::8], **options)
    for one, other in zip(by_scene, singles, strict=True):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-9)
    assert backtest(crops, quantiles, **options)[0].risk != by_scene[0].risk
    with pytest.raises(ValueError, match="different scenes"):
        backtest(crops, quantiles, scenes=["one"] * 80, **options)
