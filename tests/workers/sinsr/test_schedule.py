"""The noise schedule."""

from __future__ import annotations

import numpy as np
import pytest

from workers.models.sinsr.config import DiffusionConfig
from workers.models.sinsr.schedule import OneStep, sqrt_etas


class TestSchedule:
    def test_official_values(self, data):
        """All 15 values of the official schedule are the reference's."""
        with np.load(data / "schedule.npz") as stored:
            want = stored["official/sqrt_etas"]
        np.testing.assert_allclose(sqrt_etas(DiffusionConfig()), want, rtol=1e-12)

    def test_one_step_uses_the_last_step(self):
        """One-step sampling evaluates step 14 of 15, with the published constants."""
        step = OneStep.from_config(DiffusionConfig())
        assert step.timestep == 14
        assert step.noise_std == pytest.approx(1.98)
        assert step.input_std == pytest.approx(2.218197466412762)
