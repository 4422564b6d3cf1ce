"""The queue in front of the model, and what a worker takes for a request."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from harness.factories import encoded
from harness.waiting import until
from tests.workers.fakes import SleepingEngine, noise, textured
from trustscale_server.upscalers.tensors import HEADER_LENGTH, encode_message
from trustscale_worker.batcher import Batcher, WorkerMetrics
from trustscale_worker.errors import InputError, ModelFailed, OutOfMemory, TooLarge
from trustscale_worker.protocol import parse_request
from trustscale_worker.settings import WorkerSettings

IMAGE = np.zeros((2, 3, 3), np.uint8)


class _Batcher(Batcher):
    def __init__(self, engine):
        self.engine, self.metrics = engine, WorkerMetrics(engine.memory)
        super().__init__(engine, self.metrics, 8)

    def ask(self, *seeds, image=IMAGE):
        seeds = np.array(seeds, np.int64)
        return asyncio.create_task(self.submit(image, seeds))

    async def asks(self, *seeds, **given):
        task = self.ask(*seeds, **given)
        await until(lambda: self.engine.calls)
        return task

    async def waits(self, count):
        line = f"queue_requests {count}.0"
        await until(lambda: line in self.metrics.text().decode())


class TestJoining:
    async def test_requests_of_one_size_are_joined(self):
        engine = SleepingEngine(shut=True, together=4)
        async with _Batcher(engine) as batcher:
            first = await batcher.asks(1)
            rest = [batcher.ask(*range(n)) for n in (2, 1, 3)]
            await batcher.waits(3)
            engine.open.set()
            answers = await asyncio.gather(first, *rest)
        assert engine.calls == [[1], [2, 1], [3]]
        assert [len(answer) for answer in answers] == [1, 2, 1, 3]
        assert np.array_equal(answers[1][1], textured(IMAGE, 1, 2))

    async def test_other_sizes_are_not(self):
        engine = SleepingEngine(together=8)
        async with _Batcher(engine) as batcher:
            images = [IMAGE, IMAGE, IMAGE[:1], IMAGE]
            await asyncio.gather(*(batcher.ask(1, image=image) for image in images))
        assert engine.calls == [[1, 1, 1], [1]]


async def test_a_waiting_request_is_cancelled():
    engine = SleepingEngine(shut=True)
    async with _Batcher(engine) as batcher:
        running = await batcher.asks(1)
        waiting = batcher.ask(2)
        await batcher.waits(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        engine.open.set()
        await running
    assert engine.calls == [[1]]


@pytest.mark.parametrize(
    ("error", "seen"), [(OutOfMemory("no room"), OutOfMemory), (ValueError("bug"), ModelFailed)]
)
async def test_neighbours_are_spared(error, seen):
    engine = SleepingEngine(shut=True, together=4)
    engine.error = error
    async with _Batcher(engine) as batcher:
        first = await batcher.asks(1)
        both = [batcher.ask(n) for n in (2, 13)]
        await batcher.waits(2)
        engine.open.set()
        good, bad = await asyncio.gather(*both, return_exceptions=True)
        await first
    assert len(good) == 1
    assert isinstance(bad, seen)


@pytest.mark.parametrize(
    "counts_wrongly", [lambda made: made * 2, lambda made: [], lambda made: [made[0][:1]]]
)
async def test_another_number_of_results(counts_wrongly):
    """These calls fail, and the worker goes on."""
    engine = SleepingEngine()
    rightly = engine.samples_of
    async with _Batcher(engine) as batcher:
        engine.samples_of = lambda jobs: counts_wrongly(rightly(jobs))
        with pytest.raises(ModelFailed, match="another number of samples"):
            await batcher.ask(1, 2)
        engine.samples_of = rightly
        assert len(await batcher.ask(1, 2)) == 2


SETTINGS = WorkerSettings(max_pixels=100, max_samples=4)
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
SEEDS = np.array([1, -2], np.int64)


def _parse(document=None, **tensors):
    named = {"image": PIXELS, "seeds": SEEDS, **tensors}
    given = {name: tensor for name, tensor in named.items() if tensor is not None}
    parts, headers = encode_message(document or {}, "inputs", given, binary=True)
    return parse_request(memoryview(b"".join(parts)), headers[HEADER_LENGTH], SETTINGS)


NO_IMAGES = (b"", b"text", encoded(Image.new("RGBA", (3, 2))), encoded(noise(9, 9))[:70])


class TestRequest:
    @pytest.mark.parametrize(
        ("document", "tensors", "message"),
        [
            ({"outputs": [{"name": "other"}]}, {}, "unknown output 'other'"),
            ({"outputs": [{"name": "samples", "parameters": {"classification": 3}}]}, {},
             "classification"),
            ({}, {"picture": PIXELS}, "unknown input 'picture'"),
            ({}, {"image": PIXELS.astype(np.float32)}, "datatype 'FP32'"),
            ({}, {"image": PIXELS[None]}, r"expected shape \[H, W, 3\]"),
            ({}, {"seeds": SEEDS[:0]}, r"expected shape \[M\]"),
            ({}, {"seeds": None}, "'seeds' is missing"),
            *(({}, {"image": data}, "'image'") for data in NO_IMAGES),
        ],
    )  # fmt: skip
    def test_refused(self, document, tensors, message):
        with pytest.raises(InputError, match=message):
            _parse(document, **tensors)

    @pytest.mark.parametrize(
        ("tensors", "limit"),
        [({"image": np.zeros((11, 10, 3), np.uint8)}, "100"),
         ({"image": encoded(Image.new("RGB", (11, 10)))[:60]}, "100"),
         ({"seeds": np.arange(5)}, "at most 4")],
    )  # fmt: skip
    def test_limits(self, tensors, limit):
        with pytest.raises(TooLarge, match=limit):
            _parse(**tensors)

    def test_as_the_gateway_reads_them(self):
        assert np.array_equal(_parse(image=encoded(PIXELS)).image, PIXELS)
        exif = Image.Exif()
        exif[274] = 6
        turned = _parse(image=encoded(PIXELS, "JPEG", exif=exif)).image
        assert turned.shape == (3, 2, 3)
