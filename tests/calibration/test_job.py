"""The calibration job, unit by unit: what is checkpointed, published once, and refused."""

from __future__ import annotations

import hashlib

import pytest

from app.calibration import pictures
from app.calibration.active import Calibrations
from app.calibration.config import AskedPair, CalibrationConfig, CalibrationRequest
from app.calibration.job import CalibrationHandler, record_state, unlabelled
from app.errors import BadImage, BadPairs, CalibrationMismatch, Conflict, NotFound
from app.images.decode import PAIR_LIMITS, decode
from app.images.degrade import Degradation
from app.jobs.handlers import JobContext
from app.stores.base import Job, JobState, Stores
from app.upscalers.base import image_digest
from tests.factories import calibration_of, changed, encoded, photo
from tests.fakes import FakeUpscaler


class Forgetful(FakeUpscaler):
    """Does not know seeds: no two answers are equal."""

    def sample(self, rgb, seed):
        return super().sample(rgb, seed + len(self.calls))


@pytest.fixture
def upscaler() -> FakeUpscaler:
    return FakeUpscaler()


@pytest.fixture
def handler(stores, upscaler) -> CalibrationHandler:
    calibrations = Calibrations(stores.calibrations)
    return CalibrationHandler({"fake": upscaler}, calibrations, stores.blobs, stores.monitor)


async def submitted(
    stores: Stores,
    upscaler: FakeUpscaler,
    count: int = 3,
    *,
    parent: str | None = None,
    first: int = 0,
    **config,
) -> Job:
    """A job of uploaded truths, that runs."""
    settings = CalibrationConfig(**{"samples": 4, "degradation": Degradation(), **config})
    asked = []
    for k in range(count):
        y, name = encoded(photo(first + k, 48, 48)), str(k)
        await stores.blobs.put("job-c", f"y/{name}", y)
        digest = hashlib.sha256(y).hexdigest()
        asked.append(AskedPair(name=name, source=name, y_sha256=digest, group="day", scene=name))
    request = CalibrationRequest.asking(
        settings,
        settings.pipeline(upscaler),
        upscaler,
        asked,
        skipped=[],
        created_by="key 12345678",
        parent=parent,
    )
    job = request.as_job("job-c")
    await stores.jobs.create(job)
    assert await stores.jobs.start("job-c", None, "ann") is not None
    return await stores.jobs.load("job-c")


async def measured(stores: Stores, handler: CalibrationHandler, job: Job) -> None:
    """All units done and recorded, in no particular order."""
    for unit in reversed(list(await handler.tasks(job))):
        await stores.jobs.record(job.id, unit, await handler.run(job, unit))


async def only(stores: Stores) -> str:
    (head,) = await stores.calibrations.heads()
    return head.id


class TestUnits:
    async def test_one_per_pair(self, stores, handler, upscaler):
        """A unit is a pair; doing it again gives the same bytes."""
        job = await submitted(stores, upscaler)
        assert list(await handler.tasks(job)) == ["0", "1", "2"]
        first = await handler.run(job, "1")
        assert record_state(first) == "measured"
        assert await handler.run(job, "1") == first
        assert len(upscaler.calls) == 2 * 4

    async def test_a_label_belongs_to_the_first_prediction(self, stores):
        """A unit that is executed again shows and measures what its first execution made."""
        upscaler = Forgetful()
        handler = CalibrationHandler(
            {"fake": upscaler}, Calibrations(stores.calibrations), stores.blobs, stores.monitor
        )
        job = await submitted(stores, upscaler, 1, fidelity={"metric": "semantic"})
        first = await handler.run(job, "0")
        shown = await pictures.of_job(stores.blobs, job.id, "0", "prediction")
        assert await handler.run(job, "0") == first
        assert await pictures.of_job(stores.blobs, job.id, "0", "prediction") == shown
        assert image_digest(decode(shown, PAIR_LIMITS).rgb) == unlabelled(first).prediction_sha256

    async def test_upscaler_that_changed(self, stores, handler, upscaler):
        """A pair is never measured under another fingerprint than the job began with."""
        job = await submitted(stores, upscaler)
        await handler.run(job, "0")
        upscaler.fingerprint = "fake:2"
        with pytest.raises(CalibrationMismatch):
            await handler.run(job, "1")

    async def test_upscaler_that_is_gone(self, stores, handler, upscaler):
        """An upscaler that is no longer configured is named."""
        job = await submitted(stores, upscaler)
        handler.upscalers = {}
        with pytest.raises(NotFound, match="'fake' is no longer configured"):
            await handler.run(job, "0")

    @pytest.mark.parametrize("policy", ["fail", "skip"])
    @pytest.mark.parametrize("data", [encoded(photo(1, 48, 48))[:-200], encoded(photo(7, 48, 48))])
    async def test_what_is_measured_is_what_was_checked(
        self, stores, handler, upscaler, policy, data
    ):
        """Damage, or other bytes, fail the job with the pair's name, or are a checkpoint."""
        job = await submitted(stores, upscaler, on_bad_pair=policy)
        await stores.blobs.put(job.id, "y/1", data)
        if policy == "fail":
            with pytest.raises(BadPairs) as caught:
                await handler.run(job, "1")
            assert [item["name"] for item in caught.value.members["items"]] == ["1"]
        else:
            assert record_state(await handler.run(job, "1")) == "skipped"


class TestReduce:
    async def test_result(self, stores, handler, upscaler):
        """The calibration has all pairs, by name, as they were grouped, and says whose job it was.

        A worker that was believed dead and reduces too publishes the same one.
        """
        job = await submitted(stores, upscaler)
        await measured(stores, handler, job)
        links = {await handler.reduce(job, JobContext(job.id, stores.jobs)) for _ in range(2)}
        assert links == {f"/v1/admin/calibrations/{await only(stores)}"}
        made = await handler.calibrations.get(await only(stores))
        assert [pair.name for pair in made.manifest.pairs] == ["0", "1", "2"]
        assert {(pair.group, pair.scene == pair.name) for pair in made.manifest.pairs} == {
            ("day", True)
        }
        assert made.manifest.provenance.created_by == "key 12345678"
        assert await handler.calibrations.active_id("fake") is None

    async def test_what_was_left_out_before(self, stores, handler, upscaler):
        """An extension still says which pairs its parent was made without, and why."""
        removed = {"name": "x", "reason": "removed by key 1"}
        parent = changed(await calibration_of(upscaler, 1), skipped=[removed])
        await handler.calibrations.add(parent, activate=False)
        job = await submitted(stores, upscaler, 1, parent=parent.id, first=1)
        await measured(stores, handler, job)
        link = await handler.reduce(job, JobContext(job.id, stores.jobs))
        made = await handler.calibrations.get(link.rsplit("/", 1)[-1])
        assert (made.pairs, made.manifest.skipped) == (2, [removed])

    async def test_ended_job_cannot_activate(self, stores, handler, upscaler):
        """A job activates what it makes, unless it was cancelled or has ended meanwhile."""
        job = await submitted(stores, upscaler, activate=True, force=True)
        await measured(stores, handler, job)
        await handler.reduce(job, JobContext(job.id, stores.jobs))
        made = await handler.calibrations.active_id("fake")
        assert made == await only(stores)
        other = (await calibration_of(upscaler, 2)).for_upscaler("fake")
        await handler.calibrations.add(other, activate=True)
        await stores.jobs.finish(job.id, JobState.FAILED)
        with pytest.raises(Conflict):
            await handler.reduce(job, JobContext(job.id, stores.jobs))
        assert await handler.calibrations.active_id("fake") == other.id

    async def test_all_skipped(self, stores, handler, upscaler):
        """When no pair is left there is no calibration, and every reason is told."""
        job = await submitted(stores, upscaler, count=1, on_bad_pair="skip")
        await stores.blobs.put(job.id, "y/0", encoded(photo(0, 48, 48))[:-200])
        await measured(stores, handler, job)
        with pytest.raises(BadPairs) as caught:
            await handler.reduce(job, JobContext(job.id, stores.jobs))
        assert [item["name"] for item in caught.value.members["items"]] == ["0"]


async def test_damaged_images_are_told(stores):
    """Showing a damaged upload is an error of ours, not a crash."""
    whole = encoded(photo(0, 64, 64), "JPEG")
    await stores.blobs.put("job-1", "y/a", whole[: len(whole) // 2])
    with pytest.raises(BadImage, match="decoded"):
        await pictures.of_job(stores.blobs, "job-1", "a", "y")
