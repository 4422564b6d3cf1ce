"""What a calibration says about an image besides its mask."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from tests.factories import changed, made_of
from trustscale_server.calibration import record
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.images.facts import InputFeatures
from trustscale_server.sampling.pipeline import Pipeline

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
                assert made.report.typicality(row[-1]) == self.p_value(row[:-1], row[-1])

    @staticmethod
    def p_value(values, value):
        n = len(values)
        upper = (1 + sum(values >= value)) / (n + 1)
        lower = (1 + sum(values <= value)) / (n + 1)
        return min(1.0, 2 * min(upper, lower))

    def test_crops_of_a_scene_are_one_observation(self, calibration):
        """Of ten scenes of six crops one of each counts, with facts and without."""
        random = np.random.default_rng(0)
        points = random.normal(size=(60, 7))
        updates = [
            {
                "scene": str(k // 6),
                "x_sha256": random.bytes(32).hex(),
                "mean_log_sigma": z,
                "facts": dict(zip(NUMBERS, facts, strict=True)),
            }
            for k, (z, *facts) in enumerate(points)
        ]
        many, scenes = made_of(calibration, updates), [updates[k : k + 6] for k in range(0, 60, 6)]
        alone = made_of(calibration, [min(one, key=lambda x: x["x_sha256"]) for one in scenes])
        for z, *facts in random.normal(size=(30, 7)):
            for known in (InputFeatures(LOSSLESS, *facts), None):
                assert many.report.typicality(z, known) == alone.report.typicality(z, known)


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


def test_parts_are_bounded_and_shared_by_threads(calibration, monkeypatch):
    """A part is made once, whoever asks; those of other sizes replace it."""
    monkeypatch.setattr(record, "MOST_PARTS", 2)
    sides = (16, 64, 256, 1024)
    many = calibration_with(calibration, range(4), sizes=[(side, side) for side in sides])
    begin = Barrier(8)

    def asked(_):
        begin.wait()
        return many.partitions.of_size(16, 16)

    with ThreadPoolExecutor(8) as threads:
        [first] = set(threads.map(asked, range(8)))
    assert len({many.partitions.of_size(side, side) for side in sides}) > 2
    assert len(many.partitions._cache) == 2
    assert many.partitions.of_size(16, 16).id == first.id


def test_from_the_quantiles(calibration):
    made = calibration_with(calibration, range(3))
    assert made.report.mean_trusted_fraction(-np.inf) == 0
    assert made.report.mean_trusted_fraction(np.inf) == 1
    assert made.report.mean_trusted_fraction(0.5) == pytest.approx(0.5, abs=0.011)
    shares = [made.report.mean_trusted_fraction(t) for t in np.linspace(-0.1, 1.1, 50)]
    assert shares == sorted(shares)
