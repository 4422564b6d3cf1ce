"""What a calibration says about an image besides its mask."""

import numpy as np
import pytest
from scipy import stats

from app.images.compression import LOSSLESS
from app.images.facts import Facts
from app.sampling.pipeline import Pipeline
from tests.factories import changed, made_of

PIPELINE = Pipeline(fingerprint="fake:1", scale=2, samples=4)
NUMBERS = ("detail", "noise", "contrast", "light", "colour", "softness")


def calibration_with(template, values, sizes=((48, 48),)):
    """A calibration whose pairs have these values of mean log σ, and these sizes in turn."""
    sides = [sizes[k % len(sizes)] for k in range(len(values))]
    updates = [
        {"mean_log_sigma": value, "width": width, "height": height}
        for value, (width, height) in zip(values, sides, strict=True)
    ]
    return made_of(template, updates)


class TestTypicality:
    def test_it_is_a_p_value(self, calibration):
        random = np.random.default_rng(0)
        for draw in (random.random((20, 20)), random.integers(0, 4, (20, 20)).astype(float)):
            for row in draw:
                made = calibration_with(calibration, row[:-1])
                assert made.typicality(row[-1]) == self.p_value(row[:-1], row[-1])

    @staticmethod
    def p_value(values, value):
        n = len(values)
        upper = (1 + sum(values >= value)) / (n + 1)
        lower = (1 + sum(values <= value)) / (n + 1)
        return min(1.0, 2 * min(upper, lower))

    def test_crops_of_a_scene_are_one_observation(self, calibration):
        """P(p ≤ u) ≤ u for a crop of a new scene, also where each scene brought six that are alike.

        300 calibrations of 10 scenes, with facts and without; by chance 1 in 10,000 fails.
        """
        random = np.random.default_rng(0)
        scenes, crops, draws = 10, 6, 300
        found = []
        for _ in range(draws):
            centres = random.normal(size=(scenes + 1, 1, 7))
            points = centres + random.normal(scale=0.1, size=(scenes + 1, crops, 7))
            updates = [
                {
                    "scene": str(k // crops),
                    "x_sha256": random.bytes(32).hex(),
                    "mean_log_sigma": z,
                    "facts": dict(zip(NUMBERS, facts, strict=True)),
                }
                for k, (z, *facts) in enumerate(points[:scenes].reshape(-1, 7))
            ]
            made = made_of(calibration, updates)
            z, *facts = points[-1, 0]
            found.append((made.typicality(z, Facts(LOSSLESS, *facts)), made.typicality(z)))
        for u in (1 / 11, 0.2, 0.4):
            below = (np.array(found) <= u + 1e-12).sum(axis=0)
            assert (below <= stats.binom.ppf(0.9999, draws, u)).all()


class TestApplicability:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((48, 48), "exact"),
            ((64, 80), "exact"),
            ((64, 81), "per_window"),
            ((47, 60), "unknown"),
            ((65, 60), "per_window"),
            ((4000, 4000), "per_window"),
        ],
    )
    def test_sizes(self, calibration, size, expected):
        """Within the calibrated sizes exact, larger per window, smaller in any side unknown."""
        made = calibration_with(calibration, range(4), sizes=((48, 48), (80, 64)))
        assert made.applicability(*size) == expected

    def test_scenes_count_and_not_pairs(self, calibration):
        """Many large crops of one scene do not speak for the scenes that are small."""
        made = calibration_with(calibration, range(9), sizes=((80, 80), (48, 48), (80, 80)))
        assert made.applicability(80, 80) == "exact"
        pairs = [
            {**pair, "scene": "one" if pair["width"] == 80 else None}
            for pair in made.document["pairs"]
        ]
        assert changed(made, pairs=pairs).applicability(80, 80) == "per_window"

    @pytest.mark.parametrize(
        ("indecision", "expected"),
        [
            ({"clip_quantile": 1.0}, "per_window"),
            ({"clip_quantile": 0.95}, "unknown"),
            ({"estimator": "fitted", "fit": {"weights": [["slope@0", 1.0]]}}, "unknown"),
        ],
    )
    def test_some_sigma_looks_at_the_whole_image(self, calibration, indecision, expected):
        """Cut at a quantile of the image, or of wide terms, σ is another one in a window of it."""
        made = calibration_with(calibration, range(4))
        pipeline = {**PIPELINE.model_dump(), "indecision": indecision}
        larger = changed(made, pipeline=pipeline)
        assert larger.applicability(480, 480) == expected
        assert larger.applicability(48, 48) == "exact"


def test_from_the_quantiles(calibration):
    made = calibration_with(calibration, range(3))
    assert made.mean_trusted_fraction(-np.inf) == 0
    assert made.mean_trusted_fraction(np.inf) == 1
    assert made.mean_trusted_fraction(0.5) == pytest.approx(0.5, abs=0.011)
    shares = [made.mean_trusted_fraction(t) for t in np.linspace(-0.1, 1.1, 50)]
    assert shares == sorted(shares)
