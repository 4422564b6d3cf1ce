"""Calibrations with a fitted σ carry its weights, and are tied to them."""

from __future__ import annotations

import dataclasses
from importlib import resources

import pytest

from app.calibration import file
from app.conformal.fitted import Fit
from app.conformal.indecision import LEARNED_STATE, IndecisionSettings
from app.errors import CalibrationMismatch
from app.sampling.pipeline import Pipeline, guard
from app.upscalers.embedded import EmbeddedUpscaler
from tests.factories import calibration_of
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


def test_the_first_fitted_calibration_still_serves():
    """The alternative that was shipped with `learned` loads, and this program has its weights."""
    folder = resources.files("app.calibration") / "alternatives"
    calibration = file.load((folder / "span-x4-learned.calibration").read_bytes())
    assert calibration.pipeline.indecision == LEARNED
    assert calibration.pipeline.samples == 8
    guard(calibration.pipeline, EmbeddedUpscaler("span-x4"))
    assert calibration.mean_trusted_fraction(calibration.curve.threshold(0.1)) > 0.8
