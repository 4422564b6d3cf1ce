"""Whole evaluations: every number of the table is made again from the raw maps."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from app.calibration.fit import FIT_DIGITS
from app.calibration.pairs import load_pair
from app.conformal import HighProbabilityCurve, RiskCurve, Staircase, fidelity
from app.conformal.fidelity import FidelitySettings
from app.conformal.fitted import Fit
from app.conformal.indecision import IndecisionSettings
from app.conformal.lab import normalised_lab
from app.errors import UpscalerFailed
from app.evaluation.figures import leak
from app.evaluation.report import advice, render
from app.evaluation.showcase import choose
from app.evaluation.variants import compared
from app.images.decode import PAIR_LIMITS, decode
from app.sampling.measure import measure
from app.serving.subject import Subject
from app.upscalers.base import Capabilities, Source, image_digest
from tests.evaluation.conftest import ALPHAS, QUICK, evaluated, photographs, plain
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler
from tests.waiting import until


def raw_maps(result, uploads, cell):
    """(pair, Ŷ, σ, what is counted, D) of every upload, by the serving code and nothing else."""
    maps, pipeline = [], cell.pipeline
    is_semantic = pipeline.fidelity.metric == "semantic"
    for item in uploads:
        pair = load_pair(
            item.files.name,
            Path(item.files.y).read_bytes(),
            None,
            pipeline,
            degradation=result.made_by,
            seed=0,
            variant=item.variant,
        )
        source = Source(pair.x, pair.facts)
        made = asyncio.run(measure(FakeUpscaler(), source, pipeline, pair.seed))
        counted = fidelity.error(pair.y, made.prediction, pipeline.fidelity)
        shown = counted
        if is_semantic:
            shown = fidelity.error(pair.y, made.prediction, FidelitySettings())
        maps.append((pair, made.prediction, made.sigma, counted, shown))
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
            rgb = (pair.y[mask].astype(float) - prediction[mask]) / 255
            truth, guess = (normalised_lab(one)[:, mask] for one in (pair.y, prediction))
            found["psnr"].append(-10 * np.log10(np.mean(rgb**2)))
            found["psnr_lab"].append(-10 * np.log10(np.mean((truth.astype(float) - guess) ** 2)))
    return found


def check_rows(rows, test, threshold_of):
    """Every row is what its thresholds give."""
    for row in rows:
        alpha = row.alpha
        thresholds = [math.inf if alpha is None else threshold_of(one, alpha) for one in test]
        for name, values in expected_rows(test, thresholds).items():
            interval = row.quantities[name]
            assert interval.images == len(values)
            assert interval.mean == pytest.approx(np.mean(values), rel=1e-6)
            assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_the_table_by_brute_force(findings, number):
    """Areas, errors and PSNR of every setting and α follow from the raw maps."""
    (result,) = findings.results
    cell = result.cells[number]
    calibration = raw_maps(result, result.calibration, cell)
    scenes = findings.plan.scenes
    assert len(set(scenes)) < len(scenes)  # both crops of a photograph count as one
    rows = [row for row in findings.rows if row.variant == cell.name]
    assert [row.alpha for row in rows] == [*ALPHAS, None]
    stairs = [Staircase.from_maps(sigma, counted) for _, _, sigma, counted, _ in calibration]
    bound = fidelity.bound(cell.pipeline.fidelity)
    known = {"scenes": scenes, "highest": max(sigma.max() for _, _, sigma, *_ in calibration)}
    curve = (
        HighProbabilityCurve.from_staircases(stairs, bound, delta=0.1, **known)
        if cell.name == "paper, certain"
        else RiskCurve.from_staircases(stairs, bound, **known)
    )
    test = raw_maps(result, result.test, cell)
    check_rows(rows, test, lambda _, alpha: curve.threshold(alpha))


@pytest.mark.slow
def test_served_by_brute_force(as_served):
    """Each upload is answered from the class that the service reads from it."""
    (result,) = as_served.results
    cell = result.main
    assert len(cell.calibration.classes) > 10
    test = raw_maps(result, result.test, cell)

    def threshold(one, alpha):
        subject = Subject.of(cell.calibration, None, one[0].facts, size=one[2].shape)
        return subject.part.curve.threshold(alpha)

    rows = [row for row in as_served.rows if row.variant == cell.name]
    check_rows([row for row in rows if row.input_class is None], test, threshold)
    by_class = {row.input_class: row for row in rows if row.input_class is not None}
    assert sum(row.quantities["loss"].images for row in by_class.values()) == len(test)
    for name, row in by_class.items():
        own = [one for one in test if cell.calibration.class_of(one[0].facts) == name]
        check_rows([row], own, threshold)
        assert (row.status is None) == (name not in cell.calibration.classes)
    assert "fake, as this service would serve it: masks set from" in as_served.verdict.findings[0]


@pytest.mark.slow
def test_the_price(tmp_path):
    """Areas of other numbers of generations are those of the settings in the table."""
    folder = photographs(tmp_path / "photos", 4, crops=1)
    first = plain("one", samples=None)
    model = FakeUpscaler(capabilities=Capabilities(samples_per_call=2))
    known = {"fake": 0.5}
    settings = [first, *compared(first, (1, 2, 4)), plain("other", prediction="mean")]
    found = evaluated(folder, model, settings=settings, price_per_call=known, **QUICK)
    rows = found.results[0].prices()
    assert [(row["samples"], row["calls"], row["money"]) for row in rows[:: len(ALPHAS)]] == [
        (1, 1, 0.5),
        (2, 1, 0.5),
        (4, 2, 1.0),
    ]
    table = {(row.variant, row.alpha): row.quantities["area"].mean for row in found.rows}
    for row in rows:
        name = "one" if row["samples"] == 1 else f"one, M = {row['samples']}"
        assert row["trusted_area"] == pytest.approx(table[name, row["alpha"]])
        assert row["seconds"] is not None


@pytest.mark.parametrize(
    ("areas", "words"),
    [
        ({1: 0.5, 2: 0.79, 4: 0.8}, "2 is enough"),
        ({1: 0.795, 2: 0.79, 4: 0.8}, "1 is enough"),
        ({1: 0.5, 2: 0.7, 4: 0.8}, "4 is enough"),
        ({4: 0.8}, None),
    ],
)
def test_advice(areas, words):
    """The smallest M within two hundredths of the best; one M alone says nothing."""
    rows = [{"samples": m, "alpha": 0.1, "trusted_area": area} for m, area in areas.items()]
    told = advice(rows, 0.1)
    assert told is None if words is None else words in told


@pytest.mark.slow
def test_statuses(findings):
    """A promise is judged by its mean and its interval, and only for a given α."""
    for row in findings.rows:
        loss = row.quantities["loss"].mean
        if row.alpha is None:
            assert (row.status, row.promise) == (None, None)
        elif row.status == "nothing":
            assert row.quantities["area"].mean == 0
        elif loss <= row.alpha:
            assert row.status == "kept"
        else:
            assert row.status == ("within" if row.promise[0] <= row.alpha else "broken")
    assert {row.status for row in findings.rows} >= {"kept", "nothing"}


@pytest.mark.slow
def test_leakage(findings):
    """Leaked images can only enlarge the mask; without any the loss is that of the table."""
    cell = findings.results[0].main
    counts, realised = leak(cell, 0.2, seed=0)
    losses = cell.quantities["loss"]
    assert counts[0] == 0
    np.testing.assert_allclose(realised[0], losses[:, cell.place(0.2)].mean())
    assert realised[-1].min() >= realised[0].max()
    assert realised.max() <= losses[:, -1].mean() + 1e-12


@pytest.mark.slow
def test_chosen_images(findings):
    """The shown images are different ones, and the worst is the worst."""
    cell = findings.results[0].main
    chosen = choose(cell, 0.2)
    assert len(chosen) == 4
    losses = cell.quantities["error"][:, cell.place(0.2)]
    *others, worst = chosen
    assert losses[worst] == np.delete(losses, others).max()


class TestCache:
    def test_other_settings_generate_nothing(self, tmp_path):
        """Samples do not depend on σ, D, α or guarantee."""
        folder, upscaler = photographs(tmp_path / "photos", 3, side=24), FakeUpscaler()
        settings = [plain()], [plain(fidelity={"blur": 2})]
        found = [evaluated(folder, upscaler, settings=one, **QUICK) for one in settings]
        assert [one.results[0].generated for one in found] == [6, 0]
        assert len(upscaler.calls) == 6 * 4

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
            evaluated(folder, upscaler, settings=[plain()], **QUICK)
        kept = len(list((tmp_path / "cache").iterdir()))
        assert 1 <= kept <= 7
        upscaler.generate = generate
        again = evaluated(folder, upscaler, settings=[plain()], **QUICK)
        assert again.results[0].generated == 8 - kept


@pytest.mark.slow
def test_two_upscalers(tmp_path):
    """Each is judged for itself on the same division, and has its own samples and section."""
    other = FakeUpscaler("a-b", scale=3, fingerprint="fake:2", strength=9.0)
    folder, settings = photographs(tmp_path / "photos", 6), [plain()]
    found = evaluated(folder, FakeUpscaler("a"), other, settings=settings, **QUICK)
    assert [(result.name, result.generated) for result in found.results] == [("a", 12), ("a-b", 12)]
    rows = {name: [r for r in found.rows if r.upscaler == name] for name in ("a", "a-b")}
    whole = [next(r for r in rows[n] if r.alpha is None) for n in ("a", "a-b")]
    assert whole[0].quantities["loss"].mean < whole[1].quantities["loss"].mean
    page = render(found)
    assert all(f"<h2>{name}</h2>" in page for name in rows)
    assert sum("masks set from" in sentence for sentence in found.verdict.findings) == 2


def test_bad_images_are_left_out(tmp_path):
    """An image that occurs twice or is too small is skipped if asked, and said so once."""
    folder = photographs(tmp_path / "photos", 4, side=24)
    (folder / "copy.png").write_bytes((folder / "000-0.png").read_bytes())
    (folder / "small.png").write_bytes(encoded(photo(1, 4, 4)))
    models = FakeUpscaler(), FakeUpscaler("other", scale=3)
    findings = evaluated(folder, *models, settings=[plain()], skip_bad=True, **QUICK)
    assert len(findings.skipped) == 2
    assert "small" in {item["name"] for item in findings.skipped}
    assert len(findings.plan.calibration) + len(findings.plan.test) == 8


@pytest.mark.slow
def test_photographs_that_sigma_was_fitted_on_are_told(tmp_path):
    """Their areas flatter the fit, so the report says how many there are."""
    folder = photographs(tmp_path / "photos", 3)
    seen = image_digest(decode((folder / "001-0.png").read_bytes(), PAIR_LIMITS).rgb)[:FIT_DIGITS]
    fit = Fit(weights=(("residual@1", 0.4),), photographs=(seen, "elsewhere"))
    mine = plain(samples=2, indecision=IndecisionSettings("fitted", fit=fit))
    made = evaluated(folder, FakeUpscaler(), settings=[mine], **QUICK)
    assert len(made.results[0].fitted_on) == 1
    assert any("was fitted on 1 of these uploads" in limit for limit in made.verdict.limits)
