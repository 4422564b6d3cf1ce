"""Samples are kept as they arrive: whatever ends a worker, no delivered call is made again."""

import sys

import numpy as np
import pytest

from harness.factories import photo
from harness.fakes import Sink, Unseeded
from harness.servers import ran
from trustscale_server.platform.errors import UpscalerFailed
from trustscale_server.sampling.draw import draw
from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.sampling.throughput import Throughput
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.upscalers.base import Capabilities, Source

SOURCE = Source(photo(0, 6, 8))


@pytest.fixture
def upscaler():
    return Unseeded()


@pytest.fixture
def again(upscaler, stores):
    """The upscaler as the next run of the same task has it."""
    return lambda: KeptSamples(upscaler, stores.blobs, "job-1.task")


async def drawn(upscaler, seeds, source=SOURCE):
    samples = {}
    await draw(upscaler, source, seeds, sink=Sink(on_sample=samples.__setitem__))
    return np.stack([samples[index] for index in range(len(seeds))])


async def test_a_second_run_calls_for_what_is_missing(again, upscaler):
    first = await drawn(again(), [1, 2])
    second = await drawn(again(), [3, 2, 1])
    assert sorted(map(tuple, upscaler.calls)) == [(1,), (2,), (3,)]
    np.testing.assert_array_equal(second[[2, 1]], first)


async def test_another_picture_or_model(again, upscaler):
    await drawn(again(), [1])
    await drawn(again(), [1], Source(photo(1, 6, 8)))
    upscaler.fingerprint = "fake:2"
    await drawn(again(), [1])
    assert len(upscaler.calls) == 3


async def test_sixteen_bits(again, upscaler):
    upscaler.capabilities = Capabilities(takes_16_bit=True)
    deep = Source(photo(0, 6, 8).astype(np.uint16) * 257)
    upscaler.sample = lambda rgb, seed: rgb.repeat(2, 0).repeat(2, 1) + np.uint16(seed)
    first = await drawn(again(), [1], deep)
    assert first.dtype == np.uint16
    np.testing.assert_array_equal(await drawn(again(), [1], deep), first)
    assert len(upscaler.calls) == 1


async def test_samples_that_nobody_can_use(again, upscaler):
    """Asked again, the upscaler may give one of the right size."""
    upscaler.sample = lambda rgb, seed: rgb
    for _ in range(2):
        with pytest.raises(UpscalerFailed, match=r"\(6, 8, 3\), expected uint8 \(12, 16, 3\)"):
            await drawn(again(), [1])
    assert len(upscaler.calls) == 2


async def test_what_costs_nothing(again, upscaler):
    """The samples of a model of this process are not kept."""
    upscaler.capabilities = Capabilities(by_tiles=True)
    for _ in range(2):
        await drawn(again(), [1])
    assert len(upscaler.calls) == 2


async def test_a_full_disk(again, upscaler, stores, monkeypatch):
    """A sample that could not be kept is used; what cannot be seen is not paid for again."""

    async def full(*_):
        raise StoreUnavailable("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(stores.blobs, "put", full)
        assert len(await drawn(again(), [1])) == 1
    monkeypatch.setattr(stores.blobs, "has", full)
    with pytest.raises(StoreUnavailable):
        await drawn(again(), [1])
    assert len(upscaler.calls) == 1


async def test_the_pace_of_the_model(again, upscaler):
    """Samples that were there say nothing of the time that one takes."""
    pace = Throughput()
    for seconds in (2.0, 0.001):
        asked = again()
        await drawn(asked, [1])
        pace.note(asked, 10**6, 1, seconds)
    assert pace.estimate(upscaler, 10**6, 1) == 2.0


LIFE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.calibration.test_job import submitted
from harness.fakes import FakeUpscaler
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibrating.job import CalibrationHandler
from trustscale_server.stores.opened import open_stores
from trustscale_server.upscalers.base import Capabilities

folder = Path(sys.argv[1])

class Paid(FakeUpscaler):
    async def generate(self, source, seeds, turn=None):
        if len(self.calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        samples = await super().generate(source, seeds, turn)
        with (folder / "delivered").open("a") as log:
            print(seeds, file=log)
        return samples

async def run():
    stores = open_stores("sqlite:///", folder, result_ttl_s=60, max_result_bytes=10**6)
    upscaler = Paid(capabilities=Capabilities(concurrency=1))
    handler = CalibrationHandler(
        {"fake": upscaler}, Calibrations(stores.calibrations), stores.blobs, stores.canary_states
    )
    try:
        job = await stores.jobs.load("job-c")
    except Exception:
        job = await submitted(stores, upscaler, 1, samples=5)
    record = await handler.run(job, "0")
    await stores.jobs.record(job.id, "0", record)
    await handler.after_recording(job, "0")
    await stores.close()

asyncio.run(run())
"""


@pytest.mark.slow
def test_kills(tmp_path):
    """Five samples in lives of two calls each: five calls are delivered; then nothing is kept."""
    codes = []
    while 0 not in codes and len(codes) < 6:
        ended = ran(sys.executable, "-c", LIFE, tmp_path)
        codes.append(ended.returncode)
    assert codes == [-9, -9, 0], ended.stderr[-2000:]
    delivered = (tmp_path / "delivered").read_text().splitlines()
    assert len(delivered) == len({*delivered}) == 5
    assert not list((tmp_path / "blobs").rglob("sample-*"))
