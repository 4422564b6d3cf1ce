"""A provider changes the model: found by rounds of canaries, and never invented."""

import asyncio
import math
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from harness.fakes import FakeUpscaler
from harness.waiting import until
from tests.monitoring.scenes import REMOTE, Moody, Scene
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.monitoring.canaries import policies
from trustscale_server.platform.errors import UpscalerUnavailable
from trustscale_server.stores.documents import StoreUnavailable

ALL = 8 * (4 + 1)  # calls of the calibration: four samples of each pair, and one more that repeats


class TestRounds:
    async def test_an_exact_change(self):
        scene = await Scene.of()
        await scene.round()
        assert len(scene.upscaler.calls) == ALL + 8
        assert await scene.warnings() == []
        assert scene.number("rounds_total", "ok", "fake") == 1
        assert (scene.number("evidence", "fake"), scene.number("alarm", "fake")) == (1, 0)
        scene.upscaler.strength = 0.6
        await scene.round()
        (warning,) = await scene.warnings()
        assert "8 of 8 canaries no longer give the same bytes" in warning
        assert (scene.number("evidence", "fake"), scene.number("alarm", "fake")) == (math.inf, 1)
        for strength in (0.6, 0.5):  # nothing is paid for what is known, and the alarm stays
            scene.upscaler.strength = strength
            await scene.round()
            assert len(scene.upscaler.calls) == ALL + 16
            assert await scene.warnings()

    async def test_a_statistical_change(self):
        scene = await Scene.of(Moody(), samples=8)
        scene.upscaler.strength = 5.0
        rounds = 0
        while not await scene.warnings():
            await scene.round()
            rounds += 1
            assert rounds < 9
        assert rounds > 1
        (warning,) = await scene.warnings()
        assert "chance alone" in warning

    async def test_upstream_down(self):
        scene = await Scene.of()
        before = await scene.state()
        scene.upscaler.failure = UpscalerUnavailable("It sleeps.")
        await scene.round()
        after = await scene.state()
        assert (after.rounds, after.at, after.items) == (0, before.at, before.items)
        assert scene.number("rounds_total", "failed", "fake") == 1
        # With another fingerprint every request is refused anyway, and nothing is paid.
        other = FakeUpscaler(fingerprint="fake:2")
        await scene.watch(other).round("fake")
        assert other.calls == []

    async def test_several_gateways(self):
        """Those that are due at once pay for one round."""
        scene = await Scene.of()
        scene.set(await scene.state(), at=datetime.now(UTC) - timedelta(hours=30))
        watches = [scene.watch(interval_s=86400) for _ in range(8)]
        await asyncio.gather(*(watch.round("fake", due_s=86400) for watch in watches))
        assert (await scene.state()).rounds == 1
        assert len(scene.upscaler.calls) == ALL + 8


async def test_blobs_away():
    """What is known keeps its worth; if nothing is known, nothing is promised."""
    scene = await Scene.of()
    watch = scene.watch(fresh_s=0.0)
    for failure in (None, StoreUnavailable("away")):
        scene.memory.failure = failure
        assert await watch.warnings("fake", scene.calibration) == []
    with pytest.raises(StoreUnavailable):
        await scene.warnings()


@pytest.fixture
async def small():
    return await Scene.of(count=2)


class TestSchedule:
    @asynccontextmanager
    async def watching(self, scene, **options):
        task = asyncio.create_task(scene.watch(**options).run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def reached(self, scene, rounds):
        async with asyncio.timeout(60):
            while (await scene.state()).rounds < rounds:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    async def test_not_at_every_start(self, small):
        for _ in range(3):
            looks = small.memory.looks
            async with self.watching(small, interval_s=86400, fresh_s=0.01):
                await until(lambda looks=looks: small.memory.looks > looks + 2)
        assert len(small.upscaler.calls) == 2 * (4 + 1)

    async def test_a_full_disk_costs_one_round(self, small):

        class Filling(FakeUpscaler):
            async def generate(self, source, seeds, permit=None):
                small.memory.is_full = True
                return await super().generate(source, seeds, permit)

        small.upscaler = Filling()
        small.set(await small.state(), at=datetime.now(UTC) - timedelta(hours=30))
        async with self.watching(small, interval_s=86400, fresh_s=0.01):
            await until(lambda: len(small.upscaler.calls) >= 2)
            looks = small.memory.looks
            await until(lambda: small.memory.looks > looks + 10)
        assert len(small.upscaler.calls) == 2

    async def test_it_outlives_failures(self, small):
        small.memory.failure = StoreUnavailable("away")
        async with self.watching(small, interval_s=0.05):
            for failure in (RuntimeError("a mistake"), None):
                looks = small.memory.looks
                await until(lambda looks=looks: small.memory.looks > looks + 1)
                small.memory.failure = failure
            await self.reached(small, 1)


def test_who_is_watched():
    """Remote upscalers, which may cost money for each call, unless they are told not to be."""
    entries = [{**REMOTE, "name": name, "canary": name} for name in ("refuse", "off")]
    entries += [{**REMOTE, "name": "usual"}, {"name": "own", "kind": "embedded"}]
    found = policies(Settings(upscalers=entries).upscalers)
    assert found == {"refuse": "refuse", "usual": "warn"}
