"""What a calibration keeps so that a change of the model can be seen later."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from app.calibration.active import Calibrations
from app.calibration.admin import CalibrationAdmin
from app.calibration.canaries import CanaryStore, chosen
from app.calibration.config import CalibrationConfig, CalibrationRequest
from app.calibration.job import CalibrationHandler
from app.errors import UpscalerRejected
from app.images.degrade import Degradation
from app.images.encode import png_rgb
from app.jobs.handlers import JobContext
from tests.factories import photo
from tests.fakes import FakeUpscaler
from tests.watch.scenes import MemoryStores, Moody, Scene, calibrate


def canaries_of(stores):
    return CanaryStore(stores.blobs, stores.monitor)


class TestTaking:
    @pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
    def test_choice(self, count):
        """At most eight distinct pairs, the first and the last among them."""
        names = [f"{k}" for k in range(count)]
        found = chosen(names)
        assert len(set(found)) == len(found) == min(8, count)
        assert (found[0], found[-1]) == (names[0], names[-1])

    async def test_exact(self):
        """A backend that repeats itself is compared by hash, for one call more than the M."""
        scene = await Scene.of()
        assert all(item.sha256 for item in (await scene.state()).items)
        assert len(scene.upscaler.calls) == 8 * (4 + 1)

    async def test_statistical(self):
        """Any other by the statistics of the M samples, which cost nothing."""
        scene = await Scene.of(Moody())
        canaries = await scene.state()
        assert {len(values) for i in canaries.items for values in i.draws.values()} == {4}
        assert canaries.evidence == pytest.approx(1)
        assert len(scene.upscaler.calls) == 8 * 4

    async def test_a_failing_second_call(self):
        """The pair is measured all the same; it is no canary."""

        class Tired(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                if len(self.calls) == 4:
                    self.calls.append([])
                    raise UpscalerRejected("Enough.")
                return await super().generate(source, seeds, turn)

        scene = await Scene.of(Tired(), count=3)
        assert {item.name for item in (await scene.state()).items} == {"p1", "p2"}

    async def test_published_once(self):
        """A job that reduces twice does not forget what was found in between."""
        scene = await Scene.of()
        await scene.round()
        given = {"fingerprint": "fake:1", "samples": 4, "parent": None}
        await scene.store.publish("run", scene.calibration, **given)
        assert (await scene.state()).rounds == 1

    async def test_derived_calibrations_inherit(self):
        """The canaries of old pairs, and what they have shown, go with the pairs."""
        scene = await Scene.of()
        scene.upscaler.strength = 0.6
        await scene.round()
        given = {"fingerprint": "fake:1", "samples": 4, "parent": scene.calibration}
        await scene.store.publish("run", "cal-new", **given)
        assert (await scene.store.load("cal-new"))[1].alarm
        assert not await scene.store.inherit("cal-none", "cal-other")

    async def test_forgetting(self):
        """Nothing of a calibration is left, and others keep theirs."""
        scene = await Scene.of()
        other = await calibrate(scene.upscaler, scene.store, seed=1)
        await scene.round()
        await scene.store.forget(scene.calibration)
        assert {job for job, _ in scene.memory.files} == {f"canary-{other.id}"}
        assert scene.memory.states == {}

    async def test_damage(self):
        """A damaged state counts as none."""
        memory = MemoryStores()
        await memory.put("canary-cal", "state.json", b"{")
        assert await CanaryStore(memory, memory).load("cal") == (0, None)


class TestJob:
    """The calibration job."""

    async def made(
        self, stores, upscaler, *, watched=("fake",), job_id="job-c", parent=None, **config
    ):
        """The id of the calibration that a job of ten pairs makes; each task is done."""
        settings = CalibrationConfig(samples=4, degradation=Degradation(), **config)
        names = [f"{job_id}-{k}" for k in range(10)]
        first = 100 if parent else 0  # other images than those of the parent
        pairs = []
        for k, name in enumerate(names):
            y = png_rgb(photo(first + k, 48, 48))
            pairs.append({"name": name, "source": name, "y_sha256": sha256(y).hexdigest()})
            await stores.blobs.put(job_id, f"y/{name}", y)
            black = png_rgb(np.zeros((48, 48, 3), np.uint8))
            await stores.blobs.put(job_id, f"labels/{name}", black)
        request = CalibrationRequest(
            config=settings,
            pipeline=settings.pipeline(upscaler),
            upscaler="fake",
            pairs=pairs,
            skipped=[],
            created_by="key 12345678",
            parent=parent,
        )
        job = request.as_job(job_id)
        await stores.jobs.create(job)
        await stores.jobs.start(job_id, None, "ann")
        handler = CalibrationHandler(
            {"fake": upscaler},
            Calibrations(stores.calibrations),
            stores.blobs,
            stores.monitor,
            watched,
        )
        for task in await handler.tasks(job):
            await stores.jobs.record(job.id, task, await handler.run(job, task))
        link = await handler.reduce(job, JobContext(job.id, stores.jobs))
        return link.rsplit("/", 1)[-1]

    @pytest.mark.parametrize("metric", ["neighborhood", "semantic"])
    async def test_of_a_watched_upscaler(self, stores, metric):
        """Eight pairs are canaries, whatever the metric, and a round finds all as they were."""
        upscaler = FakeUpscaler()
        made = await self.made(stores, upscaler, fidelity={"metric": metric})
        assert len(upscaler.calls) == 10 * 4 + 8
        scene = Scene(upscaler, canaries_of(stores), made)
        await scene.round()
        kept = await scene.state()
        assert (len(kept.items), kept.rounds, kept.alarm) == (8, 1, False)

    async def test_of_another(self, stores):
        """Nothing is paid or kept for an upscaler that is not watched."""
        upscaler = FakeUpscaler()
        made = await self.made(stores, upscaler, watched=())
        assert len(upscaler.calls) == 10 * 4
        assert await canaries_of(stores).load(made) == (0, None)

    async def test_extended(self, stores):
        """An extension keeps the canaries of the pairs that it extends."""
        upscaler = FakeUpscaler()
        first = await self.made(stores, upscaler)
        second = await self.made(stores, upscaler, job_id="job-d", parent=first)
        assert await canaries_of(stores).load(second) == await canaries_of(stores).load(first)

    async def test_without_a_pair(self, stores):
        """So does a calibration from which a pair is removed."""
        upscaler, calibrations = FakeUpscaler(), Calibrations(stores.calibrations)
        first = await self.made(stores, upscaler)
        whole = await calibrations.get(first)
        admin = CalibrationAdmin({"fake": upscaler}, "fake", calibrations, stores, None)
        smaller = await admin.without_pair(whole, "job-c-0", created_by="key 12345678")
        assert smaller.id != first
        scene = Scene(upscaler, canaries_of(stores), smaller.id)
        await scene.round()
        assert (await scene.state()).rounds == 1
        assert (await canaries_of(stores).load(first))[1].rounds == 0
