"""Calibrations with a fitted σ carry its weights, and are tied to them."""

from __future__ import annotations

import dataclasses
from importlib import resources

import pytest

from app.calibration import file
from app.conformal.fitted import Fit
from app.conformal.indecision import LEARNED_STATE, IndecisionSettings
from app.errors import CalibrationMismatch
from app.sampling.measure import measure
from app.sampling.pipeline import Pipeline, guard
from app.serving.promise import Subject, guarantee
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from tests.factories import calibration_of, photo
from tests.fakes import FakeUpscaler

LEARNED = IndecisionSettings("learned")
FIT = Fit(weights=(("residual@1", 0.4), ("log slope@5", 0.2)), name="mine", photographs=("ab12",))
FITTED = IndecisionSettings("fitted", fit=FIT)


@pytest.mark.parametrize(("indecision", "samples"), [(LEARNED, 4), (FITTED, 1), (FITTED, 3)])
async def test_the_file_keeps_the_weights(indecision, samples):
    """Weights, their state and provenance are part of the pipeline, and of the id."""
    made = await calibration_of(FakeUpscaler(), 6, indecision=indecision, samples=samples)
    again = file.load(file.dump(made))
    assert (again.id, again.pipeline.samples) == (made.id, samples)
    assert again.pipeline.indecision == indecision
    assert again.pipeline.indecision.state == (LEARNED_STATE if indecision is LEARNED else None)
    guard(again.pipeline, FakeUpscaler())


async def test_a_calibration_without_a_fit_keeps_its_form():
    """Programs that know no fitted σ can read it."""
    calibration = await calibration_of(FakeUpscaler(), 6)
    assert "fit" not in calibration.document["pipeline"]["indecision"]


async def test_other_weights_are_refused():
    """A calibration of other weights serves nothing; the refusal names both states."""
    foreign = dataclasses.replace(LEARNED, state="of-another-program")
    pipeline = Pipeline(fingerprint="fake:1", scale=2, samples=4, indecision=foreign)
    with pytest.raises(CalibrationMismatch, match=r"indecision\.state") as refused:
        guard(pipeline, FakeUpscaler())
    assert refused.value.members["differences"] == [
        {
            "field": "indecision.state",
            "calibrated": "of-another-program",
            "live": LEARNED_STATE,
        }
    ]


@pytest.mark.parametrize(
    ("indecision", "samples"), [(LEARNED, 4), (FITTED, 1), (IndecisionSettings("residual"), 1)]
)
async def test_its_mask_follows_the_threshold(indecision, samples):
    """Mask and trust level agree, and the mask is not empty, from one sample on."""
    upscaler = FakeUpscaler()
    calibration = await calibration_of(upscaler, 30, indecision=indecision, samples=samples)
    measured = await measure(upscaler, Source(photo(99, 24, 24)), calibration.pipeline, 7)
    curve = calibration.curve
    for alpha in (0.1, 0.3):
        mask = curve.mask(measured.sigma, alpha)
        assert mask.mean() > 0
        assert not (curve.trust_code(measured.sigma) <= alpha / curve.bound * 65534)[~mask].any()


async def test_nothing_is_promised_for_windows_of_larger_outputs():
    """It looks at the whole image, so of another size than the calibrated one nothing is known."""
    calibration = await calibration_of(FakeUpscaler(), 6, indecision=LEARNED)
    pair = calibration.manifest.pairs[0]
    assert calibration.applicability(pair.height, pair.width) == "exact"
    assert calibration.applicability(2 * pair.height, 2 * pair.width) == "unknown"
    said = guarantee(Subject.of(calibration), 0.1, 2 * pair.height, 2 * pair.width).statement
    assert "of another size than the calibration images" in said


def test_the_first_fitted_calibration_still_serves():
    """The alternative that was shipped with `learned` loads, and this program has its weights."""
    folder = resources.files("app.calibration") / "alternatives"
    calibration = file.load((folder / "span-x4-learned.calibration").read_bytes())
    assert calibration.pipeline.indecision == LEARNED
    assert calibration.pipeline.samples == 8
    guard(calibration.pipeline, EmbeddedUpscaler("span-x4"))
    assert calibration.mean_trusted_fraction(calibration.curve.threshold(0.1)) > 0.8
