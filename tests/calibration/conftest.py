"""A calibration that many tests read."""

from __future__ import annotations

import asyncio

import pytest

from app.calibration.record import Calibration
from tests.factories import calibration_of
from tests.fakes import FakeUpscaler


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    """Twelve pairs of the fake upscaler."""
    return asyncio.run(calibration_of(FakeUpscaler(), 12))
