"""A calibration that many tests read."""

import asyncio

import pytest

from harness.factories import calibration_of
from harness.fakes import FakeUpscaler


@pytest.fixture(scope="session")
def calibration():
    return asyncio.run(calibration_of(FakeUpscaler(), 12))
