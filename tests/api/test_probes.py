"""Whoever asks for readiness spends nothing: upscalers are asked now and then only."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from app.api.probes import Probes
from app.errors import UpscalerUnavailable
from tests.clock import LoopClock
from tests.upscalers.resilient import SOURCE, Inner, guarded


async def test_one_question_for_all():
    """However many ask at once or soon after, the upscaler is asked once, also where it is away."""
    clock, inner = LoopClock(), Inner()
    async with aclosing(Probes(10.0)) as probes:
        await asyncio.gather(*(probes.check(inner) for _ in range(50)))
        inner.failure = UpscalerUnavailable("away")
        clock.jump(9)
        await probes.check(inner)
        assert inner.checks == 1
        clock.jump(2)
        for _ in range(3):
            with pytest.raises(UpscalerUnavailable, match="away"):
                await probes.check(inner)
        assert inner.checks == 2


async def test_whoever_leaves_takes_no_answer_away():
    """One that gives up waiting leaves the question to the others."""

    class Slow(Inner):
        async def check(self):
            await gate.wait()
            await super().check()

    gate, inner = asyncio.Event(), Slow()
    async with aclosing(Probes(10.0)) as probes:
        hasty, patient = (asyncio.create_task(probes.check(inner)) for _ in range(2))
        await asyncio.sleep(0)
        hasty.cancel()
        gate.set()
        await patient
        assert inner.checks == 1


async def test_an_open_breaker_is_left_alone():
    """What is not called at all is not ready, and not asked: its own health check is enough."""
    inner = Inner([UpscalerUnavailable("away")])
    up = guarded(inner, breaker_failures=1, breaker_rest_s=3600, attempts=1)
    with pytest.raises(UpscalerUnavailable):
        await up.generate(SOURCE, [1])
    async with aclosing(Probes(0.0)) as probes:
        with pytest.raises(UpscalerUnavailable, match="has failed many times in a row"):
            await probes.check(up)
    assert (inner.checks, up.breaker_open) == (0, True)
    await up.close()
