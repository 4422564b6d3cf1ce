"""Drawing M samples: all or an error, in bounded memory, within the deadline."""

import asyncio
import threading

import numpy as np
import pytest

from harness.factories import photo
from harness.fakes import FakeUpscaler, Sink
from harness.waiting import until
from tests.clock import LoopClock
from trustscale_server.platform.errors import UpscalerFailed, UpscalerRejected, UpscalerUnavailable
from trustscale_server.sampling.draw import TimeLimits, draw
from trustscale_server.upscalers.base import Capabilities, Source
from trustscale_server.upscalers.failures import Filtered, WrongSample

SOURCE = Source(photo(0, 6, 8))


class Fake(FakeUpscaler):
    """Fails as a test chooses, by the seeds of a call."""

    def __init__(self, *, fail=lambda seeds: None, seconds=0.0, scale=2, **capabilities):
        super().__init__(seconds=seconds, scale=scale, capabilities=Capabilities(**capabilities))
        self.fail = fail

    async def generate(self, source, seeds, permit=None):
        samples = await super().generate(source, seeds, permit)
        if error := self.fail(seeds):
            raise error
        return samples


class Collector:
    def __init__(self):
        self.samples = {}
        self.threads = set()
        self.open = threading.Event()
        self.open.set()
        self.running = self.most_running = 0

    def __call__(self, index, sample):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.threads.add(threading.current_thread())
        assert self.open.wait(60)
        self.samples[index] = sample
        self.running -= 1


class TestSplitting:
    async def test_each_index_gets_the_sample_of_its_seed(self):
        upscaler, got, seeds = Fake(concurrency=4), Collector(), [5, 3, 9, 7, 1]
        assert await draw(upscaler, SOURCE, seeds, sink=Sink(on_sample=got)) == seeds
        for index, seed in enumerate(seeds):
            assert np.array_equal(got.samples[index], upscaler.sample(SOURCE.rgb, seed))

    async def test_calls(self, monkeypatch):
        """As few as the upscaler allows, of nearly equal size; as many at once as it takes.

        Every machine has one.
        """
        upscaler = Fake(samples_per_call=4, concurrency=8)
        await draw(upscaler, SOURCE, range(1, 10), sink=Sink(on_sample=Collector()))
        assert sorted(map(len, upscaler.calls)) == [3, 3, 3]
        upscaler = Fake(samples_per_call=9, machines=2)
        await draw(upscaler, SOURCE, range(1, 10), sink=Sink(on_sample=Collector()))
        assert sorted(map(len, upscaler.calls)) == [4, 5]
        upscaler = Fake(concurrency=3, seconds=0.01)
        await draw(upscaler, SOURCE, range(1, 9), sink=Sink(on_sample=Collector()))
        assert upscaler.most_in_flight == 3
        monkeypatch.setattr("trustscale_server.sampling.draw._CALL_BYTES", 2 * 3 * 12 * 16)
        upscaler = Fake(samples_per_call=8)
        await draw(upscaler, SOURCE, [1, 2, 3], sink=Sink())
        assert sorted(map(len, upscaler.calls)) == [1, 2]


class TestAccumulating:
    async def test_one_sample_at_a_time_outside_the_loop(self):
        upscaler, got, told = Fake(concurrency=8), Collector(), []
        got.open.clear()
        options = {"sink": Sink(on_sample=got, on_progress=lambda *step: told.append(step))}
        task = asyncio.create_task(draw(upscaler, SOURCE, range(1, 9), **options))
        await until(lambda: got.running and len(upscaler.calls) == 8 and not upscaler.in_flight)
        got.open.set()
        await task
        assert got.most_running == 1
        assert threading.main_thread() not in got.threads
        assert told == [(done, 8, "samples") for done in range(1, 9)]

    async def test_decoded_samples_of_one_call_at_a_time(self):
        """An adapter that takes its turn before decoding never decodes ahead of `on_sample`."""
        waiting = most = 0

        class Decoding(Fake):
            async def generate(self, source, seeds, permit=None):
                nonlocal waiting, most
                await asyncio.gather(permit.take(), permit.take())
                waiting += 1
                most = max(most, waiting)
                return await super().generate(source, seeds, permit)

        def on_sample(index, sample):
            nonlocal waiting
            waiting -= 1

        await draw(Decoding(concurrency=8), SOURCE, range(1, 9), sink=Sink(on_sample=on_sample))
        assert most == 1


class TestFailures:
    async def test_a_failed_seed_is_replaced(self):
        upscaler = Fake(fail=lambda seeds: Filtered("Withheld.") if 2 in seeds else None)
        got = Collector()
        used = await draw(upscaler, SOURCE, [1, 2, 3], spare_seeds=[8, 9], sink=Sink(on_sample=got))
        assert used == [1, 8, 3]
        assert np.array_equal(got.samples[1], upscaler.sample(SOURCE.rgb, 8))
        assert len(upscaler.calls) == 4
        with pytest.raises(UpscalerFailed, match="1 of 3 samples came") as failure:
            await draw(upscaler, SOURCE, [1, 2, 3], sink=Sink(on_sample=got))
        assert failure.value.members == {"came": 1, "needed": 3}

    @pytest.mark.parametrize("error", [UpscalerRejected("too large"), WrongSample("shifted")])
    async def test_hopeless_errors_use_no_spare_seeds(self, error):
        upscaler = Fake(fail=lambda seeds: error)
        with pytest.raises(type(error)):
            await draw(upscaler, SOURCE, [1, 2], spare_seeds=[3], sink=Sink(on_sample=Collector()))
        assert len(upscaler.calls) == 1

    async def test_a_shared_call_that_failed_is_repeated_in_single_ones(self):
        fail = lambda seeds: Filtered("Withheld.") if 2 in seeds else None  # noqa: E731
        upscaler, got = Fake(samples_per_call=3, fail=fail), Collector()
        used = await draw(upscaler, SOURCE, [1, 2, 3], spare_seeds=[8], sink=Sink(on_sample=got))
        assert (used, sorted(got.samples)) == ([1, 8, 3], [0, 1, 2])
        assert upscaler.calls == [[1, 2, 3], [1], [2], [3], [8]]

    async def test_an_error_cancels_the_other_calls(self):
        class OneFails(Fake):
            async def generate(self, source, seeds, permit=None):
                if seeds == [2]:
                    await until(lambda: self.in_flight == 2)
                    raise UpscalerUnavailable("gone")
                return await super().generate(source, seeds, permit)

        upscaler = OneFails(concurrency=4, seconds=3600)
        with pytest.raises(UpscalerUnavailable, match="gone"):
            await draw(upscaler, SOURCE, [1, 2, 3], sink=Sink(on_sample=Collector()))
        assert (upscaler.cancelled, upscaler.in_flight) == (2, 0)


class TestEnd:
    async def test_deadline(self):

        class Slow(Fake):
            async def generate(self, source, seeds, permit=None):
                self.seconds = 0 if seeds == [1] else 3600
                return await super().generate(source, seeds, permit)

        upscaler, got, clock = Slow(concurrency=2), [], LoopClock()
        options = {"sink": Sink(on_progress=lambda *told: got.append(told))}
        deadline = asyncio.get_running_loop().time() + 600
        task = asyncio.create_task(
            draw(upscaler, SOURCE, [1, 2, 3], limits=TimeLimits(deadline), **options)
        )
        await until(lambda: got and len(upscaler.calls) == 3)
        clock.jump(601)
        with pytest.raises(UpscalerUnavailable, match="1 of 3 samples") as failure:
            await task
        assert failure.value.members["came"] == 1
        assert upscaler.in_flight == 0

    async def test_cancelling_waits_for_the_thread(self):
        got = Collector()
        got.open.clear()
        task = asyncio.create_task(draw(Fake(), SOURCE, [1, 2], sink=Sink(on_sample=got)))
        await until(lambda: got.running == 1)
        task.cancel()
        for _ in range(20):  # turns of the loop, in which it would end if it could
            await asyncio.sleep(0)
        assert not task.done()
        got.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert got.running == 0
        assert list(got.samples) == [0]
