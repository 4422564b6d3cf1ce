"""What is dead is not called, and nothing more often than it takes or may cost."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import UpscalerRejected, UpscalerUnavailable
from app.upscalers import breaker
from app.upscalers.base import Source
from app.upscalers.remote.errors import BadCredentials, BreakerOpen, QuotaSpent
from app.upscalers.turns import Turn
from tests.clock import LoopClock
from tests.numbers import numbers_of
from tests.upscalers.resilient import SOURCE, Inner, counted, guarded
from tests.waiting import until

DEAD = UpscalerUnavailable("dead")


class TestSlots:
    async def test_shared_by_all_requests(self):
        """No more calls than configured are in flight, over all requests."""
        inner = Inner(seconds=0.01, concurrency=3)
        up = guarded(inner)
        sources = [Source(SOURCE.rgb) for _ in range(6)]
        await asyncio.gather(*(up.generate(s, [i]) for s in sources for i in (1, 2)))
        assert inner.most == 3

    async def test_a_smaller_server_is_learned(self):
        """A server with fewer slots than configured refuses a few calls, then no more."""
        up = guarded(Inner(seconds=0.02, concurrency=8, slots=2))
        await asyncio.gather(*(up.generate(Source(SOURCE.rgb), [i]) for i in range(1, 31)))
        assert counted(up, "calls")["busy"] <= 10

    async def test_order_and_cancellation(self):
        """Waiting callers are served in order; those that go away take no slot with them."""
        slots = breaker.CallLimit(1)
        order = []

        async def work(number):
            async with slots:
                order.append(number)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(work(number)) for number in range(6)]
        await until(lambda: order)
        for number in (0, 1, 4):  # one that holds the slot, and two that wait
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 2, 3, 5]
        assert slots.in_flight == 0


class TestBreaker:
    @pytest.fixture
    async def dead(self):
        """An upscaler whose inner one is dead, closed when the test ends."""
        made = []

        def build(inner=None, **options):
            inner = inner or Inner(concurrency=1)
            inner.failure = DEAD
            made.append(guarded(inner, **{"breaker_blip_s": 0, **options}))
            return made[-1], inner

        yield build
        for up in made:
            await up.close()

    async def test_dead_upstream(self, dead):
        """Once open, answers come at once, without a call, until the health check succeeds."""
        up, inner = dead(breaker_failures=4, breaker_rest_s=0.05, attempts=3)
        for _ in range(2):
            with pytest.raises(UpscalerUnavailable):
                await up.generate(Source(SOURCE.rgb), [1])
        assert len(inner.calls) == 4
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        assert len(inner.calls) == 4
        assert gauge(up) == 1
        inner.failure = None
        await until(lambda: gauge(up) == 0)
        await up.generate(SOURCE, [1])
        assert not up.breaker_open

    async def test_half_open(self, dead):
        """After its own health check, one more failure is enough to open it again.

        That somebody else found the upstream well does not let calls through.
        """
        up, inner = dead(breaker_failures=3, attempts=5, breaker_rest_s=0.05)
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        inner.failure = None
        await up.check()
        assert up.breaker_open
        await until(lambda: not up.breaker_open)
        inner.failure = DEAD
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        assert len(inner.calls) == 4

    async def test_one_blip(self):
        """Many calls that fail together, as when one cable is pulled, do not open it.

        Twelve seconds with a failure in each would; these have passed by then, stalls or not.
        """
        up = guarded(Inner([DEAD] * 40, concurrency=40), breaker_failures=12, attempts=1)
        calls = (up.generate(Source(SOURCE.rgb), [seed]) for seed in range(1, 41))
        assert set(map(type, await asyncio.gather(*calls, return_exceptions=True))) == {type(DEAD)}
        assert not up.breaker_open

    def test_seconds_count_and_not_calls(self):
        """It opens when an upstream has been away for seconds, whatever was in flight."""
        now = 1000.0
        judge = breaker.Breaker(failures=3, blip_s=1, clock=lambda: now)
        for second in range(3):
            assert not judge.is_open
            now = 1000.0 + second
            for _ in range(50):
                judge.failed()
        assert judge.is_open

    async def test_patience(self, dead):
        """A call with patience waits for the health check and goes on; others fail at once."""
        up, inner = dead(breaker_rest_s=0.01, attempts=2)
        patient = asyncio.create_task(up.generate(SOURCE, [1], Turn(patience_s=3600)))
        await until(lambda: inner.checks > 2)
        assert len(inner.calls) == 2  # only the free health check asks meanwhile
        with pytest.raises(BreakerOpen):
            await up.generate(Source(SOURCE.rgb), [1])
        inner.failure = None
        assert len(await patient) == 1
        assert not up.breaker_open

    async def test_patience_ends(self, dead):
        """What does not come back is given up, and what only an operator can mend at once."""
        clock = LoopClock()
        up, _ = dead(breaker_rest_s=3600, attempts=1)
        patient = asyncio.create_task(up.generate(SOURCE, [1], Turn(patience_s=60)))
        await until(lambda: up.breaker_open)
        clock.jump(61)
        with pytest.raises(UpscalerUnavailable):
            await patient
        with pytest.raises(BadCredentials):
            await guarded(Inner([BadCredentials("x")])).generate(SOURCE, [1], Turn(patience_s=60))

    async def test_a_health_check_that_breaks(self, dead):
        """An unexpected error of the health check does not keep it open for ever."""

        class Odd(Inner):
            async def check(self):
                await super().check()
                if self.checks < 3:
                    raise RecursionError

        up, inner = dead(Odd(), breaker_failures=1, breaker_rest_s=0.01, attempts=1)
        with pytest.raises(UpscalerUnavailable):
            await up.generate(SOURCE, [1])
        inner.failure = None
        await until(lambda: not up.breaker_open)
        assert inner.checks >= 3

    async def test_refused_inputs_do_not_open_it(self):
        """An upstream that refuses inputs lives."""
        up = guarded(Inner([UpscalerRejected("x")] * 10), breaker_failures=3, breaker_blip_s=0)
        for _ in range(10):
            with pytest.raises(UpscalerRejected):
                await up.generate(SOURCE, [1])
        await up.generate(SOURCE, [1])


class TestSpending:
    async def test_limit(self):
        """Over the limit nothing is called, and the error says how long."""
        inner = Inner()
        up = guarded(inner, max_calls_per_hour=2)
        for seed in (1, 2):
            await up.generate(SOURCE, [seed])
        with pytest.raises(QuotaSpent, match="max_calls_per_hour of 2") as failure:
            await up.generate(SOURCE, [3])
        assert 3500 < failure.value.retry_after <= 3600
        assert len(inner.calls) == 2

    async def test_sliding_hour(self):
        """What was spent is free again an hour later."""
        now = 1000.0
        calls = breaker.MemoryCalls(clock=lambda: now)
        assert await calls.take("a", 1, seconds=3600) == 0
        assert await calls.take("a", 1, seconds=3600) == 3600
        now += 3601
        assert await calls.count("a", seconds=3600) == 0
        assert await calls.take("a", 1, seconds=3600) == 0

    async def test_two_processes(self):
        """They share the limit where they share the count."""
        calls = breaker.MemoryCalls()
        first, second = (guarded(Inner(), max_calls_per_hour=3, calls=calls) for _ in range(2))
        for up in (first, second, first):
            await up.generate(SOURCE, [1])
        for up in (first, second):
            with pytest.raises(QuotaSpent):
                await up.generate(SOURCE, [2])
            assert (await up.health()).calls_last_hour == 3


def gauge(up):
    """What the metrics say of the breaker."""
    return numbers_of(up.metrics)["trustscale_upstream_breaker_open", "inner"]
