"""One gateway for the tests of a module."""

import asyncio

import pytest

from harness.factories import calibration_of
from harness.fakes import FakeUpscaler
from harness.gateway import gateway
from tests.live import serving


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    upscaler = FakeUpscaler()
    calibration = asyncio.run(calibration_of(upscaler))
    folder = tmp_path_factory.mktemp("service")
    with serving(gateway(folder, upscaler, calibrations=[calibration])) as address:
        yield f"http://{address}"
