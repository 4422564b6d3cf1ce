"""The calibration as a job, and the run of the command line."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
import pytest

from harness.factories import calibration_of, encoded, photo, truths
from harness.fakes import FakeUpscaler, Unseeded
from trustscale_server.calibrating import orphans, pair_pictures
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.in_place import run_id
from trustscale_server.calibrating.intake.find import find_pairs, folder_files
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.calibrating.intake.take_in import take_in
from trustscale_server.calibrating.job import CalibrationHandler
from trustscale_server.calibrating.packing import pack, unpack
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.calibrating.records import load_record
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.active import Calibrations
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.jobs.handler import JobContext
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.platform.errors import BadPairs, CalibrationMismatch, Conflict
from trustscale_server.sampling.kept_samples import samples_named
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.stores.job_status import JobState
from trustscale_server.stores.uploads import folder_of_samples, forget_uploads
from trustscale_server.upscalers.base import Source, image_digest


@pytest.fixture
def upscaler():
    return FakeUpscaler()


@pytest.fixture
def handler(stores, upscaler):
    calibrations = Calibrations(stores.calibrations)
    return CalibrationHandler({"fake": upscaler}, calibrations, stores.blobs, stores.canary_states)


async def submitted(stores, upscaler, count=3, *, job_id="job-c", parent=None, first=0, **config):
    """A job of so many photographs from the first on, for which black labels wait."""
    settings = CalibrationConfig(**{"samples": 4, "degradation": Degradation(), **config})
    asked = []
    for k in range(count):
        y, name = encoded(photo(first + k, 48, 48)), str(first + k)
        await stores.blobs.put(job_id, f"y/{name}", y)
        await stores.blobs.put(job_id, f"labels/{name}", encoded(np.zeros((48, 48, 3), np.uint8)))
        digest = hashlib.sha256(y).hexdigest()
        asked.append(PairSource(name, sha256={"y": digest}, group="day", scene=name))
    request = CalibrationRequest.from_uploads(
        settings,
        settings.pipeline(upscaler),
        upscaler,
        asked,
        skipped=[],
        created_by="key 12345678",
        parent=parent,
    )
    await stores.jobs.create(request.as_job(job_id))
    assert await stores.jobs.start(job_id, None, "ann") is not None
    return await stores.jobs.load(job_id)


async def measured(stores, handler, job):
    for unit in reversed(list(await handler.tasks(job))):
        await stores.jobs.record(job.id, unit, await handler.run(job, unit))


async def only(stores):
    (head,) = await stores.calibrations.heads()
    return head.id


class TestUnits:
    async def test_one_per_pair(self, stores, handler, upscaler):
        """A unit is a pair; doing it again gives the same bytes, and pays nothing again."""
        job = await submitted(stores, upscaler)
        assert list(await handler.tasks(job)) == ["0", "1", "2"]
        first = await handler.run(job, "1")
        assert load_record(first).state == "measured"
        assert await handler.run(job, "1") == first
        assert len(upscaler.calls) == 4

    async def test_the_request_is_checked_once(self, stores, handler, upscaler, monkeypatch):
        """It has an entry for every pair: checked for each, a large set would take its square."""
        job = await submitted(stores, upscaler)
        checked, from_job = [], CalibrationRequest.from_job
        monkeypatch.setattr(
            CalibrationRequest, "from_job", lambda job: checked.append(job) or from_job(job)
        )
        for task in await handler.tasks(job):
            await handler.run(job.model_copy(deep=True), task)
        assert len(checked) == 1

    async def test_a_label_belongs_to_the_first_prediction(self, stores):
        """A unit that is executed again shows and measures what its first execution made."""
        upscaler = Unseeded()
        handler = CalibrationHandler(
            {"fake": upscaler},
            Calibrations(stores.calibrations),
            stores.blobs,
            stores.canary_states,
        )
        job = await submitted(stores, upscaler, 1, fidelity={"metric": "semantic"})
        first = await handler.run(job, "0")
        shown = await pair_pictures.of_job(stores.blobs, job.id, "0", "prediction")
        assert await handler.run(job, "0") == first
        assert await pair_pictures.of_job(stores.blobs, job.id, "0", "prediction") == shown
        assert image_digest(decode(shown, PAIR_LIMITS).rgb) == load_record(first).prediction_sha256

    async def test_upscaler_that_changed(self, stores, handler, upscaler):
        """A pair is never measured under another fingerprint than the job began with."""
        job = await submitted(stores, upscaler)
        await handler.run(job, "0")
        upscaler.fingerprint = "fake:2"
        with pytest.raises(CalibrationMismatch):
            await handler.run(job, "1")

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
            assert load_record(await handler.run(job, "1")).state == "skipped"


class TestReduce:
    async def test_result(self, stores, handler, upscaler):
        """It has all pairs, by name, as they were grouped, says whose job it was, and is one."""
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
        job = await submitted(stores, upscaler, count=1, on_bad_pair="skip")
        await stores.blobs.put(job.id, "y/0", encoded(photo(0, 48, 48))[:-200])
        await measured(stores, handler, job)
        with pytest.raises(BadPairs) as caught:
            await handler.reduce(job, JobContext(job.id, stores.jobs))
        assert [item["name"] for item in caught.value.members["items"]] == ["0"]


class TestSamplesOfKilledProcesses:
    async def kept(self, stores, job, task):
        await stores.blobs.put(folder_of_samples(job.id), f"{samples_named(task)}1.npy", b"x")

    async def test_they_go_when_the_job_ends(self, stores, upscaler):
        """Each with its pair, if that is measured again; the others, and only they, at the end."""
        job = await submitted(stores, upscaler)
        for task in ("0", "1"):
            await self.kept(stores, job, task)
        await CalibrationHandler({}, None, stores.blobs, None).after_recording(job, "0")
        left = await stores.blobs.names(folder_of_samples(job.id))
        assert left == [f"{samples_named('1')}1.npy"]
        ended = await stores.jobs.finish(job.id, JobState.FAILED)
        assert ended
        await forget_uploads(stores.blobs, await stores.jobs.get(job.id))
        assert await stores.blobs.names(folder_of_samples(job.id)) == []
        assert await stores.blobs.has(job.id, "y/0")

    async def test_what_is_stored_later(self, stores, upscaler, monkeypatch):
        """A process that took too long stores samples of an ended job: the sweep finds them."""
        monkeypatch.setattr(orphans, "_ORPHAN_LIFE", timedelta(seconds=-60))
        job = await submitted(stores, upscaler)
        await self.kept(stores, job, "0")
        await orphans.remove_orphans(stores)
        assert await stores.blobs.names(folder_of_samples(job.id))
        await stores.jobs.finish(job.id, JobState.SUCCEEDED)
        await orphans.remove_orphans(stores)
        assert await stores.blobs.names(folder_of_samples(job.id)) == []
        assert await stores.blobs.has(job.id, "y/0")


CONFIG = CalibrationConfig(degradation={}, samples=4)


async def test_the_id_of_a_run(tmp_path):
    """Equal pairs and settings find each other; anything that changes σ or D does not."""

    async def made(config=CONFIG, upscaler=None, folder=None, **renamed):
        upscaler = upscaler or FakeUpscaler()
        files = partial(folder_files, folder or truths(tmp_path / "photos", 3))
        found = find_pairs(files(), GroupingRule())
        pairs = [replace(pair, **renamed.get(f"p{pair.name}", {})) for pair in found.pairs]
        pipeline = config.pipeline(upscaler)
        taken = await take_in(files, found._replace(pairs=pairs), pipeline)
        fields = {"skipped": [], "created_by": "test"}
        return run_id(
            CalibrationRequest.from_uploads(config, pipeline, upscaler, taken.usable, **fields)
        )

    def config(**changes):
        return CalibrationConfig(**{"degradation": {}, "samples": 4, **changes})

    ids = [
        await made(),
        await made(config(samples=5)),
        await made(config(seed=1)),
        await made(config(degradation={"noise": 2})),
        await made(config(indecision={"blur": 1})),
        await made(config(fit_indecision=0.5)),
        await made(upscaler=FakeUpscaler(fingerprint="fake:2")),
        await made(upscaler=FakeUpscaler("twin")),
        await made(folder=truths(tmp_path / "fewer", 2)),
    ]
    assert len(set(ids)) == len(ids)
    assert await made(config(name="other", activate=True, default_alpha=0.2)) == ids[0]

    # Which pairs σ is fitted on follows from the scenes.
    fitting = config(fit_indecision=0.85)
    many = truths(tmp_path / "many", 24, side=16)
    crops = {f"p{k:03}": {"scene": "one"} for k in range(3)}
    assert await made(fitting, folder=many) != await made(fitting, folder=many, **crops)
    assert await made(folder=many) == await made(folder=many, **crops)


async def test_round_trip():
    pipeline = CONFIG.pipeline(FakeUpscaler())
    pair = load_pair(
        PairSource("ä/b"), {"y": encoded(photo(1, 48, 48))}, pipeline, degradation=None, seed=0
    )
    measurement = await measure(FakeUpscaler(), Source(pair.x), pipeline, pair.seed)
    measured = reduce_pair(pair, measurement, pipeline)
    # Whether the distance of the truth was seen on the way, or not.
    one = pipeline.model_copy(update={"samples": 1, "indecision": IndecisionSettings("departure")})
    found = await measure(FakeUpscaler(), Source(pair.x), one, pair.seed, truth=pair.y)
    unseen = replace(found, distance=None)
    assert found.distance is not None
    assert pack(reduce_pair(pair, found, one)) == pack(reduce_pair(pair, unseen, one))
    again = unpack(pack(measured))
    assert again.info == measured.info
    assert list(again.loss_curves) == list(measured.loss_curves)
    np.testing.assert_array_equal(again.sigma_quantiles, measured.sigma_quantiles)
