"""The guarantee as part of a calibration: recorded, derived, read for one group."""

from __future__ import annotations

import numpy as np
import pytest

from app.calibration import file
from app.calibration.guarantee import (
    Expectation,
    HighProbability,
    PostHoc,
    Probability,
    guarantee_of,
)
from app.calibration.insight import checks, leaked, run_backtest
from app.calibration.manifest import MeasuredPair
from app.conformal import HighProbabilityCurve, RiskCurve, Staircase
from app.conformal.fidelity import LAB_BOUND
from app.conformal.high_probability import leakage_bound, minimal_n
from app.errors import BadGroup, BadRequest
from tests.factories import changed, in_groups

LIKELY = HighProbability()
BETS = HighProbability(delta=0.2, method="wsr")


@pytest.fixture(scope="module")
def grouped(calibration):
    """Twelve pairs: four of the group day, six of night, two of none."""
    return in_groups(calibration, {f"{k:03}": "day" if k < 4 else "night" for k in range(10)})


def under(calibration, guarantee, pairs=None):
    """A calibration of the same pairs, or of these, under another guarantee."""
    pairs = calibration.measured_pairs() if pairs is None else pairs
    return calibration.with_pairs(pairs, created_by="test", guarantee=guarantee)


@pytest.mark.parametrize(
    "settings",
    [
        Expectation(),
        LIKELY,
        BETS,
        Probability(tolerance=0.2),
        Probability(tolerance=0.2, delta=0.1),
        PostHoc(),
    ],
)
def test_the_least_alpha_needs_no_curve(calibration, settings):
    """Lists and activations tell it from n alone, and it is that of the curve."""
    made = under(calibration, settings.fitted_to(calibration.pipeline.indecision))
    assert made.min_alpha == made.curve.min_alpha


@pytest.fixture(scope="module")
def likely(calibration):
    return under(calibration, LIKELY)


class TestRecord:
    @pytest.mark.parametrize("settings", [LIKELY, BETS])
    def test_the_curve_is_that_of_the_guarantee(self, grouped, settings):
        """δ and method are part of file and id, as the groups are, and make the curve."""
        made = under(grouped, settings)
        again = file.load(file.dump(made))
        assert (again.id, again.guarantee) == (made.id, settings)
        assert again.groups == {"day": 4, "night": 6}
        assert again.id != grouped.id
        expected = HighProbabilityCurve.from_staircases(
            grouped.staircases, grouped.bound, delta=settings.delta, method=settings.method
        )
        np.testing.assert_array_equal(again.curve.risks, expected.risks)
        np.testing.assert_array_equal(again.curve.thresholds, expected.thresholds)
        assert again.minimal_n(0.1) == minimal_n(0.1, made.bound, settings.delta, settings.method)
        assert (again.head.guarantee, again.head.delta) == ("high_probability", settings.delta)

    @pytest.mark.parametrize(
        "wrong",
        [{"delta": 0}, {"delta": 1}, {"kind": "sure"}, {"method": "hope"}, {"n": 3}]
        + [
            {"kind": "probability", **f}
            for f in ({}, {"tolerance": 0}, {"tolerance": 1, "level": 1})
        ]
        + [
            {"kind": "post_hoc", **f}
            for f in (
                {"menu": []},
                {"menu": [0.1, 0.05]},
                {"between": [0.1, 0.1]},
                {"menu": [0.1], "between": [0.1, 0.2]},
                {"shape": [[1, 2]]},
            )
        ],
    )
    def test_refuses(self, wrong):
        """δ and β are probabilities, τ is named, risk levels rise; kind and method are known."""
        with pytest.raises(ValueError, match="validation error"):
            guarantee_of({"kind": "high_probability", **wrong})


class TestGroups:
    def test_a_group_is_a_calibration_of_its_pairs(self, grouped):
        """Its curve, n and quantiles are those of its pairs alone."""
        part = grouped.of_group("night")
        assert [pair.name for pair in part.manifest.pairs] == [f"{k:03}" for k in range(4, 10)]
        expected = RiskCurve.from_staircases(grouped.staircases[4:10], grouped.bound)
        np.testing.assert_array_equal(part.curve.risks, expected.risks)
        np.testing.assert_array_equal(part.sigma_quantiles, grouped.sigma_quantiles[4:10])
        assert grouped.of_group("night") is part

    def test_no_group_is_all_of_it(self, grouped, calibration):
        """Without a group every pair counts, also those of no group, as if there were none."""
        assert grouped.of_group(None) is grouped
        np.testing.assert_array_equal(grouped.curve.risks, calibration.curve.risks)

    def test_unknown(self, grouped, calibration):
        """Another group is refused, and those that exist are named."""
        with pytest.raises(BadGroup, match="day, night") as caught:
            grouped.of_group("dusk")
        assert caught.value.members["groups"] == ["day", "night"]
        with pytest.raises(BadGroup, match="none"):
            calibration.of_group("day")

    def test_removing_a_pair_keeps_the_groups(self, grouped):
        """What is made of a calibration has its groups and its guarantee."""
        made = under(grouped, LIKELY)
        smaller = made.with_pairs(made.measured_pairs()[2:], created_by="test")
        assert smaller.groups == {"day": 2, "night": 6}
        assert smaller.guarantee == LIKELY


class TestInsight:
    def test_the_backtest_is_that_of_the_guarantee(self, calibration, likely):
        """Its halves are calibrated for the same promise: fewer of them exceed α."""
        alphas = (0.3, 0.5, 0.8)
        usual, strict = (run_backtest(made, 40, alphas) for made in (calibration, likely))
        for one, other in zip(usual, strict, strict=True):
            assert other.risk <= one.risk
            assert other.violations <= one.violations
            assert 0 <= one.violations <= 1

    def test_the_number_of_pairs(self, likely):
        """The checks name the n that this guarantee needs."""
        assert checks(likely)["minimal_n"] == 44

    def test_leakage(self, likely, calibration):
        """Each guarantee has its bound; for bets none is known."""
        assert leaked(likely, 0) == leakage_bound(0.1, 12, 0, likely.bound, 0.1) >= 0.1
        assert leaked(calibration, 2) == pytest.approx(0.1 * 13 / 11)
        with pytest.raises(BadRequest, match="between 0 and n"):
            leaked(likely, 13)
        with pytest.raises(BadRequest, match="for this guarantee"):
            leaked(under(likely, BETS), 1)

    def test_leakage_may_be_in_one_class(self, calibration):
        """The bound holds for every class of uploads, so it is that of the one it hurts most."""
        pairs = [
            {**pair, "input_class": "lossless" if k < 9 else "jpeg-80"}
            for k, pair in enumerate(calibration.document["pairs"])
        ]
        made = changed(calibration, pairs=pairs)
        assert leaked(made, 2) == pytest.approx(0.1 * 4 / 2)
        assert leaked(made, 5) == pytest.approx(0.1 * 4)


def test_no_measurement_decides_the_order(calibration):
    """Pairs that arrive in any order are kept by name, and so give WSR the same curve."""
    pairs = calibration.measured_pairs()
    first, second = (under(calibration, BETS, order).curve for order in (pairs, pairs[::-1]))
    np.testing.assert_array_equal(first.risks, second.risks)


def test_names_do_not_decide_it_either(calibration):
    """The hash of a pair's content says when its turn is: names may tell the camera, or the day.

    Sorted by such names, the same pairs would break the promise five times as often as δ allows.
    """
    info, broken = calibration.manifest.pairs[0], {"by content": 0, "by name": 0}
    bets = HighProbability(delta=0.1, method="wsr")
    random, runs, n = np.random.default_rng(0), 60, 78
    mean = 0.8 * 0.02 + 0.2 * 1.2
    for run in range(runs):
        hard = random.random(n) < 0.2
        share = np.where(hard, 1.2, 0.02) / LAB_BOUND
        losses = np.maximum(LAB_BOUND * random.beta(8 * share, 8 * (1 - share)), 1e-9)
        pairs = [
            MeasuredPair(
                info.model_copy(
                    update={
                        "name": f"{'night' if is_hard else 'day'}.{k:04}",
                        "x_sha256": f"{run} {k}",
                    }
                ),
                Staircase(np.array([0.5], np.float32), np.array([loss], np.float32)),
                np.full(101, 0.5, np.float32),
            )
            for k, (is_hard, loss) in enumerate(zip(hard, losses, strict=True))
        ]
        made = under(calibration, bets, pairs)
        named = bets.curve(made.staircases, made.bound)
        broken["by content"] += made.curve.threshold(0.999 * mean) > 0.5
        broken["by name"] += named.threshold(0.999 * mean) > 0.5
    assert broken["by content"] / runs <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / runs)
    assert broken["by name"] / runs > 0.3  # else this test would see nothing


@pytest.mark.parametrize(
    ("settings", "n", "least", "words"),
    [
        (
            Expectation(),
            3,
            0.125,
            "the least that 3 scenes can hold: use 0.13 or more",
        ),
        (Expectation(), 3, 0.125, "add at least 1 more"),
        (LIKELY, 5, 0.3, "add at least "),
    ],
)
def test_what_so_few_scenes_lack(settings, n, least, words):
    """An α that n scenes cannot hold comes with one that they can, and how many are missing."""
    assert words in settings.shortfall(0.1, 0.5, n, least)
    assert settings.shortfall(least, 0.5, n, least) is None
