"""A provider changes the model: found by rounds of canaries, and never invented."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from scipy import stats

from app.errors import CalibrationMismatch, UpscalerRejected, UpscalerUnavailable
from app.settings import Settings
from app.stores.base import StoreUnavailable
from app.watch.canaries import policies
from tests.fakes import FakeUpscaler
from tests.waiting import until
from tests.watch.scenes import REMOTE, Moody, Scene, Symmetric, calibrate

ALL = 8 * (4 + 1)  # calls of the calibration: four samples of each pair, and one more that repeats


class TestRounds:
    async def test_an_exact_change(self):
        """The first round after the change finds it; eight calls, one per canary."""
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

    async def test_a_statistical_change(self):
        """Another model is found in a few rounds although no two answers are equal."""
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

    async def test_after_the_alarm(self):
        """Nothing is paid for what is known, and the alarm stays, also when the model is back."""
        scene = await Scene.of()
        for strength in (0.6, 0.5):
            scene.upscaler.strength = strength
            await scene.round()
            assert len(scene.upscaler.calls) == ALL + 8
            assert await scene.warnings()

    async def test_the_alarm_outlives_the_evidence(self):
        """Later draws may make the capital smaller; what was raised once stays."""
        scene = await Scene.of(Moody())
        state = await scene.state()
        scene.set(state, alarm=True)
        assert state.evidence < 100
        assert await scene.warnings()

    async def test_upstream_down(self):
        """A round without an answer is no evidence, and counted."""
        scene = await Scene.of()
        before = await scene.state()
        scene.upscaler.failure = UpscalerUnavailable("It sleeps.")
        await scene.round()
        after = await scene.state()
        assert (after.rounds, after.at, after.items) == (0, before.at, before.items)
        assert scene.number("rounds_total", "failed", "fake") == 1

    async def test_part_of_the_answers(self):
        """A canary that is refused does not stop the others."""

        class Picky(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                samples = await super().generate(source, seeds, turn)
                if len(self.calls) % 3 == 0:
                    raise UpscalerRejected("Not this one.")
                return samples

        scene = await Scene.of()
        await scene.watch(Picky(strength=0.6)).round("fake")
        assert len((await scene.state()).changed) == 6

    async def test_openly_another_model(self):
        """With another fingerprint every request is refused anyway, and nothing is paid."""
        scene, other = await Scene.of(), FakeUpscaler(fingerprint="fake:2")
        await scene.watch(other).round("fake")
        assert other.calls == []

    async def test_a_new_calibration_starts_afresh(self):
        """The state belongs to the id; the next check knows the new one."""
        scene = await Scene.of()
        watch = scene.watch(policy="refuse")
        scene.upscaler.strength = 0.6
        await watch.round("fake")
        with pytest.raises(CalibrationMismatch):
            await watch.check("fake", scene.calibration)
        new = await calibrate(scene.upscaler, scene.store, seed=1)
        assert await watch.check("fake", new.id) == []

    async def test_two_gateways(self):
        """What another gateway finds while a round is on its way is kept."""
        scene = await Scene.of()

        class Slow(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                if not self.calls:  # the other one begins later and ends first
                    scene.upscaler.strength = 0.6
                    await scene.round()
                return await super().generate(source, seeds, turn)

        await scene.watch(Slow()).round("fake")
        state = await scene.state()
        assert (state.rounds, state.alarm) == (2, True)

    async def test_many_gateways(self):
        """Of those whose round is due at the same moment one makes it, and pays for it."""
        scene = await Scene.of()
        scene.set(await scene.state(), at=datetime.now(UTC) - timedelta(hours=30))
        watches = [scene.watch(interval_s=86400) for _ in range(8)]
        await asyncio.gather(*(watch.round("fake", due_s=86400) for watch in watches))
        assert (await scene.state()).rounds == 1
        assert len(scene.upscaler.calls) == ALL + 8

    async def test_restart(self):
        """Another process goes on where the first one stopped."""
        scene = await Scene.of(Moody())
        for rounds in (1, 2):
            await scene.watch().round("fake")
            state = await scene.state()
            assert state.rounds == rounds
            assert {len(i.draws["sharpness"]) for i in state.items} == {4 + rounds}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "samples"), [(Moody, 4), (Symmetric, 12)])
async def test_false_alarms_are_as_rare_as_promised(model, samples):
    """An unchanged model; 24 watches of 10 rounds of eight canaries.

    Ville's bound δ is on the whole watch, so of 24 watches Binomial(24, δ) at most give an alarm:
    at δ = 0.01 and, to have something to count, at δ = 0.1.
    """
    alarms = near = 0
    for run in range(24):
        scene = await Scene.of(model(run), samples=samples, side=16, seed=run)
        watch = scene.watch(chance=random.Random(run))
        most = 0.0
        for _ in range(10):
            await watch.round("fake")
            state = await scene.state()
            most = max(most, state.evidence)
        alarms += state.alarm
        near += most >= 10
    assert alarms <= stats.binom.ppf(0.999, 24, 0.01)
    assert near <= stats.binom.ppf(0.999, 24, 0.1)


class TestWhatIsKnown:
    async def test_no_canaries(self):
        """A calibration from elsewhere is served; readiness says that nobody watches it.

        The alarm about the calibration that it replaces is no longer exported.
        """
        scene = await Scene.of(watched=False)
        for name, value in (("canary_evidence", 500), ("canary_alarm", 1)):
            scene.metrics.set(name, value, "fake")
        watch = scene.watch(policy="refuse")
        assert await watch.check("fake", scene.calibration) == []
        assert (scene.number("evidence", "fake"), scene.number("alarm", "fake")) == (0, 0)
        report = await watch.report("fake", scene.calibration)
        assert "no canaries" in report["canary"]["detail"]
        await watch.round("fake")
        assert len(scene.upscaler.calls) == 8 * 4

    async def test_not_watched(self):
        """An upscaler without a policy costs nothing, not even a look at the blobs."""
        scene = await Scene.of()
        scene.memory.failure = StoreUnavailable("away")
        assert await scene.gateway.check("other", scene.calibration) == []
        assert await scene.gateway.report("other", scene.calibration) == {}

    async def test_blobs_away(self):
        """What is known keeps its worth; if nothing is known, nothing is promised."""
        scene = await Scene.of()
        watch = scene.watch(fresh_s=0.0)
        for failure in (None, StoreUnavailable("away")):
            scene.memory.failure = failure
            assert await watch.check("fake", scene.calibration) == []
        with pytest.raises(StoreUnavailable):
            await scene.warnings()

    def test_policies(self):
        """Remote upscalers are watched unless they are told not to be, and workers if they are."""
        configs = Settings(
            upscalers=[
                {"name": "own", "kind": "embedded"},
                {**REMOTE, "name": "a"},
                {**REMOTE, "name": "b", "canary": "refuse"},
                {**REMOTE, "name": "c", "canary": "off"},
                {"name": "w", "kind": "worker", "urls": ["http://127.0.0.1:9"]},
            ]
        ).upscalers
        assert policies(configs) == {"a": "warn", "b": "refuse"}


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
        """Return when so many rounds were made."""
        async with asyncio.timeout(60):
            while (await scene.state()).rounds < rounds:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    async def test_rounds(self, small):
        """Rounds follow each other at the interval, the first one an interval after calibration."""
        async with self.watching(small, interval_s=0.05):
            await self.reached(small, 3)

    async def test_not_at_every_start(self, small):
        """Starts make no round while the last one is younger than the interval."""
        for _ in range(3):
            looks = small.memory.looks
            async with self.watching(small, interval_s=86400, fresh_s=0.01):
                await until(lambda looks=looks: small.memory.looks > looks + 2)
        assert len(small.upscaler.calls) == 2 * (4 + 1)

    async def test_a_daily_restart_does_not_put_it_off(self, small):
        """A round that became due while no gateway ran is made soon after the start."""
        state = await small.state()
        small.set(state, at=state.at - timedelta(hours=30))
        async with self.watching(small, interval_s=86400, fresh_s=0.01):
            await self.reached(small, 1)

    async def test_a_full_disk_costs_one_round(self, small):
        """Calls whose answers cannot be stored are not paid again at every look."""

        class Filling(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                small.memory.is_full = True
                return await super().generate(source, seeds, turn)

        small.upscaler = Filling()
        small.set(await small.state(), at=datetime.now(UTC) - timedelta(hours=30))
        async with self.watching(small, interval_s=86400, fresh_s=0.01):
            await until(lambda: len(small.upscaler.calls) >= 2)
            looks = small.memory.looks
            await until(lambda: small.memory.looks > looks + 10)
        assert len(small.upscaler.calls) == 2

    async def test_it_outlives_failures(self, small):
        """Neither a store that is away nor a mistake of ours ends the watch."""
        small.memory.failure = StoreUnavailable("away")
        async with self.watching(small, interval_s=0.05):
            for failure in (RuntimeError("a mistake"), None):
                looks = small.memory.looks
                await until(lambda looks=looks: small.memory.looks > looks + 1)
                small.memory.failure = failure
            await self.reached(small, 1)
