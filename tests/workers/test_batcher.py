"""The queue in front of the model."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.waiting import until
from tests.workers.fakes import SleepingEngine, textured
from workers.batcher import Batcher
from workers.errors import Busy, ModelFailed, OutOfMemory
from workers.metrics import WorkerMetrics

IMAGE = np.zeros((2, 3, 3), np.uint8)


class _Batcher(Batcher):
    """A queue of eight requests, whose metrics tell how many wait."""

    def __init__(self, engine):
        self.engine, self.metrics = engine, WorkerMetrics(engine.memory)
        super().__init__(engine, self.metrics, 8)

    def ask(self, *seeds, image=IMAGE, timeout_s=None):
        """A request for these samples."""
        seeds = np.array(seeds, np.int64)
        return asyncio.create_task(self.submit(image, seeds, timeout_s))

    async def asks(self, *seeds, **given):
        """The same, when it runs."""
        task = self.ask(*seeds, **given)
        await until(lambda: self.engine.calls)
        return task

    async def waits(self, count):
        line = f"queue_requests {count}.0"
        await until(lambda: line in self.metrics.text().decode())


class TestJoining:
    async def test_requests_of_one_size_are_joined(self):
        """While the model is busy, waiting requests of one size are collected for one call."""
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
        """Images of other sizes wait for their own call, in order."""
        engine = SleepingEngine(together=8)
        async with _Batcher(engine) as batcher:
            images = [IMAGE, IMAGE, IMAGE[:1], IMAGE]
            await asyncio.gather(*(batcher.ask(1, image=image) for image in images))
        assert engine.calls == [[1, 1, 1], [1]]

    async def test_models_that_gain_nothing(self):
        """A model that gains nothing by it gets one request at a time."""
        engine = SleepingEngine(together=1)
        async with _Batcher(engine) as batcher:
            await asyncio.gather(*(batcher.ask(n) for n in range(3)))
        assert engine.calls == [[1], [1], [1]]


async def test_timeout_counts_only_in_the_queue():
    """A request that waits too long is turned away; one that runs is finished."""
    engine = SleepingEngine(shut=True)
    async with _Batcher(engine) as batcher:
        running = await batcher.asks(1, timeout_s=0.05)
        with pytest.raises(Busy, match="timeout"):
            await batcher.ask(2, timeout_s=0.05)
        engine.open.set()
        assert len(await running) == 1
    assert engine.calls == [[1]]


class TestCancellation:
    async def test_waiting_request(self):
        """A request that is given up while it waits never reaches the model."""
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

    @pytest.mark.parametrize("timeout_s", [None, 3600])
    async def test_running_request(self, timeout_s):
        """A request that is given up while it runs stops the model, and the next one runs."""
        engine = SleepingEngine(shut=True)
        async with _Batcher(engine) as batcher:
            running = await batcher.asks(1, timeout_s=timeout_s)
            running.cancel()
            assert await asyncio.to_thread(engine.cancelled.wait, 60)
            engine.open.set()
            assert len(await batcher.ask(2)) == 1

    async def test_closing(self):
        """Closing stops the model and fails whoever is left."""
        async with _Batcher(SleepingEngine(shut=True)) as batcher:
            left = [batcher.ask(1), await batcher.asks(2)]
        for task in left:
            with pytest.raises(Busy, match="shutting down"):
                await task
        with pytest.raises(Busy, match="shutting down"):
            batcher.check()


@pytest.mark.parametrize(
    ("error", "seen"), [(OutOfMemory("no room"), OutOfMemory), (ValueError("bug"), ModelFailed)]
)
async def test_neighbours_are_spared(error, seen):
    """When a joint call fails, only the request that fails alone gets the error."""
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
