"""Guarantees, groups, and what admins are shown of a calibration."""

from dataclasses import replace

import numpy as np
import pytest

from harness.factories import changed, in_groups
from harness.fakes import FakeUpscaler
from trustscale_server.calibrating.costs import Costs, PairCosts, Tariff
from trustscale_server.calibration import file
from trustscale_server.calibration.guarantee_kinds import (
    Expectation,
    HighProbability,
    PostHoc,
    Probability,
    guarantee_of,
)
from trustscale_server.calibration.insight import leaked
from trustscale_server.conformal import CalibrationSet, HighProbabilityCurve, LossCurve, RiskCurve
from trustscale_server.conformal.high_probability import minimal_n
from trustscale_server.platform.errors import BadRequest
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.sampling.throughput import PAIRS, Throughput
from trustscale_server.upscalers.base import Capabilities

LIKELY = HighProbability()
SURER = HighProbability(delta=0.02)


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
    [Expectation(), LIKELY, SURER, Probability(tolerance=0.2),
     Probability(tolerance=0.2, delta=0.1), PostHoc()],
)  # fmt: skip
def test_the_least_alpha_needs_no_curve(calibration, settings):
    """Lists and activations tell it from n alone, and it is that of the curve."""
    made = under(calibration, settings.fitted_to(calibration.pipeline.indecision))
    assert made.everything.min_alpha == made.curve.min_alpha


@pytest.fixture(scope="module")
def likely(calibration):
    return under(calibration, LIKELY)


class TestRecord:
    @pytest.mark.parametrize("settings", [LIKELY, SURER])
    def test_the_curve_is_that_of_the_guarantee(self, grouped, settings):
        """δ is part of file and id, as the groups are, and makes the curve."""
        made = under(grouped, settings)
        again = file.load(file.dump(made))
        assert (again.id, again.guarantee) == (made.id, settings)
        assert again.groups == {"day": 4, "night": 6}
        assert again.id != grouped.id
        expected = HighProbabilityCurve.from_calibration_set(
            CalibrationSet(grouped.arrays.loss_curves, grouped.everything.bound),
            delta=settings.delta,
        )
        np.testing.assert_array_equal(again.curve.risks, expected.risks)
        np.testing.assert_array_equal(again.curve.thresholds, expected.thresholds)
        bound = made.everything.bound
        assert again.everything.minimal_n(0.1) == minimal_n(0.1, bound, settings.delta)
        assert (again.head.guarantee, again.head.delta) == ("high_probability", settings.delta)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"delta": 0}, {"delta": 1}, {"kind": "sure"}, {"method": "hope"}, {"n": 3},
            *({"kind": "probability", **f}
              for f in ({}, {"tolerance": 0}, {"tolerance": 1, "level": 1})),
            *({"kind": "post_hoc", **f}
              for f in ({"menu": []}, {"menu": [0.1, 0.05]}, {"between": [0.1, 0.1]},
                        {"menu": [0.1], "between": [0.1, 0.2]}, {"shape": [[1, 2]]})),
        ],
    )  # fmt: skip
    def test_refuses(self, wrong):
        """δ and β are probabilities, τ is named, risk levels rise; the kind is known."""
        with pytest.raises(ValueError, match="validation error"):
            guarantee_of({"kind": "high_probability", **wrong})


def test_a_group_is_a_calibration_of_its_pairs(grouped):
    """Its curve, n and quantiles are those of its pairs alone."""
    part = grouped.subset("night")
    assert [pair.name for pair in part.infos] == [f"{k:03}" for k in range(4, 10)]
    expected = RiskCurve.from_calibration_set(
        CalibrationSet([*grouped.arrays.loss_curves][4:10], grouped.everything.bound)
    )
    np.testing.assert_array_equal(part.curve.risks, expected.risks)
    np.testing.assert_array_equal(part.arrays.sigma_quantiles, grouped.arrays.sigma_quantiles[4:10])
    assert grouped.subset("night") is part


class TestInsight:
    def test_leakage(self, likely, calibration):
        """In expectation there is a bound; with high probability none is known."""
        assert leaked(calibration.everything, 2) == pytest.approx(0.1 * 13 / 11)
        with pytest.raises(BadRequest, match="between 0 and n"):
            leaked(calibration.everything, 13)
        with pytest.raises(BadRequest, match="for this guarantee"):
            leaked(likely.everything, 1)

    def test_leakage_may_be_in_one_class(self, calibration):
        """The bound holds for every class of uploads, so it is that of the one it hurts most."""
        pairs = [
            {**pair, "input_class": "lossless" if k < 9 else "jpeg-80"}
            for k, pair in enumerate(calibration.document["pairs"])
        ]
        made = changed(calibration, pairs=pairs)
        assert leaked(made.everything, 2) == pytest.approx(0.1 * 4 / 2)
        assert leaked(made.everything, 5) == pytest.approx(0.1 * 4)


def test_content_decides_the_order(calibration):
    """The hash of a pair's content says when its turn is: names may tell the camera, or the day."""
    pairs = [
        replace(pair, loss_curves=[LossCurve([0.5], [1.2 if k % 2 else 0.02])])
        for k, pair in enumerate(calibration.measured_pairs())
    ]
    names = [pair.info.name for pair in pairs]
    renamed = [
        replace(pair, info=pair.info.model_copy(update={"name": name}))
        for pair, name in zip(pairs, reversed(names), strict=True)
    ]
    first, *others = (
        under(calibration, LIKELY, some).curve for some in (pairs, pairs[::-1], renamed)
    )
    for other in others:
        np.testing.assert_array_equal(other.risks, first.risks)
    easy_first = sorted(pairs, key=lambda pair: pair.loss_curves[0].errors[0])
    bound = calibration.everything.bound
    sorted_by_loss = LIKELY.curve(
        CalibrationSet([pair.loss_curves[0] for pair in easy_first], bound)
    )
    assert not np.array_equal(sorted_by_loss.risks, first.risks)  # the order matters


@pytest.mark.parametrize(
    ("tariff", "pairs", "costs"),
    [(Tariff(), 250, PairCosts(500, 250.0)),
     (Tariff(price_per_call=0.5), 3, PairCosts(6, 3.0, 3.0)),
     (Tariff(max_calls_per_hour=100), 250, PairCosts(500, 14400.0))],
)  # fmt: skip
async def test_what_is_known(tariff, pairs, costs):
    """Two samples of a megapixel a pair at a second each, two pairs at once; a limit makes wait."""
    upscaler, throughput = FakeUpscaler(), Throughput()
    throughput.note(upscaler, 10**6, 1, 1.0)
    found = Costs(throughput, {upscaler.name: tariff}, job_concurrency=2)
    pipeline = MeasurementSpec(fingerprint="fake:1", scale=2, samples=2)
    assert await found.estimate(upscaler, pipeline, pairs=pairs, pixels=1e6) == costs


async def test_pairs_that_were_measured_tell_more_than_samples():
    """Half of them took three seconds or more, whatever their samples took."""
    upscaler, throughput = FakeUpscaler(), Throughput()
    pipeline = MeasurementSpec(fingerprint="fake:1", scale=2, samples=2)
    throughput.note(upscaler, 10**6, 2, 0.1)
    for seconds in (1.0, 3.0, 9.0):
        throughput.note(upscaler, 10**6, 2, seconds, PAIRS)
    found = await Costs(throughput, job_concurrency=2).estimate(
        upscaler, pipeline, pairs=10, pixels=1e6
    )
    assert found == PairCosts(20, 30.0)


async def test_a_local_model_is_tried():
    """So an estimate exists before its first calibration; it holds all that a pair takes."""
    capabilities = Capabilities(concurrency=1, by_tiles=True)
    upscaler = FakeUpscaler(seconds=0.2, capabilities=capabilities)
    pipeline = MeasurementSpec(fingerprint="fake:1", scale=2, samples=2)
    found = await Costs(job_concurrency=2).estimate(upscaler, pipeline, pairs=100, pixels=128**2)
    assert found.estimate_s >= 10
