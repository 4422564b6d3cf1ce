"""Intervals against scipy and against doing it by hand."""

import numpy as np
import pytest
from scipy import stats

from harness.fakes import FakeUpscaler
from trustscale_evaluation.bootstrap import Resamples, mean_intervals, weights
from trustscale_evaluation.reduce import Cell, JudgedImage
from trustscale_evaluation.tables import QUANTITIES, cell_rows, joint_intervals
from trustscale_evaluation.variants import Variant
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantee_kinds import HighProbability
from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.serving.applicable import ApplicableCalibration

ALPHAS = (0.05, 0.3, 0.5, 0.9)


def names(count):
    return [f"{k:03}" for k in range(count)]


class TestMeanIntervals:
    def test_against_scipy(self):
        values = np.random.default_rng(0).gamma(1.0, 1.0, (60, 2))
        ours = mean_intervals(values, weights(names(60), 20_000, 1))
        for column, interval in enumerate(ours):
            theirs = stats.bootstrap(
                (values[:, column],),
                np.mean,
                n_resamples=20_000,
                method="percentile",
                rng=np.random.default_rng(2),
            ).confidence_interval
            assert interval.mean == pytest.approx(values[:, column].mean())
            # The ends are quantiles of 20,000 means: their own error is about 0.003 here.
            assert interval.low == pytest.approx(theirs.low, abs=0.015)
            assert interval.high == pytest.approx(theirs.high, abs=0.015)

    def test_groups_are_drawn_whole(self):
        """Ten copies of every image give the interval of the images, not one √10 narrower."""
        values = np.random.default_rng(0).normal(0, 1, (40, 1))
        (alone,) = mean_intervals(values, weights(names(40), 4000, 1))
        groups = [name for name in names(40) for _ in range(10)]
        (copied,) = mean_intervals(values.repeat(10, axis=0), weights(groups, 4000, 1))
        assert (copied.mean, copied.images) == (pytest.approx(alone.mean), 400)
        assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def loss_curve(random):
    steps = np.unique(random.random(6).astype(np.float32))
    errors = np.sort(random.random(len(steps)).astype(np.float32) + np.float32(0.01))
    return LossCurve(steps, errors)


def cell_of(stairs, scenes, test, guarantee=None):
    """A cell of these images, each σ up to 1."""
    pipeline = MeasurementSpec(fingerprint="fake:1", scale=2, samples=4)
    pairs = []
    for k, (one, scene) in enumerate(zip(stairs, scenes, strict=True)):
        digest = f"{k:064x}"
        sizes = {"width": 8, "height": 8, "seed": 0, "mean_log_sigma": 0.0}
        shas = {"x_sha256": digest, "y_sha256": digest, "pixels_sha256": digest}
        info = PairInfo(name=f"{k:03}", scene=scene, **sizes, **shas)
        pairs.append(MeasuredPair(info, [one], np.linspace(0, 1, 101, dtype=np.float32)))
    made = Calibration.from_pairs(pairs, upscaler="fake", pipeline=pipeline, guarantee=guarantee)
    variant = Variant("given", calibration=made)
    cell = Cell(variant, FakeUpscaler(), pipeline, None, np.array(ALPHAS))
    cell.calibration = made
    subject = ApplicableCalibration.from_calibration(made, None, None, shape=(8, 8))
    thresholds = cell.thresholds(made)
    losses = [one.losses_below(thresholds) for one in test]
    cell.gather(
        [
            JudgedImage(subject, [one], dict.fromkeys(QUANTITIES, loss))
            for one, loss in zip(test, losses, strict=True)
        ]
    )
    return cell


def test_joint_intervals_by_hand():
    random = np.random.default_rng(0)
    calibration, test = ([loss_curve(random) for _ in range(n)] for n in (30, 12))
    scenes = [f"{k * k // 60}" for k in range(30)]  # of one to eight images
    cell = cell_of(calibration, scenes, test)
    draws = Resamples.from_scenes(names(12), 2)
    got = joint_intervals(cell, draws, ALPHAS)
    realised = []
    known = list(dict.fromkeys(scenes))
    for a, b in zip(draws.calibration(len(known)), draws.test, strict=False):
        again = [
            (image, (scene, copy))
            for scene, count in zip(known, a, strict=True)
            for copy in range(int(count))
            for image, own in zip(calibration, scenes, strict=True)
            if own == scene
        ]
        images, of_scenes = zip(*again, strict=True)
        bound = cell.calibration.everything.bound
        curve = RiskCurve.from_calibration_set(CalibrationSet(images, bound, scenes=of_scenes))
        losses = [[float(s.losses_below(curve.threshold(t))) for t in ALPHAS] for s in test]
        realised.append(np.average(losses, axis=0, weights=b))
    ends = np.quantile(realised, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(got, ends)
    assert (ends[0] == 0).all()  # so few scenes promise nothing at this level
    assert (ends[1:] > 0).all()


@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_a_threshold_that_is_too_large_is_found(alpha):
    """Power: masks of 1.25 α that are passed off as those of α are judged broken."""
    random = np.random.default_rng(4)
    calibration, test = ([loss_curve(random) for _ in range(400)] for _ in range(2))
    cell = cell_of(calibration, names(400), test, HighProbability())  # judged by the test alone
    draws = Resamples.from_scenes(names(400), 0)
    honest, _ = cell_rows("fake", cell, draws, [alpha])
    assert honest.status == "consistent"
    bound = cell.calibration.everything.bound
    false = RiskCurve.from_calibration_set(CalibrationSet(calibration, bound)).threshold(
        1.25 * alpha
    )
    losses = np.array([one.losses_below(false) for one in test], float)
    cell.quantities = dict.fromkeys(QUANTITIES, np.tile(losses[:, None], len(cell.alphas) + 1))
    cheat, _ = cell_rows("fake", cell, draws, [alpha])
    assert cheat.status == "broken"
