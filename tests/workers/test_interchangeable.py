"""Our worker and a real Triton with the same tensors: the gateway cannot tell them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.sampling.draw import draw
from app.upscalers.base import Source
from app.upscalers.registry import OipConfig, WorkerConfig
from tests.live import serving
from tests.missing import not_here
from tests.servers import ServerMissing
from tests.upscalers.remote.pictures import patiently
from tests.upscalers.remote.real import RealServer
from tests.workers.fakes import SleepingEngine, expected, noise
from workers.service import create_app

pytestmark = [pytest.mark.servers, pytest.mark.slow]

APP = Path(__file__).parent / "apps" / "triton.py"
IMAGE = noise(30, 44)
SEEDS = [3, 2**31 - 1, 2**40 + 7, 1, 4, 5, 6]


class _Triton(RealServer):
    """The suite's Triton with a model of ours."""

    def _recipe(self, bin_):
        (python, _), _, env = super()._recipe(bin_)
        return [python, APP], "/v2/models/sleeper/ready", env


@pytest.fixture(scope="module")
def triton():
    """The address of a real Triton."""
    try:
        server = _Triton("pytriton")
    except ServerMissing as missing:
        not_here(missing)
    with server:
        yield server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def worker():
    """The address of a worker of ours."""
    with serving(create_app(SleepingEngine())) as address:
        yield address


async def _drawn(config):
    """All samples through an upscaler as the gateway builds and uses it."""
    up = patiently(config, {})
    got = {}
    try:
        await up.check()
        source = Source(IMAGE)
        await draw(up, source, SEEDS, on_sample=lambda row, image: got.update({row: image.copy()}))
    finally:
        await up.close()
    return np.stack([got[row] for row in range(len(SEEDS))])


def _oip(address):
    return OipConfig(
        name="up",
        url=f"http://{address}",
        model="sleeper",
        scale=2,
        seed_input="seeds",
        samples_per_call=3,
    )


async def test_same_configuration(triton, worker):
    """One `oip` entry serves both; only the address differs, and not one byte of the samples.

    So a Triton can stand in the place of a worker: kind `worker` draws the same, too.
    """
    for config in (_oip(worker), _oip(triton), WorkerConfig(name="up", urls=(f"http://{worker}",))):
        assert np.array_equal(await _drawn(config), [expected(IMAGE, seed, 2) for seed in SEEDS])
