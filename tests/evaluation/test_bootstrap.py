"""Intervals against scipy and against doing it by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.conformal import RiskCurve, Staircase
from app.evaluation.bootstrap import mean_intervals, weights
from app.evaluation.reduce import FIDELITY, Cell
from app.evaluation.tables import Resamples, joint
from app.sampling.pipeline import Pipeline


def names(count: int) -> list[str]:
    return [f"{k:03}" for k in range(count)]


class TestMeanIntervals:
    def test_against_scipy(self):
        """Without groups it is scipy's percentile bootstrap, up to the noise of resampling."""
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

    def test_missing_values(self):
        """Values that are not finite are left out of their column only."""
        values = np.array([[1.0, np.nan], [3.0, np.inf], [5.0, 7.0], [7.0, np.nan]])
        first, second = mean_intervals(values, weights(names(4), 500, 0))
        assert (first.mean, first.images) == (4, 4)
        assert (second.mean, second.low, second.high, second.images) == (7, 7, 7, 1)

    def test_nothing_to_average(self):
        """A column without values has no mean and no interval."""
        (interval,) = mean_intervals(np.full((3, 1), np.nan), weights(names(3), 50, 0))
        assert np.isnan([interval.mean, interval.low, interval.high]).all()

    def test_coverage(self):
        """95 % intervals of 40 values hold the mean in 88 % to 98 % of 400 repetitions."""
        random = np.random.default_rng(3)
        values = random.exponential(1.0, (40, 400))
        intervals = mean_intervals(values, weights(names(40), 1000, 4))
        held = np.mean([interval.low <= 1 <= interval.high for interval in intervals])
        assert 0.88 <= held <= 0.98


class TestJointIntervals:
    def test_by_hand(self):
        """The same as a risk curve of the drawn scenes, asked of every image, for every replicate.

        A scene counts once, however many images it has: with the mean of their losses.
        """
        random = np.random.default_rng(0)

        def staircase() -> Staircase:
            steps = np.unique(random.random(6).astype(np.float32))
            errors = np.sort(random.random(len(steps)).astype(np.float32) + np.float32(0.01))
            return Staircase(steps, errors)

        pipeline = Pipeline(fingerprint="fake:1", scale=2, samples=4)
        cell = Cell(pipeline, FIDELITY, np.empty(0), 0.1)
        cell.calibration, cell.test = ([staircase() for _ in range(n)] for n in (30, 12))
        cell.highest = 1.0
        cell.scenes = [f"{k * k // 60}" for k in range(30)]  # of one to eight images
        scenes = dict.fromkeys(cell.scenes)
        drawn = (weights(list(scenes), 200, 1), weights(names(12), 200, 2))
        alphas = (0.05, 0.3, 0.5, 0.9)
        got = joint(cell, Resamples(drawn[1], drawn), alphas)
        realised = []
        for a, b in zip(*drawn, strict=True):
            again = [
                (image, (scene, copy))
                for scene, count in zip(scenes, a, strict=True)
                for copy in range(int(count))
                for image, own in zip(cell.calibration, cell.scenes, strict=True)
                if own == scene
            ]
            images, of_scenes = zip(*again, strict=True)
            curve = RiskCurve.from_staircases(images, cell.bound, scenes=of_scenes)
            losses = [[s.loss_below(curve.threshold(t)) for t in alphas] for s in cell.test]
            realised.append(np.average(losses, axis=0, weights=b))
        ends = np.quantile(realised, [0.025, 0.975], axis=0).T
        np.testing.assert_allclose(got, ends)
        assert (ends[0] == 0).all()  # so few scenes promise nothing at this level
        assert (ends[1:] > 0).all()
