"""Samples are compared with a witness's answer to the same input."""

from __future__ import annotations

import pytest

from app.calibration.config import CalibrationConfig
from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest, CalibrationMismatch, TimedOut, UpscalerUnavailable
from app.sampling.measure import measure, measured_again
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source
from tests.factories import photo
from tests.fakes import FakeUpscaler, FakeWitness
from tests.sampling.test_pipeline import equal, source

WITNESSED = Pipeline(
    fingerprint="fake:1",
    scale=2,
    samples=1,
    indecision=IndecisionSettings("witness"),
    witness="witness:1 x2",
)


class TestWitness:
    async def test_it_is_asked_once_beside_the_samples(self):
        """Where the sample departs from its answer σ is large; where they agree it is 0."""

        class Inventing(FakeUpscaler):
            def sample(self, rgb, seed):
                large = rgb.repeat(2, 0).repeat(2, 1)
                large[:, :4] ^= 64
                return large

        witness = FakeWitness()
        wide = Source(photo(1, 20, 100))
        found = await measure(Inventing(witness=witness), wide, WITNESSED, 5)
        assert witness.asked == 1
        assert found.sigma[:, :8].min() > 10 * found.sigma[:, -60:].max()
        again = measured_again([found.prediction], wide, WITNESSED, found.witness)
        assert equal(found, again)

    @pytest.mark.parametrize("witness", [FakeWitness("witness:2"), None])
    async def test_another_witness(self, witness):
        """A calibration is void without the very witness that it was made with."""
        with pytest.raises(CalibrationMismatch, match="witness"):
            await measure(FakeUpscaler(witness=witness), source(), WITNESSED, 5)

    async def test_late(self):
        """The deadline is the witness's, too."""
        witness = FakeWitness()
        witness.gate.clear()
        with pytest.raises(TimedOut, match="deadline"):
            await measure(FakeUpscaler(witness=witness), source(), WITNESSED, 5, deadline=0.01)

    async def test_the_samples_fail(self):
        """Their error is told at once; the witness's answer is not waited for."""
        witness, upscaler = FakeWitness(), FakeUpscaler()
        witness.gate.clear()
        upscaler.witness, upscaler.failure = witness, UpscalerUnavailable("It sleeps.")
        with pytest.raises(UpscalerUnavailable, match="It sleeps"):
            await measure(upscaler, source(), WITNESSED, 5)

    def test_default(self):
        """One sample is compared with the witness, where there is one that is not the upscaler."""
        one = CalibrationConfig(samples=1)
        witnessed = one.pipeline(FakeUpscaler(witness=FakeWitness()))
        assert (witnessed.indecision.estimator, witnessed.witness) == ("witness", "witness:1 x2")
        itself = FakeUpscaler(witness=FakeWitness(), fingerprint="witness:1 x2")
        for upscaler in (FakeUpscaler(), itself):
            assert one.pipeline(upscaler).indecision.estimator == "residual"
            chosen = CalibrationConfig(samples=1, indecision=IndecisionSettings("witness"))
            with pytest.raises(BadRequest, match="span-x4"):
                chosen.pipeline(upscaler)
