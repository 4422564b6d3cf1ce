"""A provider changes the model: found by rounds of canaries, and never invented."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from scipy import stats

from app.canary import keep as canaries
from app.canary.keep import load
from app.canary.watch import policies
from app.errors import CalibrationMismatch, UpscalerRejected, UpscalerUnavailable
from app.settings import Settings
from app.stores.base import StoreUnavailable
from app.telemetry.metrics import Metrics
from tests.canary.scenes import REMOTE, MemorySpool, Moody, Symmetric, calibrate, watch_of
from tests.fakes import FakeUpscaler
from tests.waiting import until


def numbers(metrics):
    """The canary lines of /metrics."""
    lines = metrics.text().decode().splitlines()
    return dict(line.split() for line in lines if line.startswith("trustscale_canary"))


EVIDENCE = 'trustscale_canary_evidence{upscaler="fake"}'
ALARM = 'trustscale_canary_alarm{upscaler="fake"}'
ROUNDS = 'trustscale_canary_rounds_total{{outcome="{}",upscaler="fake"}}'


class TestRounds:
    async def test_an_exact_change(self):
        """The first round after the change finds it; eight calls, one per canary."""
        spool, upscaler, metrics = MemorySpool(), FakeUpscaler(), Metrics()
        calibration = await calibrate(upscaler, spool)
        watch = watch_of(upscaler, spool, calibration, metrics=metrics)
        calls = len(upscaler.calls)
        await watch.round("fake")
        assert len(upscaler.calls) - calls == 8
        assert await watch.check("fake", calibration.id) == []
        assert numbers(metrics) == {
            EVIDENCE: "1.0",
            ALARM: "0.0",
            ROUNDS.format("ok"): "1.0",
        } | {key: value for key, value in numbers(metrics).items() if "created" in key}
        upscaler.strength = 0.6
        await watch.round("fake")
        (warning,) = await watch.check("fake", calibration.id)
        assert "8 of 8 canaries no longer give the same bytes" in warning
        assert (numbers(metrics)[EVIDENCE], numbers(metrics)[ALARM]) == ("+Inf", "1.0")

    async def test_a_statistical_change(self):
        """Another model is found in a few rounds although no two answers are equal."""
        spool, upscaler = MemorySpool(), Moody()
        calibration = await calibrate(upscaler, spool, samples=8)
        watch = watch_of(upscaler, spool, calibration)
        upscaler.strength = 5.0
        rounds = 0
        while not await watch.check("fake", calibration.id):
            await watch.round("fake")
            rounds += 1
            assert rounds < 9
        assert rounds > 1
        (warning,) = await watch.check("fake", calibration.id)
        assert "chance alone" in warning

    async def test_after_the_alarm(self):
        """Nothing is paid for what is known, and the alarm stays, also when the model is back."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool)
        watch = watch_of(upscaler, spool, calibration)
        upscaler.strength = 0.6
        await watch.round("fake")
        upscaler.strength = 0.5
        calls = len(upscaler.calls)
        await watch.round("fake")
        assert len(upscaler.calls) == calls
        assert await watch.check("fake", calibration.id)

    async def test_the_alarm_outlives_the_evidence(self):
        """Later draws may make the capital smaller; what was raised once stays."""
        spool, upscaler = MemorySpool(), Moody()
        calibration = await calibrate(upscaler, spool)
        kept = await load(spool, calibration.id)
        await canaries.save(spool, calibration.id, kept.model_copy(update={"alarm": True}))
        assert kept.canaries.evidence < 100
        assert await watch_of(upscaler, spool, calibration).check("fake", calibration.id)

    async def test_upstream_down(self):
        """A round without an answer changes nothing and is counted."""
        spool, upscaler, metrics = MemorySpool(), FakeUpscaler(), Metrics()
        calibration = await calibrate(upscaler, spool)
        before = await load(spool, calibration.id)
        upscaler.failure = UpscalerUnavailable("It sleeps.")
        watch = watch_of(upscaler, spool, calibration, metrics=metrics)
        assert not await watch.round("fake")
        assert await load(spool, calibration.id) == before
        assert numbers(metrics)[ROUNDS.format("failed")] == "1.0"

    async def test_part_of_the_answers(self):
        """A canary that is refused does not stop the others."""

        class Picky(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                self.calls.append(list(seeds))
                if len(self.calls) % 3 == 0:
                    raise UpscalerRejected("Not this one.")
                return [self.sample(source.rgb, seed) for seed in seeds]

        spool = MemorySpool()
        calibration = await calibrate(FakeUpscaler(), spool)
        watch = watch_of(Picky(strength=0.6), spool, calibration)
        assert await watch.round("fake")
        assert len((await load(spool, calibration.id)).canaries.changed) == 6

    async def test_openly_another_model(self):
        """With another fingerprint every request is refused anyway, and nothing is paid."""
        spool = MemorySpool()
        calibration = await calibrate(FakeUpscaler(), spool)
        other = FakeUpscaler(fingerprint="fake:2")
        await watch_of(other, spool, calibration).round("fake")
        assert other.calls == []

    async def test_a_new_calibration_starts_afresh(self):
        """The state belongs to the id; the next check knows the new one."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        old = await calibrate(upscaler, spool)
        watch = watch_of(upscaler, spool, old, policy="refuse")
        upscaler.strength = 0.6
        await watch.round("fake")
        with pytest.raises(CalibrationMismatch):
            await watch.check("fake", old.id)
        new = await calibrate(upscaler, spool, seed=1)
        assert await watch.check("fake", new.id) == []

    async def test_two_gateways(self):
        """What another gateway finds while a round is on its way is kept."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool)

        class Slow(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                if not self.calls:  # the other one begins later and ends first
                    upscaler.strength = 0.6
                    await watch_of(upscaler, spool, calibration).round("fake")
                return await super().generate(source, seeds, turn)

        await watch_of(Slow(), spool, calibration).round("fake")
        kept = await load(spool, calibration.id)
        assert (kept.rounds, kept.alarm) == (2, True)

    async def test_restart(self):
        """Another process goes on where the first one stopped."""
        spool, upscaler = MemorySpool(), Moody()
        calibration = await calibrate(upscaler, spool)
        for rounds in (1, 2):
            await watch_of(upscaler, spool, calibration).round("fake")
            kept = await load(spool, calibration.id)
            assert kept.rounds == rounds
            assert {len(i.draws["sharpness"]) for i in kept.canaries.items} == {4 + rounds}


@pytest.mark.slow
class TestFalseAlarms:
    """An unchanged model; 24 watches of 10 rounds of eight canaries.

    Ville's bound δ is on the whole watch, so of 24 watches Binomial(24, δ) at most give an alarm.
    """

    @pytest.mark.parametrize(("model", "samples"), [(Moody, 4), (Symmetric, 12)])
    async def test_are_as_rare_as_promised(self, model, samples):
        """At δ = 0.01 and, to have something to count, at δ = 0.1."""
        random.seed(1)
        alarms = near = 0
        for run in range(24):
            spool, upscaler = MemorySpool(), model(run)
            calibration = await calibrate(upscaler, spool, samples=samples, side=16, seed=run)
            watch = watch_of(upscaler, spool, calibration)
            most = 0.0
            for _ in range(10):
                await watch.round("fake")
                kept = await load(spool, calibration.id)
                most = max(most, kept.canaries.evidence)
            alarms += kept.alarm
            near += most >= 10
        assert alarms <= stats.binom.ppf(0.999, 24, 0.01)
        assert near <= stats.binom.ppf(0.999, 24, 0.1)


class TestWhatIsKnown:
    async def test_no_canaries(self):
        """A calibration from elsewhere is served; readiness says that nobody watches it.

        The alarm about the calibration that it replaces is no longer exported.
        """
        spool, upscaler, metrics = MemorySpool(), FakeUpscaler(), Metrics()
        metrics.set("canary_evidence", 500, "fake")
        metrics.set("canary_alarm", 1, "fake")
        calibration = await calibrate(upscaler, spool, watched=False)
        watch = watch_of(upscaler, spool, calibration, policy="refuse", metrics=metrics)
        assert await watch.check("fake", calibration.id) == []
        assert (numbers(metrics)[EVIDENCE], numbers(metrics)[ALARM]) == ("0.0", "0.0")
        assert "no canaries" in (await watch.report("fake", calibration.id))["canary"]["detail"]
        assert await watch.round("fake")
        assert len(upscaler.calls) == 8 * 4

    async def test_not_watched(self):
        """An upscaler without a policy costs nothing, not even a look at the spool."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool)
        spool.failure = StoreUnavailable("away")
        watch = watch_of(upscaler, spool, calibration)
        assert await watch.check("other", calibration.id) == []
        assert await watch.report("other", calibration.id) == {}

    async def test_spool_away(self):
        """What is known keeps its worth; if nothing is known, nothing is promised."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool)
        watch = watch_of(upscaler, spool, calibration, fresh_s=0.0)
        assert await watch.check("fake", calibration.id) == []
        spool.failure = StoreUnavailable("away")
        assert await watch.check("fake", calibration.id) == []
        with pytest.raises(StoreUnavailable):
            await watch_of(upscaler, spool, calibration).check("fake", calibration.id)

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


class TestSchedule:
    @asynccontextmanager
    async def watching(self, watch):
        task = asyncio.create_task(watch.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def aged(self, spool, calibration, hours):
        kept = await load(spool, calibration.id)
        at = kept.at - timedelta(hours=hours)
        await canaries.save(spool, calibration.id, kept.model_copy(update={"at": at}))

    async def reached(self, spool, calibration, rounds):
        """Return when so many rounds were made."""
        async with asyncio.timeout(60):
            while (await load(spool, calibration.id)).rounds < rounds:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    async def test_rounds(self):
        """Rounds follow each other at the interval, the first one an interval after calibration."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool, count=2)
        watch = watch_of(upscaler, spool, calibration, interval_s=0.05)
        async with self.watching(watch):
            await self.reached(spool, calibration, 3)

    async def test_not_at_every_start(self):
        """Starts make no round while the last one is younger than the interval."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool, count=2)
        calls = len(upscaler.calls)
        for _ in range(3):
            looks = spool.looks
            async with self.watching(
                watch_of(upscaler, spool, calibration, interval_s=86400, fresh_s=0.01)
            ):
                await until(lambda looks=looks: spool.looks > looks + 2)
        assert len(upscaler.calls) == calls

    async def test_a_daily_restart_does_not_put_it_off(self):
        """A round that became due while no gateway ran is made soon after the start."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool, count=2)
        await self.aged(spool, calibration, hours=30)
        async with self.watching(
            watch_of(upscaler, spool, calibration, interval_s=86400, fresh_s=0.01)
        ):
            await self.reached(spool, calibration, 1)

    async def test_it_outlives_failures(self):
        """Neither a store that is away nor a mistake of ours ends the watch."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool, count=2)
        spool.failure = StoreUnavailable("away")
        watch = watch_of(upscaler, spool, calibration, interval_s=0.05)
        async with self.watching(watch):
            for failure in (RuntimeError("a mistake"), None):
                looks = spool.looks
                await until(lambda looks=looks: spool.looks > looks + 1)
                spool.failure = failure
            await self.reached(spool, calibration, 1)
