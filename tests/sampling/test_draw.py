"""Drawing M samples: all or an error, in bounded memory, within the deadline."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from app.errors import UpscalerFailed, UpscalerRejected, UpscalerUnavailable
from app.sampling.draw import draw
from app.upscalers.base import Capabilities, Source
from app.upscalers.remote.errors import Filtered, SomeFailed, WrongSample
from tests.clock import LoopClock
from tests.waiting import until


class Fake:
    """A seeded upscaler whose failures a test chooses."""

    name = "fake"
    kind = "fake"
    fingerprint = "fake"

    def __init__(self, *, scale=2, delay=0.0, fail=None, **capabilities):
        self.scale = scale
        self.delay = delay
        self.fail = fail or (lambda seeds: None)
        self.capabilities = Capabilities(**capabilities)
        self.calls: list[list[int]] = []
        self.in_flight = self.most_in_flight = self.cancelled = 0

    def sample(self, source, seed):
        shape = (source.height * self.scale, source.width * self.scale, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

    async def generate(self, source, seeds, turn=None):
        self.calls.append(list(seeds))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay)
            if error := self.fail(seeds):
                raise error
            return [self.sample(source, seed) for seed in seeds]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def check(self): ...

    async def close(self): ...


@pytest.fixture
def source():
    return Source(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8))


class Collector:
    def __init__(self, seconds=0.0):
        self.samples = {}
        self.seconds = seconds
        self.open = threading.Event()
        self.open.set()
        self.running = self.most_running = 0

    def __call__(self, index, sample):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        time.sleep(self.seconds)
        assert self.open.wait(60)
        self.samples[index] = sample
        self.running -= 1


class TestSplitting:
    async def test_each_index_gets_the_sample_of_its_seed(self, source):
        """Whatever the order of arrival, sample i belongs to seed i."""
        upscaler, got = Fake(concurrency=4), Collector()
        assert await draw(upscaler, source, [5, 3, 9, 7, 1], on_sample=got) == [5, 3, 9, 7, 1]
        for index, seed in enumerate([5, 3, 9, 7, 1]):
            assert np.array_equal(got.samples[index], upscaler.sample(source, seed))

    async def test_as_few_calls_as_allowed(self, source):
        """Calls are as few as the upscaler allows and of nearly equal size."""
        upscaler = Fake(samples_per_call=4, concurrency=8)
        await draw(upscaler, source, range(1, 10), on_sample=Collector())
        assert sorted(map(len, upscaler.calls)) == [3, 3, 3]

    async def test_concurrency(self, source):
        """No more calls are in flight than the upscaler takes."""
        upscaler = Fake(concurrency=3, delay=0.01)
        await draw(upscaler, source, range(1, 9), on_sample=Collector())
        assert upscaler.most_in_flight == 3

    async def test_large_samples_come_in_small_calls(self):
        """One call never brings more than 128 MiB of samples."""
        upscaler = Fake(scale=4, samples_per_call=8)
        large = Source(np.zeros((1024, 1024, 3), np.uint8))
        upscaler.sample = lambda source, seed: np.zeros((4096, 4096, 3), np.uint8)
        await draw(upscaler, large, [1, 2, 3], on_sample=lambda *_: None)
        assert sorted(map(len, upscaler.calls)) == [1, 2]

    @pytest.mark.parametrize(("seeds", "spares"), [([], []), ([1, 1], []), ([1, 2], [2])])
    async def test_wrong_seeds(self, source, seeds, spares):
        """No seeds, or a seed twice, is an error of the caller."""
        with pytest.raises(ValueError, match="distinct"):
            await draw(Fake(), source, seeds, spare_seeds=spares, on_sample=Collector())


class TestFolding:
    async def test_one_sample_at_a_time_outside_the_loop(self, source):
        """`on_sample` runs in another thread and never twice at once."""
        got, threads = Collector(seconds=0.005), set()

        def on_sample(index, sample):
            threads.add(threading.current_thread())
            got(index, sample)

        await draw(Fake(concurrency=8), source, range(1, 9), on_sample=on_sample)
        assert got.most_running == 1
        assert threading.main_thread() not in threads

    async def test_decoded_samples_of_one_call_at_a_time(self, source):
        """An adapter that takes its turn before decoding never decodes ahead of the folding."""
        unfolded = most = 0

        class Decoding(Fake):
            async def generate(self, source, seeds, turn=None):
                nonlocal unfolded, most
                await asyncio.gather(turn.take(), turn.take())
                unfolded += 1
                most = max(most, unfolded)
                return await super().generate(source, seeds, turn)

        def on_sample(index, sample):
            nonlocal unfolded
            time.sleep(0.002)
            unfolded -= 1

        await draw(Decoding(concurrency=8), source, range(1, 9), on_sample=on_sample)
        assert most == 1

    async def test_progress(self, source):
        """Progress counts the folded samples up to M."""
        seen = []
        await draw(
            Fake(concurrency=2),
            source,
            [1, 2, 3],
            on_sample=Collector(),
            on_progress=lambda done, total: seen.append((done, total)),
        )
        assert seen == [(1, 3), (2, 3), (3, 3)]

    async def test_an_error_of_on_sample_ends_the_draw(self, source):
        """What `on_sample` raises reaches the caller as it is, not in a group."""

        def on_sample(index, sample):
            raise RuntimeError("disk full")

        with pytest.raises(RuntimeError, match="disk full"):
            await draw(Fake(concurrency=2), source, [1, 2], on_sample=on_sample)


class TestFailures:
    async def test_wrong_size(self, source):
        """A sample of another size than k·h x k·w fails, naming both sizes."""
        upscaler = Fake()
        upscaler.sample = lambda source, seed: np.zeros((5, 5, 3), np.uint8)
        with pytest.raises(UpscalerFailed, match=r"\(5, 5, 3\), expected uint8 \(12, 16, 3\)"):
            await draw(upscaler, source, [1], on_sample=Collector())

    async def test_a_failed_seed_is_replaced(self, source):
        """A seed that fails for good gives its place to a spare seed."""
        upscaler = Fake(fail=lambda seeds: Filtered("nsfw") if 2 in seeds else None)
        got = Collector()
        used = await draw(upscaler, source, [1, 2, 3], spare_seeds=[8, 9], on_sample=got)
        assert used == [1, 8, 3]
        assert np.array_equal(got.samples[1], upscaler.sample(source, 8))
        assert len(upscaler.calls) == 4

    async def test_quorum(self, source):
        """Without a spare seed the error says how many samples came."""
        upscaler = Fake(fail=lambda seeds: Filtered("Withheld.") if 2 in seeds else None)
        with pytest.raises(UpscalerFailed, match="1 of 3 samples came") as failure:
            await draw(upscaler, source, [1, 2, 3], on_sample=Collector())
        assert failure.value.members == {"came": 1, "needed": 3}

    @pytest.mark.parametrize("error", [UpscalerRejected("too large"), WrongSample("shifted")])
    async def test_hopeless_errors_use_no_spare_seeds(self, source, error):
        """What no seed can mend stops the request at the first call."""
        upscaler = Fake(fail=lambda seeds: error)
        with pytest.raises(type(error)):
            await draw(upscaler, source, [1, 2], spare_seeds=[3], on_sample=Collector())
        assert len(upscaler.calls) == 1

    async def test_what_came_is_kept(self, source):
        """When part of a call came, only the rest is asked for again."""

        def fail(seeds):
            if len(seeds) > 1:
                sample = upscaler.sample(source, seeds[0])
                return SomeFailed([sample, None, None], Filtered("Withheld."))
            return None

        upscaler, got = Fake(samples_per_call=3, fail=fail), Collector()
        await draw(upscaler, source, [1, 2, 3], on_sample=got)
        assert upscaler.calls == [[1, 2, 3], [2], [3]]
        assert sorted(got.samples) == [0, 1, 2]

    async def test_an_error_cancels_the_other_calls(self, source):
        """Work in flight is cancelled when the request has failed."""

        class OneFails(Fake):
            async def generate(self, source, seeds, turn=None):
                if seeds == [2]:
                    raise UpscalerUnavailable("gone")
                return await super().generate(source, seeds, turn)

        upscaler = OneFails(concurrency=4, delay=30)
        with pytest.raises(UpscalerUnavailable, match="gone"):
            await draw(upscaler, source, [1, 2, 3], on_sample=Collector())
        assert (upscaler.cancelled, upscaler.in_flight) == (2, 0) or upscaler.calls == [[1]]


class TestDeadline:
    async def test_deadline(self, source):
        """At the deadline all work ends and the error says how many samples came."""

        class Slow(Fake):
            async def generate(self, source, seeds, turn=None):
                self.delay = 0 if seeds == [1] else 3600
                return await super().generate(source, seeds, turn)

        upscaler, got, clock = Slow(concurrency=2), [], LoopClock()
        drawing = draw(
            upscaler,
            source,
            [1, 2, 3],
            on_sample=lambda *_: None,
            on_progress=lambda *told: got.append(told),
            deadline=asyncio.get_running_loop().time() + 600,
        )
        task = asyncio.create_task(drawing)
        await until(lambda: got and len(upscaler.calls) == 3)
        clock.jump(601)
        with pytest.raises(UpscalerUnavailable, match="1 of 3 samples") as failure:
            await task
        assert failure.value.members["came"] == 1
        assert upscaler.in_flight == 0

    async def test_cancelling_waits_for_the_fold(self, source):
        """`on_sample` has ended when a cancelled draw ends."""
        got = Collector()
        got.open.clear()
        task = asyncio.create_task(draw(Fake(), source, [1, 2], on_sample=got))
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
