"""What a calibration keeps so that a change of the model can be seen later."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

import app.cli.local
from app.assembly import open_parts
from app.calibration.active import Calibrations
from app.calibration.admin import CalibrationAdmin
from app.calibration.config import CalibrationConfig
from app.calibration.here import NotFinished
from app.calibration.job import CalibrationHandler
from app.calibration.request import CalibrationRequest
from app.canary import keep as canaries
from app.canary.keep import chosen, load, publish
from app.cli.calibrate import measured
from app.errors import UpscalerRejected
from app.images.degrade import Degradation
from app.images.encode import png_rgb
from app.jobs.handlers import JobContext
from app.settings import Settings
from app.stores.base import Job
from app.stores.open import open_stores
from app.upscalers.base import Capabilities
from tests.canary.scenes import REMOTE, MemorySpool, Moody, calibrate, watch_of
from tests.factories import photo, truths
from tests.fakes import FakeUpscaler


class TestTaking:
    @pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
    def test_choice(self, count):
        """At most eight distinct pairs, the first and the last among them."""
        names = [f"{k}" for k in range(count)]
        found = chosen(names)
        assert len(set(found)) == len(found) == min(8, count)
        assert (found[0], found[-1]) == (names[0], names[-1])

    async def test_price(self):
        """With seeds a canary costs one call on top of the M of its pair, without seeds none."""
        seeded, moody = FakeUpscaler(), Moody()
        await calibrate(seeded, MemorySpool())
        await calibrate(moody, MemorySpool())
        assert (len(seeded.calls), len(moody.calls)) == (8 * (4 + 1), 8 * 4)

    async def test_exact(self):
        """A backend that repeats itself is compared by hash."""
        spool = MemorySpool()
        calibration = await calibrate(FakeUpscaler(), spool)
        kept = await load(spool, calibration.id)
        assert all(item.sha256 for item in kept.canaries.items)

    async def test_statistical(self):
        """Any other by the statistics of the M samples, which cost nothing."""
        spool = MemorySpool()
        calibration = await calibrate(Moody(), spool)
        kept = await load(spool, calibration.id)
        assert {len(values) for i in kept.canaries.items for values in i.draws.values()} == {4}
        assert kept.canaries.evidence == pytest.approx(1)

    async def test_a_failing_second_call(self):
        """The pair is measured all the same; it is no canary."""

        class Tired(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                if len(self.calls) == 4:
                    self.calls.append([])
                    raise UpscalerRejected("Enough.")
                return await super().generate(source, seeds, turn)

        spool = MemorySpool()
        calibration = await calibrate(Tired(), spool, count=3)
        assert calibration.n == 3
        kept = await load(spool, calibration.id)
        assert {item.name for item in kept.canaries.items} == {"p1", "p2"}

    async def test_published_once(self):
        """A job that reduces twice does not forget what was found in between."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool)
        watch = watch_of(upscaler, spool, calibration)
        await watch.round("fake")
        await publish(spool, "run", calibration.id, fingerprint="fake:1", samples=4)
        assert (await load(spool, calibration.id)).rounds == 1

    async def test_derived_calibrations_inherit(self):
        """The canaries of old pairs, and what they have shown, go with the pairs."""
        spool, upscaler = MemorySpool(), FakeUpscaler()
        calibration = await calibrate(upscaler, spool)
        upscaler.strength = 0.6
        await watch_of(upscaler, spool, calibration).round("fake")
        await publish(
            spool, "run", "cal-new", fingerprint="fake:1", samples=4, parent=calibration.id
        )
        assert (await load(spool, "cal-new")).alarm
        assert not await canaries.inherit(spool, "cal-none", "cal-other")

    async def test_forgetting(self):
        """Nothing of a calibration is left, and others keep theirs."""
        spool = MemorySpool()
        gone, other = [await calibrate(FakeUpscaler(), spool, seed=k) for k in (0, 1)]
        await canaries.forget(spool, gone.id)
        assert {job for job, _ in spool.files} == {f"canary-{other.id}"}

    async def test_damage(self):
        """A damaged state counts as none."""
        spool = MemorySpool()
        await spool.put("canary-cal", "state.json", b"{")
        assert await load(spool, "cal") is None


class TestJob:
    """The calibration job."""

    async def made(
        self, stores, upscaler, *, watched=("fake",), job_id="job-c", parent=None, **config
    ):
        """The id of the calibration that a job of ten pairs makes; each unit is done."""
        settings = CalibrationConfig(samples=4, degradation=Degradation(), **config)
        names = [f"{job_id}-{k}" for k in range(10)]
        first = 100 if parent else 0  # other images than those of the parent
        for k, name in enumerate(names):
            await stores.spool.put(job_id, f"y/{name}", png_rgb(photo(first + k, 48, 48)))
            await stores.spool.put(
                job_id, f"labels/{name}", png_rgb(np.zeros((48, 48, 3), np.uint8))
            )
        request = CalibrationRequest(
            config=settings,
            pipeline=settings.pipeline(upscaler),
            upscaler="fake",
            pairs=[{"name": n, "x": False, "label": False, "prediction": None} for n in names],
            skipped=[],
            created_by="key 12345678",
            parent=parent,
        )
        now = datetime.now(UTC)
        await stores.jobs.create(
            Job(
                id=job_id,
                kind="calibration",
                created_at=now,
                request=request.model_dump(mode="json"),
            )
        )
        await stores.jobs.start(job_id, None, "ann")
        job = await stores.jobs.load(job_id)
        handler = CalibrationHandler(
            {"fake": upscaler}, Calibrations(stores.calibrations), stores.spool, watched
        )
        for unit in await handler.units(job):
            await stores.jobs.record(job.id, unit, await handler.unit(job, unit))
        link = await handler.reduce(job, JobContext(job.id, stores.jobs))
        return link.rsplit("/", 1)[-1]

    @pytest.mark.parametrize("metric", ["neighborhood", "semantic"])
    async def test_of_a_watched_upscaler(self, stores, metric):
        """Eight pairs are canaries, whatever the metric, and a round finds all as they were."""
        upscaler = FakeUpscaler()
        made = await self.made(stores, upscaler, fidelity={"metric": metric})
        assert len(upscaler.calls) == 10 * 4 + 8
        watch = watch_of(upscaler, stores.spool, made)
        await watch.round("fake")
        kept = await load(stores.spool, made)
        assert (len(kept.canaries.items), kept.rounds, kept.alarm) == (8, 1, False)

    async def test_of_another(self, stores):
        """Nothing is paid or kept for an upscaler that is not watched."""
        upscaler = FakeUpscaler()
        made = await self.made(stores, upscaler, watched=())
        assert len(upscaler.calls) == 10 * 4
        assert await load(stores.spool, made) is None

    async def test_extended(self, stores):
        """An extension keeps the canaries of the pairs that it extends."""
        upscaler = FakeUpscaler()
        first = await self.made(stores, upscaler)
        second = await self.made(stores, upscaler, job_id="job-d", parent=first)
        assert await load(stores.spool, second) == await load(stores.spool, first)

    async def test_without_a_pair(self, stores):
        """So does a calibration from which a pair is removed."""
        upscaler, calibrations = FakeUpscaler(), Calibrations(stores.calibrations)
        first = await self.made(stores, upscaler)
        admin = CalibrationAdmin({"fake": upscaler}, "fake", calibrations, stores, None)
        whole = await calibrations.get(first)
        smaller = await admin.without_pair(whole, "job-c-0", created_by="key 12345678")
        assert smaller.id != first
        watch = watch_of(upscaler, stores.spool, smaller.id)
        assert await watch.round("fake")
        assert (await load(stores.spool, smaller.id)).rounds == 1
        assert (await load(stores.spool, first)).rounds == 0


async def test_command_line(tmp_path, monkeypatch):
    """`trustscale calibrate` keeps them too, also in a run that was interrupted."""

    class Tiring(FakeUpscaler):
        async def generate(self, source, seeds, turn=None):
            if len(self.calls) == 23:
                self.failure = UpscalerRejected("Enough.")
            return await super().generate(source, seeds, turn)

    upscaler = Tiring(capabilities=Capabilities(concurrency=1))
    settings = Settings(data_dir=tmp_path / "data", upscalers=[REMOTE])
    monkeypatch.setattr(app.cli.local, "load_settings", lambda: settings)
    monkeypatch.setattr(app.cli.local, "configure_logs", lambda *_: None)
    monkeypatch.setattr(
        app.cli.local,
        "open_parts",
        lambda s, stack, **options: open_parts(s, stack, lambda *_: upscaler, **options),
    )
    folder, config = truths(tmp_path / "truths", 10), CalibrationConfig(samples=4)
    with pytest.raises(NotFinished, match="Enough"):
        await measured(folder, config)
    upscaler.failure = None
    calibration, *_ = await measured(folder, config)
    stores = open_stores("sqlite:///", tmp_path / "data", result_ttl_s=9, max_result_bytes=10**9)
    kept = await load(stores.spool, calibration.id)
    assert calibration.n == 10
    assert len(kept.canaries.items) >= 6  # calls refused may have been the second of a canary
    await watch_of(upscaler, stores.spool, calibration.id).round("fake")
    assert not (await load(stores.spool, calibration.id)).alarm
    await stores.close()
