"""What admission counts for a request is what making its answer allocates, and not less."""

import asyncio
import hashlib
import tracemalloc
from contextlib import asynccontextmanager

import numpy as np
import pytest

from harness.factories import calibration_of, encoded
from harness.fakes import FakeUpscaler
from harness.gateway import gateway
from harness.waiting import until
from trustscale_server.http.streamed import StreamedFile
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.images.encoding.encode import Attached, picture, write_picture
from trustscale_server.images.encoding.tiff import Pages
from trustscale_server.kinds.features import look_at
from trustscale_server.pixels.lab import lab_tables
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.sigma.estimators import ESTIMATORS, IndecisionSettings
from trustscale_server.sampling.sigma.features import is_fact
from trustscale_server.sampling.sigma.fits import SHIPPED, Fit, shipped_fit
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.serving.footprint import footprint
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.spool import IN_MEMORY, spooled
from trustscale_server.upscalers.base import Capabilities, Source

SIDE, SCALE = 256, 4
SMALL = 6_000_000
"""Bytes of what does not grow with the image, or only with its width: blocks, strips."""

FIT = Fit(weights=(("residual@1", 0.4), ("variance@2", 0.3), ("log color2@5", 0.1)))


class NoisyUpscaler(FakeUpscaler):
    def sample(self, rgb, seed):
        height, width, _ = rgb.shape
        shape = (height * self.scale, width * self.scale, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class InstantUpscaler(FakeUpscaler):
    """Repeats pixels and flips the lowest bits: its samples allocate nothing else."""

    def sample(self, rgb, seed):
        large = rgb.repeat(self.scale, 0).repeat(self.scale, 1)
        large ^= np.uint8(seed & 3)
        return large


@asynccontextmanager
async def traced():
    """Allocations are traced inside. Python 3.11 crashes if a thread allocates when that ends."""
    lab_tables()  # made once, and kept
    tracemalloc.start()
    try:
        yield
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()
        tracemalloc.stop()


async def peak_of(pipeline, capabilities):
    upscaler = InstantUpscaler(scale=pipeline.scale, capabilities=capabilities)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    is_served = pipeline.samples == 1  # and looked at for what was added
    source = Source(noise, look_at(noise, LOSSLESS) if is_served else None)
    await measure(upscaler, source, pipeline, seed=1)  # threads are made once
    await until(lambda: tracemalloc.get_traced_memory()[0] < SMALL)  # of which one may hold σ yet
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    await measure(upscaler, source, pipeline, seed=1)
    return tracemalloc.get_traced_memory()[1] - before


def served(name):
    """The pipeline of a shipped model: one sample, and the terms of its fit but facts of X."""
    terms = [term for term, _ in shipped_fit(name).weights if not is_fact(term)]
    fit = Fit(weights=tuple((term, 0.1) for term in terms))
    return MeasurementSpec(
        fingerprint="fake:1",
        scale=SCALE,
        samples=1,
        indecision=IndecisionSettings("fitted", fit=fit),
    )


def pipeline(estimator="smoothed_variance", prediction="first", samples=8, scale=SCALE):
    return MeasurementSpec(
        fingerprint="fake:1",
        scale=scale,
        samples=samples,
        prediction=prediction,
        indecision=IndecisionSettings(
            estimator, fit=FIT if ESTIMATORS[estimator].takes_fit else None
        ),
    )


ALLOCATING = [  # what makes σ uses more memory on more cores; the rest does not
    *(
        (pipeline(name), Capabilities(), 64)
        for name, row in ESTIMATORS.items()
        if not row.is_for_text
    ),
    *((served(name), Capabilities(by_tiles=True), 64) for name in SHIPPED),
    *(
        (pipeline(prediction=prediction), capabilities, 1)
        for prediction in ("first", "mean")
        for capabilities in (Capabilities(concurrency=4), Capabilities(samples_per_call=8))
    ),
    # Up to six samples need no sums, and are counted without them.
    (pipeline("fitted", samples=2), Capabilities(), 1),
    (pipeline("departure", samples=1), Capabilities(), 1),
    (pipeline(samples=4), Capabilities(concurrency=4), 1),
    (pipeline("fitted", "mean", samples=6), Capabilities(), 1),
]


@pytest.mark.parametrize(("asked", "capabilities", "cores"), ALLOCATING)
async def test_covers_what_is_allocated(asked, capabilities, cores, monkeypatch):
    """What is counted, but for files, is above the peak, whatever makes σ."""
    monkeypatch.setattr("trustscale_server.platform.ordered_map.usable_cores", lambda: cores)
    expected = footprint(SIDE, SIDE, asked, capabilities, 0) - 8 * (SIDE * asked.scale) ** 2
    # A thread that is put to sleep between its answer and its end holds its sample a while longer.
    async with traced():
        for _ in range(5):
            peak = await peak_of(asked, capabilities)
            if peak - SMALL <= expected:
                break
    assert peak - SMALL <= expected


@pytest.mark.parametrize(
    ("options", "in_memory"),
    [
        ({}, 1000),
        ({"believed": True}, IN_MEMORY),
        ({"format": "tiff"}, 1000),
        ({"format": "webp", "quality": 100}, IN_MEMORY),
        ({"format": "avif", "quality": 100}, 1000),
    ],
)
async def test_covers_the_answer(tmp_path, monkeypatch, options, in_memory):
    """From samples to stored files of a picture of noise, a request stays below its cost."""
    monkeypatch.setattr("trustscale_server.stores.spool.IN_MEMORY", in_memory)
    monkeypatch.setattr("trustscale_server.serving.footprint._MAX_FILES", 3 * in_memory)
    upscaler = NoisyUpscaler(scale=SCALE, capabilities=Capabilities())
    calibration = await calibration_of(upscaler, samples=2)
    app = gateway(tmp_path, upscaler, calibrations=[calibration])
    asked = UpscaleRequest(**options, alpha=calibration.everything.bound)
    async with traced(), app.router.lifespan_context(app) as state:
        service = state["trustscale"].services.service
        upload = encoded(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        small = encoded(np.zeros((16, 16, 3), np.uint8))
        await service.run(await service.prepare(small, asked))  # tables are made once
        prepared = await service.prepare(upload, asked)
        cost, picture = prepared.footprint, 4 * (SIDE * SCALE) ** 2
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await service.run(prepared)
        peak = tracemalloc.get_traced_memory()[1] - before
    assert peak + picture - SMALL <= cost


@pytest.mark.parametrize("form", ["png", "tiff", "ome.tiff"])
async def test_large_files_are_written_and_sent_in_parts(tmp_path, monkeypatch, form):
    """A file of noise is never whole in memory, has no name on the disk, and equals the whole."""
    monkeypatch.setattr("trustscale_server.stores.spool.IN_MEMORY", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6000, 1000, 3), np.uint8)
    pages = Pages(pixels[..., 0] > 99, pixels[..., 1] * np.uint16(257))
    expected = picture(pixels, form, attached=Attached(pages=pages))
    digest, sizes, gone = hashlib.sha256(), [], asyncio.Event()

    async def send(message):
        digest.update(message.get("body", b""))
        sizes.append(len(message.get("body", b"")))

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async with traced():
        file = spooled(write_picture, pixels, form, attached=Attached(pages=pages))
        answer = StreamedFile(file, "image/png")
        assert list(tmp_path.iterdir()) == []
        await answer({"type": "http"}, receive, send)
        assert file.closed
        assert tracemalloc.get_traced_memory()[1] < SMALL + pixels.nbytes // 3 < len(expected)
    assert len(sizes) > 10
    assert digest.digest() == hashlib.sha256(expected).digest()
    assert int(answer.headers["Content-Length"]) == len(expected)
    gone.set()
    with spooled(write_picture, pixels, form) as file:
        await StreamedFile(file, "image/png")(
            {"type": "http"}, receive, lambda _: asyncio.sleep(60)
        )
        assert file.closed
