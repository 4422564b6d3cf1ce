"""Whole evaluations: every number of the table is made again from the raw maps."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest

from app.calibration.config import CalibrationConfig
from app.calibration.fit import FIT_DIGITS
from app.calibration.pairs import load_pair
from app.conformal import HighProbabilityCurve, RiskCurve, Staircase, fidelity
from app.conformal.fitted import Fit
from app.conformal.indecision import IndecisionSettings
from app.conformal.lab import normalised_lab
from app.errors import UpscalerFailed
from app.evaluation.leakage import leak
from app.evaluation.measure import SEMANTIC
from app.evaluation.reduce import FIDELITY
from app.evaluation.report import render
from app.evaluation.showcase import choose
from app.evaluation.variants import Variant
from app.images.decode import PAIR_LIMITS, decode
from app.sampling.measure import measure
from app.upscalers.base import Capabilities, Source, image_digest
from tests.evaluation.conftest import ALPHAS, evaluated, photographs, variants
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler
from tests.waiting import until

QUICK = {"with_baselines": False, "with_pictures": False}


def raw_maps(findings, items, variant):
    """(truth, Ŷ, σ, D, semantic D) of every image, by the serving code and nothing else."""
    upscaler = FakeUpscaler()
    pipeline = variant.pipeline(upscaler)
    maps = []
    for item in items:
        pair = load_pair(
            item.name, Path(item.y).read_bytes(), None, pipeline, degradation=None, seed=0
        )
        made = asyncio.run(measure(upscaler, Source(pair.x), pipeline, pair.seed))
        errors = [
            fidelity.error(pair.y, made.prediction, settings)
            for settings in (pipeline.fidelity, SEMANTIC)
        ]
        maps.append((pair.y, made.prediction, made.sigma, *errors))
    return maps


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_table_by_brute_force(findings, number):
    """Thresholds, areas, errors and PSNR of every rule and α follow from the raw maps."""
    variant = variants()[number]
    calibration = raw_maps(findings, findings.plan.calibration, variant)
    test = raw_maps(findings, findings.plan.test, variant)
    scenes = [item.group for item in findings.plan.calibration]
    assert len(set(scenes)) < len(scenes)  # both crops of a photograph count as one
    rows = [row for row in findings.rows if row.variant == variant.name]
    assert len(rows) == 3 * (len(ALPHAS) + 1)
    for row in rows:
        side = 4 if row.rule == "semantic" else 3
        bound = 1.0 if row.rule == "semantic" else fidelity.bound(variant.fidelity)
        stairs = [Staircase.from_maps(image[2], image[side]) for image in calibration]
        known = {"scenes": scenes, "highest": max(image[2].max() for image in calibration)}
        curve = (
            HighProbabilityCurve.from_staircases(stairs, bound, delta=0.1, **known)
            if row.rule == "high_probability"
            else RiskCurve.from_staircases(stairs, bound, **known)
        )
        threshold = math.inf if row.alpha is None else curve.threshold(row.alpha)
        assert row.threshold == threshold
        expected = {name: [] for name in row.quantities}
        for truth, prediction, sigma, error, semantic in test:
            mask = sigma < threshold
            expected["area"].append(mask.mean())
            expected["error"].append(error[mask].max(initial=0))
            expected["semantic"].append(semantic[mask].max(initial=0))
            if mask.any():
                rgb = (truth[mask].astype(float) - prediction[mask]) / 255
                lab = (
                    normalised_lab(truth)[:, mask].astype(float)
                    - normalised_lab(prediction)[:, mask]
                )
                expected["psnr"].append(-10 * np.log10(np.mean(rgb**2)))
                expected["psnr_lab"].append(-10 * np.log10(np.mean(lab**2)))
        for name, values in expected.items():
            interval = row.quantities[name]
            assert interval.images == len(values)
            if values:
                assert interval.mean == pytest.approx(np.mean(values), rel=1e-6)
                assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9


@pytest.mark.slow
def test_the_price_by_brute_force(findings):
    """Areas of one and of four generations follow from calibrations of so many, errors cut at c."""
    config = CalibrationConfig()
    areas = []
    for samples in (1, 4):
        usual = Variant(name="usual", samples=samples, fidelity=config.fidelity)
        calibration = raw_maps(findings, findings.plan.calibration, usual)
        test = raw_maps(findings, findings.plan.test, usual)
        curve = RiskCurve.from_staircases(
            [Staircase.from_maps(image[2], image[3]) for image in calibration],
            0.5,
            scenes=[item.group for item in findings.plan.calibration],
            highest=max(image[2].max() for image in calibration),
        )
        areas += [
            np.mean([(image[2] < curve.threshold(a)).mean() for image in test]) for a in ALPHAS
        ]
    rows = findings.results[0].prices()
    assert [(row["samples"], row["calls"]) for row in rows] == [(1, 1)] * 3 + [(4, 4)] * 3
    assert [row["trusted_area"] for row in rows] == pytest.approx(areas)
    assert all(row["seconds"] is not None and row["money"] is None for row in rows)


@pytest.mark.slow
def test_statuses(findings):
    """A promise is judged by its mean and its interval, and only for a given α."""
    for row in findings.rows:
        if row.alpha is None:
            assert (row.status, row.promise) == (None, None)
        elif row.threshold == -math.inf:
            assert (row.status, row.quantities["area"].mean) == ("nothing", 0)
        elif row.realised.mean <= row.alpha:
            assert row.status == "kept"
        else:
            assert row.status == ("within" if row.promise[0] <= row.alpha else "broken")
    assert {row.status for row in findings.rows} >= {"kept", "nothing"}


@pytest.mark.slow
def test_leakage(findings):
    """Leaked images can only enlarge the mask, and the bound of Proposition 3.2 grows with them."""
    (result,) = findings.results
    cell = result.cell(FIDELITY)
    leakage = leak(cell, 0.2, seed=0)
    place = cell.place(0.2)
    assert leakage.counts[0] == 0
    assert leakage.realised[0] == pytest.approx(cell.quantities["error"][:, place].mean())
    assert (np.diff(leakage.bounds) >= 0).all()
    assert leakage.realised[-1] >= leakage.realised[0]
    assert leakage.realised[-1] <= cell.quantities["error"][:, -1].mean() + 1e-12


@pytest.mark.slow
def test_chosen_images(findings):
    """The shown images are different ones, and the worst is the worst."""
    cell = findings.results[0].cell(FIDELITY)
    chosen = choose(cell, 0.2)
    assert len(chosen) == 4
    losses = cell.quantities["error"][:, cell.place(0.2)]
    *others, worst = chosen
    assert losses[worst] == np.delete(losses, others).max()


class TestCache:
    def test_other_settings_generate_nothing(self, tmp_path):
        """Samples do not depend on σ, D, α or δ."""
        folder, upscaler = photographs(tmp_path / "photos", 3, side=24), FakeUpscaler()
        first = evaluated(folder, upscaler, **QUICK)
        assert first.results[0].generated == 6
        assert len(upscaler.calls) == 6 * 4
        again = evaluated(folder, upscaler, delta=0.2, **QUICK)
        assert again.results[0].generated == 0
        assert len(upscaler.calls) == 6 * 4
        whole = [
            [row.realised for row in found.rows if row.alpha is None] for found in (first, again)
        ]
        assert whole[0] == whole[1]

    def test_a_failed_run_continues(self, tmp_path):
        """What came before a failure is kept, and only the rest is generated."""
        folder = photographs(tmp_path / "photos", 4, side=24)
        upscaler = FakeUpscaler()
        generate, asked = upscaler.generate, []

        async def dying(source, seeds, turn=None):
            asked.append(source.digest)
            if source.digest != asked[0]:
                return await generate(source, seeds, turn)
            await until(lambda: list((tmp_path / "cache").glob("*.samples")))
            raise UpscalerFailed("The model broke.")

        upscaler.generate = dying
        with pytest.raises(UpscalerFailed):
            evaluated(folder, upscaler, **QUICK)
        kept = len(list((tmp_path / "cache").iterdir()))
        assert 1 <= kept <= 7
        upscaler.generate = generate
        again = evaluated(folder, upscaler, **QUICK)
        assert again.results[0].generated == 8 - kept


@pytest.mark.slow
def test_two_upscalers(tmp_path):
    """Each is judged for itself on the same division, and has its own samples and section."""
    other = FakeUpscaler("a-b", scale=3, fingerprint="fake:2", strength=9.0)
    found = evaluated(photographs(tmp_path / "photos", 6), FakeUpscaler("a"), other, **QUICK)
    assert [result.name for result in found.results] == ["a", "a-b"]
    assert [result.generated for result in found.results] == [12, 12]
    rows = {name: [r for r in found.rows if r.upscaler == name] for name in ("a", "a-b")}
    assert len(rows["a"]) == len(rows["a-b"]) == 3 * 3 * (len(ALPHAS) + 1)
    whole = [next(r for r in rows[n] if r.alpha is None).realised.mean for n in ("a", "a-b")]
    assert whole[0] < whole[1]
    page = render(found)
    assert "<h2>a</h2>" in page
    assert "<h2>a-b</h2>" in page
    assert sum("masks set from" in sentence for sentence in found.verdict.findings) == 2


@pytest.mark.slow
def test_an_upscaler_of_one_sample(tmp_path):
    """One sample has no variance: the figure of its blurs is left out, the others are drawn."""
    folder = photographs(tmp_path / "photos", 3)
    model, settings = FakeUpscaler(capabilities=Capabilities(max_samples=1)), [Variant(name="one")]
    found = evaluated(folder, model, settings=settings, samples=(1, 2), with_baselines=False)
    figures = {picture.figure for picture in found.pictures}
    assert figures >= {"figure-1-gallery", "figure-2-error-and-mask", "settings"}
    assert "figure-5-blurs" not in figures


def test_bad_images_are_left_out(tmp_path):
    """An image that occurs twice or is too small is skipped if asked, and said so once."""
    folder = photographs(tmp_path / "photos", 4, side=24)
    (folder / "copy.png").write_bytes((folder / "000-0.png").read_bytes())
    (folder / "small.png").write_bytes(encoded(photo(1, 4, 4)))
    models = FakeUpscaler(), FakeUpscaler("other", scale=3)
    findings = evaluated(folder, *models, skip_bad=True, **QUICK)
    assert len(findings.skipped) == 2
    assert "small" in {item["name"] for item in findings.skipped}
    assert len(findings.plan.calibration) + len(findings.plan.test) == 8


@pytest.mark.slow
def test_photographs_that_sigma_was_fitted_on_are_told(tmp_path):
    """Their areas flatter the fit, so the report says how many there are."""
    folder = photographs(tmp_path / "photos", 3)
    seen = image_digest(decode((folder / "001-0.png").read_bytes(), PAIR_LIMITS).rgb)[:FIT_DIGITS]
    fit = Fit(weights=(("residual@1", 0.4),), photographs=(seen, "elsewhere"))
    mine = Variant(name="mine", samples=2, indecision=IndecisionSettings("fitted", fit=fit))
    made = evaluated(folder, FakeUpscaler(), settings=[mine], **QUICK)
    assert len(made.results[0].fitted_on) == 1
    assert any("was fitted on 1 of these images" in limit for limit in made.verdict.limits)
