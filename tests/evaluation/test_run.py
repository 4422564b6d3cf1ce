"""The evaluation: its table by brute force, and samples that are made once and kept."""

import asyncio
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from harness.factories import cells, encoded
from harness.fakes import FakeUpscaler
from harness.waiting import until
from tests.evaluation.conftest import ALPHAS, QUICK, evaluated, photographs, plain
from trustscale_evaluation.samples import SampleCache, Samples, packed_samples
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.conformal import (
    CalibrationSet,
    HighProbabilityCurve,
    LossCurve,
    RiskCurve,
    fidelity,
)
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.pixels.lab import normalised_lab
from trustscale_server.platform.errors import BadRequest, UpscalerFailed
from trustscale_server.sampling.measure import measure
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.upscalers.base import Source


def raw_maps(result, uploads, cell):
    """(pair, Ŷ, σ, what is counted, D) of every upload, by the serving code and nothing else."""
    maps, pipeline = [], cell.pipeline
    counted = shown = pipeline.fidelity
    if counted.metric == "semantic":
        shown = FidelitySettings()
    for item in uploads:
        made_by = {"degradation": result.made_by, "seed": 0}
        y = Path(item.source.paths["y"]).read_bytes()
        pair = load_pair(item.source, {"y": y}, pipeline, **made_by)
        source = Source(pair.x, pair.features)
        made = asyncio.run(measure(FakeUpscaler(), source, pipeline, pair.seed))
        errors = [fidelity.error(pair.y, made.prediction, one) for one in (counted, shown)]
        maps.append((pair, made.prediction, made.sigma, *errors))
    return maps


def expected_rows(test, thresholds):
    """The mean of every quantity, from masks that are drawn; thresholds: of each image."""
    found = defaultdict(list)
    for (pair, prediction, sigma, counted, error), threshold in zip(test, thresholds, strict=True):
        mask = sigma < threshold
        found["area"].append(mask.mean())
        found["loss"].append(counted[mask].max(initial=0))
        found["error"].append(error[mask].max(initial=0))
        if mask.any():
            rgb = (pair.y[mask].astype(float) - prediction[mask]) / np.iinfo(pair.y.dtype).max
            truth, guess = (normalised_lab(one)[:, mask] for one in (pair.y, prediction))
            found["psnr"].append(-10 * np.log10(np.mean(rgb**2)))
            found["psnr_lab"].append(-10 * np.log10(np.mean((truth.astype(float) - guess) ** 2)))
    return found


def check_rows(rows, test, threshold_of):
    for row in rows:
        alpha = row.alpha
        thresholds = [math.inf if alpha is None else threshold_of(one, alpha) for one in test]
        for name, values in expected_rows(test, thresholds).items():
            interval = row.quantities[name]
            assert interval.images == len(values)
            assert interval.mean == pytest.approx(np.mean(values), rel=1e-6)
            assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 4])
def test_the_table_by_brute_force(findings, number):
    (result,) = findings.results
    cell = result.cells[number]
    calibration = raw_maps(result, result.calibration, cell)
    scenes = findings.plan.scenes
    assert len(set(scenes)) < len(scenes)  # both crops of a photograph count as one
    rows = [row for row in findings.rows if row.variant == cell.name]
    assert [row.alpha for row in rows] == [*ALPHAS, None]
    bound = fidelity.bound(cell.pipeline.fidelity)
    stairs = [LossCurve.from_maps(maps[2], maps[3]).coarse(bound) for maps in calibration]
    known = {"scenes": scenes, "highest": cell.calibration.everything.highest}
    curve = (
        HighProbabilityCurve.from_calibration_set(CalibrationSet(stairs, bound, **known), delta=0.1)
        if cell.name == "paper, certain"
        else RiskCurve.from_calibration_set(CalibrationSet(stairs, bound, **known))
    )
    test = raw_maps(result, result.test, cell)
    check_rows(rows, test, lambda _, alpha: curve.threshold(alpha))


@pytest.mark.slow
def test_served_by_brute_force(as_served):
    (result,) = as_served.results
    cell = result.main
    assert len(cell.calibration.everything.classes) > 10
    test = raw_maps(result, result.test, cell)

    def threshold(one, alpha):
        subject = ApplicableCalibration.from_calibration(
            cell.calibration, None, one[0].features, shape=one[2].shape
        )
        return subject.subset.curve.threshold(alpha)

    rows = [row for row in as_served.rows if row.variant == cell.name]
    check_rows([row for row in rows if row.input_class is None], test, threshold)
    by_class = {row.input_class: row for row in rows if row.input_class is not None}
    assert sum(row.quantities["loss"].images for row in by_class.values()) == len(test)
    for name, row in by_class.items():
        own = [one for one in test if cell.calibration.everything.class_of(one[0].features) == name]
        check_rows([row], own, threshold)
        assert (row.status is None) == (name not in cell.calibration.everything.classes)
    assert "fake, as this service would serve it: masks set from" in as_served.verdict.findings[0]


@pytest.mark.slow
def test_data_by_brute_force(tmp_path):
    """Data of 16 bits under a stretch; the sheets show its upper 8."""
    folder = photographs(tmp_path / "photos", 6, side=40, crops=1)
    for k, path in enumerate(sorted(folder.glob("*.png"))):
        path.write_bytes(encoded(cells(k, 40)[..., 0]))
    settings = [plain(stretch="p1,p99")]
    findings = evaluated(folder, FakeUpscaler(), settings=settings, with_earlier=False)
    (result,) = findings.results
    test, curve = raw_maps(result, result.test, result.main), result.main.calibration.curve
    assert test[0][0].y.dtype == np.uint16
    check_rows(findings.rows, test, lambda _, alpha: curve.threshold(alpha))
    assert any("gallery" in picture.figure for picture in findings.pictures)
    with pytest.raises(BadRequest, match="the same stretch"):
        evaluated(folder, FakeUpscaler(), settings=[*settings, plain("other")], **QUICK)


def test_a_failed_run_continues(tmp_path):
    folder = photographs(tmp_path / "photos", 4, side=24)
    upscaler = FakeUpscaler()
    generate, asked = upscaler.generate, []

    async def dying(source, seeds, permit=None):
        asked.append(source.digest)
        if source.digest != asked[0]:
            return await generate(source, seeds, permit)
        await until(lambda: list((tmp_path / "cache").glob("*.samples")))
        raise UpscalerFailed("The model broke.")

    upscaler.generate = dying
    with pytest.raises(UpscalerFailed):
        evaluated(folder, upscaler, settings=[plain()], **QUICK)
    kept = len(list((tmp_path / "cache").iterdir()))
    assert 1 <= kept <= 7
    upscaler.generate = generate
    again = evaluated(folder, upscaler, settings=[plain()], **QUICK)
    assert again.results[0].generated == 8 - kept


def some(seed=0, count=4):
    random = np.random.default_rng(seed)
    return Samples(random.integers(0, 256, (count, 6, 5, 3), np.uint8))


def test_kept(tmp_path):
    cache = SampleCache(tmp_path / "deep" / "cache")
    keys = [("fp", "x", 7, 4), ("fq", "x", 7, 4), ("fp", "y", 7, 4), ("fp", "x", 8, 4)]
    assert len({cache.path(*key) for key in (*keys, ("fp", "x", 7, 5))}) == 5
    path = cache.path(*keys[0])
    assert cache.get(path) is None
    cache.put(path, some())
    assert np.array_equal(SampleCache(cache.folder).get(path).images, some().images)
    assert [p.name for p in cache.folder.iterdir()] == [path.name]
    whole = packed_samples(some())
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = cache.get(path)
        assert found is None or np.array_equal(found.images, some().images)
