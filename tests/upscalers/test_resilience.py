"""Retries of calls to an upscaler, and what is counted of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from app.assembly import open_parts
from app.errors import UpscalerFailed, UpscalerRejected, UpscalerUnavailable
from app.sampling.draw import draw
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.upscalers.base import Source
from app.upscalers.remote.errors import (
    BadCredentials,
    Busy,
    Filtered,
    GenerationFailed,
    ProtocolError,
    QuotaSpent,
    TooManyCalls,
)
from app.upscalers.turns import Turn
from tests.clock import LoopClock
from tests.logs import logging_as
from tests.upscalers.resilient import SOURCE, Inner, guarded, resilient
from tests.waiting import until


class TestRetries:
    @pytest.mark.parametrize(
        "error",
        [UpscalerUnavailable("x"), Busy("x"), TooManyCalls("x", asked=0.01), GenerationFailed("x"),
         UpscalerFailed("x")],
    )  # fmt: skip
    async def test_what_may_pass_is_tried_again(self, error):
        """The same seed is asked for again, and everything is counted."""
        inner = Inner([error, error])
        up = resilient(inner)
        await up.generate(SOURCE, [7])
        assert inner.calls == [[7], [7], [7]]
        assert up.metrics.outcomes[-1] == "ok"
        assert len(up.metrics.retries) == 2

    async def test_told_in_the_log(self, capfd):
        """A retry is told once, with its reason, and without the insides of our code."""
        with logging_as("console"):
            await resilient(Inner([Busy("x")])).generate(SOURCE, [7])
        (line,) = capfd.readouterr().err.splitlines()
        assert "tried_again" in line
        assert "busy" in line
        assert "args=" not in line

    @pytest.mark.parametrize(
        "error", [UpscalerRejected("x"), Filtered("x"), QuotaSpent("x"), BadCredentials("x")]
    )
    async def test_what_cannot_pass_is_not(self, error):
        """Refused inputs, filters, spent quotas and refused tokens are not tried again."""
        inner = Inner([error])
        with pytest.raises(type(error)):
            await resilient(inner).generate(SOURCE, [7])
        assert len(inner.calls) == 1

    async def test_attempts(self):
        """After the last attempt the last error is raised, as it is."""
        inner = Inner([GenerationFailed(str(i)) for i in range(9)])
        up = resilient(inner, attempts=3)
        with pytest.raises(GenerationFailed, match="2"):
            await up.generate(SOURCE, [7])
        assert len(inner.calls) == 3
        assert up.metrics.retries == ["failed", "failed"]

    async def test_retry_after(self):
        """The server's wish is kept, plus a little jitter."""
        inner, clock = Inner([TooManyCalls("x", asked=50)]), LoopClock()
        task = asyncio.create_task(resilient(inner).generate(SOURCE, [7]))
        await until(lambda: inner.calls)
        clock.jump(40)
        await asyncio.sleep(0.05)
        assert len(inner.calls) == 1
        clock.jump(16)  # 50 s, a tenth of it, and 50 ms
        await task
        assert len(inner.calls) == 2

    async def test_retry_after_too_long(self):
        """A wish beyond the limit ends the call, with the wish for the client."""
        inner = Inner([TooManyCalls("x", asked=61)])
        with pytest.raises(TooManyCalls) as failure:
            await resilient(inner).generate(SOURCE, [7])
        assert failure.value.retry_after == 61

    async def test_no_waiting_beyond_the_deadline(self):
        """A wait that ends after the request's deadline is not begun."""
        inner = Inner([TooManyCalls("x", asked=55)])
        deadline = asyncio.get_running_loop().time() + 50
        with pytest.raises(TooManyCalls):  # at the deadline it would be another error
            await draw(resilient(inner), SOURCE, [1], on_sample=lambda *_: None, deadline=deadline)

    async def test_budget(self):
        """A request has one retry per call and four to spare; the next has its own."""
        inner = Inner([GenerationFailed("x")] * 1000)
        up = resilient(inner, attempts=20)
        for seed in range(1, 4):
            with pytest.raises(GenerationFailed):
                await up.generate(SOURCE, [seed])
        assert len(inner.calls) == 3 + (3 + 4)
        with pytest.raises(GenerationFailed):
            await up.generate(Source(SOURCE.rgb), [1])
        assert len(inner.calls) == 10 + 1 + (1 + 4)

    async def test_slow_try(self):
        """A try that takes too long is cancelled and counts as unavailable."""
        inner = Inner(seconds=3600)
        up = resilient(inner, call_timeout_s=0.05, attempts=2)
        with pytest.raises(UpscalerUnavailable, match=r"within 0\.05 s"):
            await up.generate(SOURCE, [7])
        assert (len(inner.calls), inner.cancelled) == (2, 2)

    async def test_waiting_for_the_turn_costs_no_time(self):
        """A try that has its answer and waits for other calls of ours does not time out."""
        clock, shared, taken = LoopClock(), asyncio.Lock(), asyncio.Event()

        class Decoding(Inner):
            async def generate(self, source, seeds, turn=None):
                taken.set()
                await turn.take()
                return await super().generate(source, seeds, turn)

        inner = Decoding()
        await shared.acquire()
        up = resilient(inner, call_timeout_s=60)
        task = asyncio.create_task(up.generate(SOURCE, [7], Turn(shared)))
        await taken.wait()
        clock.jump(600)
        await asyncio.sleep(0.01)
        inner.seconds = 3600  # from here on it is the upscaler that takes its time
        shared.release()
        await until(lambda: inner.calls)
        assert not task.done()
        assert up.metrics.outcomes == []
        clock.jump(61)
        await until(lambda: up.metrics.outcomes == ["unavailable"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_foreign_exceptions(self):
        """A bug that an odd answer has met is an error of the upscaler, without its text."""
        inner = Inner([KeyError("the secret")])
        with pytest.raises(ProtocolError) as failure:
            await resilient(inner, attempts=1).generate(SOURCE, [7])
        assert "secret" not in failure.value.detail

    async def test_cancelling(self):
        """Cancelling reaches the inner call, frees the slot and is counted."""
        inner = Inner(seconds=30, concurrency=1)
        up = resilient(inner)
        task = asyncio.create_task(up.generate(SOURCE, [7]))
        await until(lambda: inner.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (inner.cancelled, up.metrics.outcomes) == (1, ["cancelled"])
        inner.seconds = 0
        await up.generate(SOURCE, [7])


class TestMetrics:
    """What is counted of calls."""

    async def test_calls_and_retries(self):
        """Every try counts as a call, by its outcome; retries count by their reason."""
        metrics = Metrics()
        up = guarded(Inner([TooManyCalls("x", asked=0.01), GenerationFailed("x")]), metrics)
        await up.generate(SOURCE, [7])
        with pytest.raises(UpscalerRejected):
            await guarded(Inner([UpscalerRejected("x")]), metrics).generate(SOURCE, [7])
        assert numbers(metrics) == {
            'calls_total{outcome="rate-limited",upscaler="inner"}': 1,
            'calls_total{outcome="failed",upscaler="inner"}': 1,
            'calls_total{outcome="ok",upscaler="inner"}': 1,
            'calls_total{outcome="rejected",upscaler="inner"}': 1,
            'retries_total{reason="rate-limited",upscaler="inner"}': 1,
            'retries_total{reason="failed",upscaler="inner"}': 1,
            'call_seconds_count{upscaler="inner"}': 4,
        }

    async def test_a_client_that_left(self):
        """A cancelled call is counted, since it is paid for, but its time says nothing."""
        metrics, inner = Metrics(), Inner(seconds=30)
        task = asyncio.create_task(guarded(inner, metrics).generate(SOURCE, [7]))
        await until(lambda: inner.calls)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert numbers(metrics) == {'calls_total{outcome="cancelled",upscaler="inner"}': 1}

    async def test_the_breaker(self):
        """The gauge follows the breaker."""
        metrics, inner = Metrics(), Inner()
        inner.dead = True
        pace = {"breaker_rest_s": 60, "breaker_blip_s": 0}
        up = guarded(inner, metrics, pace=pace, attempts=20)
        for seed in range(1, 4):
            with pytest.raises(UpscalerUnavailable):
                await up.generate(Source(SOURCE.rgb), [seed])
        assert numbers(metrics)['breaker_open{upscaler="inner"}'] == 1
        inner.dead = False
        await up.check()
        assert numbers(metrics)['breaker_open{upscaler="inner"}'] == 0
        await up.close()

    async def test_a_missing_token(self, tmp_path):
        """An upscaler without its token cannot be called; the service starts with the others."""
        cog = {"kind": "cog", "url": "http://127.0.0.1:9", "scale": 2}
        settings = Settings(
            data_dir=tmp_path,
            upscalers=[{**cog, "name": "paid", "token_env": "NOT_SET"}, {**cog, "name": "free"}],
        )
        async with AsyncExitStack() as stack:
            parts = await open_parts(settings, stack)
            assert list(parts.upscalers) == ["paid", "free"]
            with pytest.raises(BadCredentials, match="NOT_SET"):
                await parts.upscalers["paid"].generate(SOURCE, [1])

    async def test_the_gateway_gives_it_to_its_upscalers(self, tmp_path):
        """Without another way to build them, upscalers count into the metrics of the process."""
        metrics = Metrics()
        remote = {"name": "inner", "kind": "cog", "url": "http://127.0.0.1:9", "scale": 2}
        settings = Settings(data_dir=tmp_path, upscalers=[{**remote, "attempts": 1}])
        async with AsyncExitStack() as stack:
            parts = await open_parts(settings, stack, metrics=metrics)
            with pytest.raises(UpscalerUnavailable):
                await parts.upscalers["inner"].generate(SOURCE, [1])
        assert numbers(metrics)['calls_total{outcome="unavailable",upscaler="inner"}'] == 1


def numbers(metrics):
    """What /metrics says of upstreams, without buckets and sums."""
    prefix, left_out = "trustscale_upstream_", ("_created", "_bucket", "_sum")
    lines = (line.rsplit(" ", 1) for line in metrics.text().decode().splitlines())
    return {
        key.removeprefix(prefix): float(value)
        for key, value in lines
        if key.startswith(prefix) and not key.partition("{")[0].endswith(left_out)
    }


class TestTogether:
    @pytest.mark.slow
    async def test_random_failures(self):
        """With 20 % of calls failing, 99.9 % of 1,000 requests get M = 8, at 1.5 x the calls."""
        random = np.random.default_rng(5)

        class Flaky(Inner):
            async def generate(self, source, seeds, turn=None):
                if random.random() < 0.2:
                    self.errors = [GenerationFailed("x")]
                return await super().generate(source, seeds, turn)

        inner = Flaky(concurrency=64)
        up = resilient(inner)
        answered = 0
        for _ in range(100):

            async def request():
                nonlocal answered
                await draw(up, Source(SOURCE.rgb), range(1, 9), on_sample=lambda *_: None)
                answered += 1

            await asyncio.gather(*(request() for _ in range(10)), return_exceptions=True)
        assert answered >= 999
        assert len(inner.calls) <= 1.5 * 8000

    async def test_facade(self):
        """Identity and capabilities are those of the inner upscaler."""
        inner = Inner()
        up = resilient(inner)
        assert (up.name, up.kind, up.scale, up.fingerprint) == ("inner", "fake", 2, "f")
        assert up.capabilities is inner.capabilities
        await up.check()
        assert inner.checks == 1
