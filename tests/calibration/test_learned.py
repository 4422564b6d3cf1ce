"""Calibrations with the learned σ are tied to its weights."""

from __future__ import annotations

import dataclasses
from importlib import resources

import pytest

from app.calibration import file
from app.calibration.active import shipped_calibrations
from app.conformal import learned
from app.conformal.indecision import Settings
from app.errors import CalibrationMismatch
from app.sampling.measure import measure
from app.sampling.pipeline import Pipeline, guard
from app.serving.answer import guarantee
from app.upscalers.base import Source
from tests.factories import calibration_of, photo
from tests.fakes import FakeUpscaler

LEARNED = Settings("learned")


async def test_the_file_keeps_the_state():
    """A calibration names the weights of its σ, also after it went through a file."""
    calibration = await calibration_of(FakeUpscaler(), 6, indecision=LEARNED)
    again = file.load(file.dump(calibration))
    assert again.id == calibration.id
    assert again.pipeline.indecision.state == learned.STATE
    guard(again.pipeline, FakeUpscaler())


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
            "live": learned.STATE,
        }
    ]


async def test_its_mask_follows_the_threshold():
    """Mask and trust level of the learned σ agree, and the mask is not empty."""
    upscaler = FakeUpscaler()
    calibration = await calibration_of(upscaler, 30, indecision=LEARNED)
    measured = await measure(upscaler, Source(photo(99, 24, 24)), calibration.pipeline, 7)
    curve = calibration.curve
    for alpha in (0.1, 0.3):
        mask = curve.mask(measured.sigma, alpha)
        assert mask.mean() > 0
        assert (mask == (curve.trust_level(measured.sigma) <= alpha)).all()


async def test_nothing_is_promised_for_windows_of_larger_outputs():
    """It looks at the whole image, so of another size than the calibrated one nothing is known."""
    calibration = await calibration_of(FakeUpscaler(), 6, indecision=LEARNED)
    pair = calibration.manifest.pairs[0]
    assert calibration.applicability(pair.height, pair.width) == "exact"
    assert calibration.applicability(2 * pair.height, 2 * pair.width) == "unknown"
    said = guarantee(calibration, 0.1, 2 * pair.height, 2 * pair.width).statement
    assert "of another size than the calibration images" in said


def test_the_alternative_differs_from_the_shipped_one_in_sigma_only():
    """The same photographs, samples and settings, with the weights that this program has."""
    folder = resources.files("app.calibration") / "alternatives"
    learned_one = file.load((folder / "span-x4-learned.calibration").read_bytes())
    shipped = next(
        one
        for one in shipped_calibrations()
        if one.pipeline.fingerprint == learned_one.pipeline.fingerprint
    )
    assert learned_one.pipeline == shipped.pipeline.model_copy(update={"indecision": LEARNED})
    assert [(p.y_sha256, p.seed) for p in learned_one.manifest.pairs] == [
        (p.y_sha256, p.seed) for p in shipped.manifest.pairs
    ]
    assert learned_one.manifest.provenance.attributions
    for alpha in (0.05, 0.075, 0.1):
        larger = learned_one.mean_trusted_fraction(learned_one.curve.threshold(alpha))
        assert larger > shipped.mean_trusted_fraction(shipped.curve.threshold(alpha))


def test_no_learned_calibration_is_activated_by_itself():
    """A fresh installation serves the default σ."""
    assert all(one.pipeline.indecision.estimator != "learned" for one in shipped_calibrations())
