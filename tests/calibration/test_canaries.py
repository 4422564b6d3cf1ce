"""Canaries: which pairs become some, and what their answers are evidence of."""

from datetime import UTC, datetime

import numpy as np
import pytest

from harness.fakes import FakeUpscaler
from tests.calibration.test_job import measured, submitted
from tests.monitoring.scenes import Moody, Scene
from trustscale_server.calibrating.admin import CalibrationAdmin
from trustscale_server.calibrating.job import CalibrationHandler
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.canaries import Canary, CanaryAnswer, first_state, sharpness
from trustscale_server.calibration.canaries import observe as observed
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.jobs.handler import JobContext
from trustscale_server.platform.errors import UpscalerRejected
from trustscale_server.upscalers.base import image_digest


def canaries_of(stores):
    return CanaryStore(stores.blobs, stores.canary_states)


async def test_of_one_who_draws():
    """Who does not repeat himself is compared by statistics, for no call more."""
    scene = await Scene.of(Moody())
    canaries = await scene.state()
    assert not any(item.sha256 for item in canaries.items)
    assert {len(item.draws) for item in canaries.items} == {4}
    assert canaries.evidence == pytest.approx(1)
    assert len(scene.upscaler.calls) == 8 * 4


async def test_a_failing_second_call():
    """The pair is measured all the same; it is no canary."""

    class Tired(FakeUpscaler):
        async def generate(self, source, seeds, permit=None):
            if len(self.calls) == 4:
                self.calls.append([])
                raise UpscalerRejected("Enough.")
            return await super().generate(source, seeds, permit)

    scene = await Scene.of(Tired(), count=3)
    assert {item.name for item in (await scene.state()).items} == {"p1", "p2"}


class TestJob:
    async def made(self, stores, upscaler, count=2, *, job_id="job-c", parent=None, **config):
        """The id of the calibration that a job makes; each task is done."""
        first = 100 if parent else 0  # other images than those of the parent
        job = await submitted(
            stores, upscaler, count, job_id=job_id, parent=parent, first=first, **config
        )
        handler = CalibrationHandler(
            {"fake": upscaler},
            Calibrations(stores.calibrations),
            stores.blobs,
            stores.canary_states,
            ["fake"],
        )
        await measured(stores, handler, job)
        link = await handler.reduce(job, JobContext(job.id, stores.jobs))
        return link.rsplit("/", 1)[-1]

    @pytest.mark.parametrize("metric", ["neighborhood", "semantic"])
    async def test_of_a_watched_upscaler(self, stores, metric):
        """Eight pairs are canaries, whatever the metric, and a round finds all as they were."""
        upscaler = FakeUpscaler()
        made = await self.made(stores, upscaler, 10, fidelity={"metric": metric})
        assert len(upscaler.calls) == 10 * 4 + 8
        scene = Scene(upscaler, canaries_of(stores), made)
        await scene.round()
        kept = await scene.state()
        assert (len(kept.items), kept.rounds, kept.alarm) == (8, 1, False)

    async def test_extended(self, stores):
        """The canaries of old pairs, and what they have shown, go with the pairs."""
        upscaler, canaries = FakeUpscaler(), canaries_of(stores)
        first = await self.made(stores, upscaler)
        upscaler.strength = 0.6
        await Scene(upscaler, canaries, first).round()
        second = await self.made(stores, upscaler, job_id="job-d", parent=first)
        assert (inherited := await canaries.load(second)).alarm
        assert inherited == await canaries.load(first)
        assert not await canaries.inherit("cal-none", "cal-other")

    async def test_without_a_pair(self, stores):
        upscaler, calibrations = FakeUpscaler(), Calibrations(stores.calibrations)
        first = await self.made(stores, upscaler)
        whole = await calibrations.get(first)
        admin = CalibrationAdmin({"fake": upscaler}, calibrations, stores, None)
        smaller = await admin.without_pair(whole, "0", actor="key 12345678")
        assert smaller.id != first
        scene = Scene(upscaler, canaries_of(stores), smaller.id)
        await scene.round()
        assert (await scene.state()).rounds == 1
        assert (await canaries_of(stores).load(first)).rounds == 0


NAMES = [f"c{i}" for i in range(8)]


def observe(state, answers, uniform):
    looks = {name: CanaryAnswer.from_picture(answer) for name, answer in answers.items()}
    return observed(state, looks, uniform, datetime.now(UTC))


def sample(random, gain=1.0):
    return np.clip(random.normal(128, 40 * gain, (16, 16, 3)), 0, 255).astype(np.uint8)


def first(name, answers, *, repeats):
    draws = tuple(sorted(map(sharpness, answers)))
    sha256 = image_digest(answers[0]) if repeats else None
    return Canary(name=name, seed=1, sha256=sha256, draws=draws)


def exact():
    pictures = {name: sample(np.random.default_rng(i)) for i, name in enumerate(NAMES)}
    return pictures, first_state(
        "f", 4, [first(name, [p], repeats=True) for name, p in pictures.items()]
    )


def statistical(random, draws=10):
    answers = {name: [sample(random) for _ in range(draws)] for name in NAMES}
    return first_state(
        "f", 4, [first(name, given, repeats=False) for name, given in answers.items()]
    )


def test_exact_answers():
    """One changed pixel of one canary raises the alarm, which stays; others are no evidence."""
    pictures, canaries = exact()
    assert not observe(canaries, pictures, lambda: 0.5).alarm
    assert observe(canaries, {}, lambda: 0.5).items == canaries.items
    other = pictures["c3"].copy()
    other[0, 0, 0] ^= 1
    after = observe(canaries, {**pictures, "c3": other}, lambda: 0.5)
    assert after.changed == ("c3",)
    assert after.alarm
    assert observe(after, pictures, lambda: 0.5).alarm


class TestStatistical:
    def test_false_alarms(self):
        """An unchanged model raises an alarm at delta = 0.1 in at most 10 % of long watches."""
        alarms = 0
        for run in range(60):
            random = np.random.default_rng(run)
            canaries, raised = statistical(random, draws=5), False
            for _ in range(12):
                fresh = {name: sample(random) for name in NAMES}
                canaries = observe(canaries, fresh, random.random)
                raised |= canaries.evidence >= 10
            alarms += raised
        # Binomial(60, 0.1) exceeds 13 with probability below 0.1 %.
        assert alarms <= 13

    def test_detection(self):
        """A model with 10 % more contrast is found within a few rounds of eight canaries."""
        random = np.random.default_rng(0)
        canaries = statistical(random)
        rounds = 0
        while not canaries.alarm:
            fresh = {name: sample(random, 1.1) for name in NAMES}
            canaries, rounds = observe(canaries, fresh, random.random), rounds + 1
            assert rounds < 8
        assert rounds >= 1
