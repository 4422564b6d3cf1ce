"""What is dead is not called, and nothing more often than it takes or may cost."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import UpscalerRejected, UpscalerUnavailable
from app.upscalers import breaker
from app.upscalers.base import Source
from app.upscalers.remote.errors import (
    BadCredentials,
    BreakerOpen,
    QuotaSpent,
)
from app.upscalers.turns import Turn
from tests.clock import LoopClock
from tests.upscalers.resilient import SOURCE, Inner, resilient
from tests.waiting import until


class TestSlots:
    async def test_shared_by_all_requests(self):
        """No more calls than configured are in flight, over all requests."""
        inner = Inner(seconds=0.01, concurrency=3)
        up = resilient(inner)
        sources = [Source(SOURCE.rgb) for _ in range(6)]
        await asyncio.gather(*(up.generate(s, [i]) for s in sources for i in (1, 2)))
        assert inner.most == 3

    async def test_a_smaller_server_is_learned(self):
        """A server with fewer slots than configured refuses a few calls, then no more."""
        inner = Inner(seconds=0.02, concurrency=8)
        inner.slots = 2
        up = resilient(inner)
        await asyncio.gather(*(up.generate(Source(SOURCE.rgb), [i]) for i in range(1, 31)))
        refused = up.metrics.outcomes.count("busy")
        assert refused <= 10

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
    async def test_dead_upstream(self):
        """Once open, answers come at once, without a call, until the health check succeeds."""
        inner = Inner(concurrency=1)
        inner.dead = True
        up = resilient(inner, breaker_failures=4, breaker_rest_s=0.05, breaker_blip_s=0, attempts=3)
        for _ in range(2):
            with pytest.raises(UpscalerUnavailable):
                await up.generate(Source(SOURCE.rgb), [1])
        calls = len(inner.calls)
        assert calls == 4
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        assert len(inner.calls) == calls
        assert up.metrics.states == [True]
        inner.dead = False
        await until(lambda: not up.health.breaker_open)
        await up.generate(SOURCE, [1])
        assert up.metrics.states == [True, False]
        await up.close()

    async def test_half_open(self):
        """After a health check, one more failure is enough to open it again."""
        inner = Inner(concurrency=1)
        inner.dead = True
        up = resilient(inner, breaker_failures=3, breaker_blip_s=0, attempts=5)
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        inner.dead = False
        await up.check()
        inner.dead = True
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        assert len(inner.calls) == 4
        await up.close()

    async def test_one_blip(self):
        """Many calls that fail together, as when one cable is pulled, do not open it."""
        inner = Inner([UpscalerUnavailable("x")] * 40, seconds=0.01, concurrency=40)
        up = resilient(inner)
        await asyncio.gather(*(up.generate(Source(SOURCE.rgb), [i]) for i in range(1, 41)))
        assert up.metrics.states == []

    def test_seconds_count_and_not_calls(self):
        """It opens when an upstream has been away for seconds, whatever was in flight."""
        now = 1000.0
        judge = breaker.Breaker(failures=3, blip_s=1, clock=lambda: now)
        for second in range(3):
            now = 1000.0 + second
            opened = [judge.failed() for _ in range(50)]
            assert opened == [second == 2, *[False] * 49]

    async def test_patience(self):
        """A call with patience waits for the health check and goes on; others fail at once."""
        inner = Inner(concurrency=1)
        inner.dead = True
        up = resilient(inner, breaker_rest_s=0.01, attempts=2)
        patient = asyncio.create_task(up.generate(SOURCE, [1], Turn(patience_s=3600)))
        await until(lambda: inner.checks > 2)
        assert len(inner.calls) == 2  # only the free health check asks meanwhile
        with pytest.raises(BreakerOpen):
            await up.generate(Source(SOURCE.rgb), [1])
        inner.dead = False
        assert len(await patient) == 1
        assert up.metrics.states == [True, False]

    async def test_patience_ends(self):
        """What does not come back is given up, and what only an operator can mend at once."""
        inner, clock = Inner(concurrency=1), LoopClock()
        inner.dead = True
        up = resilient(inner, breaker_rest_s=3600, attempts=1)
        patient = asyncio.create_task(up.generate(SOURCE, [1], Turn(patience_s=60)))
        await until(lambda: up.metrics.states)
        clock.jump(61)
        with pytest.raises(UpscalerUnavailable):
            await patient
        await up.close()
        with pytest.raises(BadCredentials):
            await resilient(Inner([BadCredentials("x")])).generate(SOURCE, [1], Turn(patience_s=60))

    async def test_a_health_check_that_breaks(self):
        """An unexpected error of the health check does not keep it open for ever."""

        class Odd(Inner):
            async def check(self):
                await super().check()
                if self.checks < 3:
                    raise RecursionError

        inner = Odd(concurrency=1)
        inner.dead = True
        up = resilient(inner, breaker_failures=1, breaker_rest_s=0.01, attempts=1)
        with pytest.raises(UpscalerUnavailable):
            await up.generate(SOURCE, [1])
        inner.dead = False
        await until(lambda: up.metrics.states == [True, False])

    async def test_refused_inputs_do_not_open_it(self):
        """An upstream that refuses inputs lives."""
        inner = Inner([UpscalerRejected("x")] * 50)
        up = resilient(inner, breaker_failures=3, breaker_blip_s=0)
        for _ in range(50):
            with pytest.raises(UpscalerRejected):
                await up.generate(SOURCE, [1])
        await up.generate(SOURCE, [1])


class TestSpending:
    async def test_limit(self):
        """Over the limit nothing is called, and the error says how long."""
        inner = Inner()
        up = resilient(inner, max_calls_per_hour=2)
        for seed in (1, 2):
            await up.generate(SOURCE, [seed])
        with pytest.raises(QuotaSpent, match="max_calls_per_hour of 2") as failure:
            await up.generate(SOURCE, [3])
        assert 3500 < failure.value.retry_after <= 3600
        assert len(inner.calls) == 2

    def test_sliding_hour(self):
        """What was spent is free again an hour later."""
        now = 1000.0
        guard = breaker.SpendGuard(1, clock=lambda: now)
        guard.spend()
        assert guard.wait_s() == 3600
        now += 3601
        assert (guard.wait_s(), guard.spent) == (0, 0)
