"""The queue in one process: the same on memory:// and on Redis."""

import asyncio

import pytest
import redis
from docket import Docket

from harness.servers import RedisServer
from harness.waiting import PATIENCE_S, until
from tests.jobs.conftest import Place, ended, memory_place
from trustscale_server.jobs.coordinator import WINDOW
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.errors import BadPairs
from trustscale_server.platform.problems import problem_of
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JobState


class TestRun:
    async def test_both_kinds(self, place, stores, working):
        await working.submit(place.job("u"))
        await working.submit(place.job("c", pairs=5))
        upscaled, calibrated = await ended(stores, "u"), await ended(stores, "c")
        assert (upscaled.state, upscaled.result) == (JobState.SUCCEEDED, "/v1/results/u")
        assert (calibrated.state, calibrated.error) == (JobState.SUCCEEDED, None)
        assert (calibrated.progress.done, calibrated.progress.total) == (5, 5)
        assert (await stores.calibrations.active())["span"].calibration == "c"
        pairs = {f"pair{i:04}": 1 for i in range(5)}
        assert place.starts() == {"u": 1, "u-ended": 1, "reduce": 1, **pairs}

    @pytest.mark.servers
    async def test_no_more_than_the_window(self, redis_place, stores):
        """No more tasks of a job are in the queue, so that those of another come between."""
        place = redis_place
        tasks = Docket("trustscale:queue:task", place.queue_url).stream_key
        with redis.Redis.from_url(place.queue_url) as client:
            async with place.working(stores, drain_s=0) as queue:
                await queue.submit(place.job("c", pairs=WINDOW + 6, waits=True))
                await until(lambda: client.xlen(tasks) >= WINDOW)
                await queue.submit(place.job("u"))
                await ended(stores, "u")
                assert client.xlen(tasks) == WINDOW
                await queue.cancel("c")
                await ended(stores, "c")

    async def test_submitted_twice(self, place, stores):
        """It comes back as it was stored; before, during or after its run it runs no more."""
        job = place.job("u", waits=True)
        async with place.queue(stores) as queue:
            submitted = await queue.submit(job)
            assert await queue.submit(job) == submitted
            assert submitted.model_dump() == job.model_dump(exclude={"request"})
            assert await stores.jobs.load("u") == job
            async with place.worker(queue, stores):
                await until(lambda: place.starts()["u"] == 1)
                await queue.submit(job)
                place.gate.touch()
                await ended(stores, "u")
                await queue.submit(job)
                await queue.submit(place.job("later"))
                await ended(stores, "later")
        assert place.starts()["u"] == 1

    async def test_queues_do_not_starve_each_other(self, place, stores):
        async with place.working(stores, drain_s=0) as queue:
            await queue.submit(place.job("c", pairs=40, waits=True))
            await until(lambda: place.starts().total() == 2)
            await queue.submit(place.job("u"))
            assert (await ended(stores, "u")).state is JobState.SUCCEEDED
            assert {*place.starts()} == {"pair0000", "pair0001", "u", "u-ended"}
            await queue.cancel("c")
            await ended(stores, "c")

    async def test_done_elsewhere(self, place, stores):
        """A worker whose job another one has ended meanwhile neither activates nor ends it."""
        async with place.working(stores) as queue:
            await queue.submit(place.job("c", pairs=1, waits=True, reduces_behind_gate=True))
            await until(lambda: "reduce" in place.starts())
            assert await stores.jobs.finish("c", JobState.SUCCEEDED, result="the other")
            place.gate.touch()
        assert await stores.calibrations.active() == {}
        assert (await stores.jobs.get("c")).result == "the other"

    @pytest.mark.servers
    async def test_a_message_that_comes_again(self, redis_place, stores):
        place = redis_place

        async def again(job_id): ...

        async with place.working(stores) as queue:
            await queue.submit(place.job("u", waits=True))
            await until(lambda: place.starts()["u"] == 1)
            async with Docket("trustscale:queue:upscale", place.queue_url) as docket:
                docket.register(again, names=["upscale"])
                for i in range(4):
                    await docket.add("upscale", key=f"again{i}")("u")
            await queue.submit(place.job("v"))
            place.gate.touch()
            for name in ("u", "v"):
                assert (await ended(stores, name)).state is JobState.SUCCEEDED
        assert place.starts()["u"] == 1

    async def test_cancelled(self, place, stores, working):
        pairs = {"pair0000", "pair0001"}
        await working.submit(place.job("c", pairs=100, waits=True))
        await until(lambda: {*place.starts()} == pairs)
        await working.cancel("c")
        assert (await ended(stores, "c")).state is JobState.CANCELLED
        stopped = {f"{pair}-stopped" for pair in pairs}
        await until(lambda: stopped <= {*place.starts()})
        await working.submit(place.job("later"))
        await ended(stores, "later")
        assert {*place.starts()} == pairs | stopped | {"later", "later-ended"}


class TestErrors:
    async def failed(self, queue, stores, job):
        await queue.submit(job)
        last = await ended(stores, job.id)
        assert last.state is JobState.FAILED
        return last.error

    async def test_of_a_job(self, place, stores, working, caplog):
        error = await self.failed(working, stores, place.job("u", bad=True))
        assert error == problem_of(BadPairs("These pairs cannot be used."))
        error = await self.failed(working, stores, place.job("v", fail=True))
        assert error["title"] == "Internal error"
        assert "inside" not in str(error)
        assert "RuntimeError: the inside" in caplog.text

    async def test_of_a_task(self, place, stores, working):
        """Nobody waits for what only the operator can mend: the job fails, and says why."""
        for way, words in (("refused", "token"), ("unpaid", "credit")):
            job = place.job(way, pairs=1, **{way: "pair0000"})
            assert words in (await self.failed(working, stores, job))["detail"]
        assert place.starts() == {"pair0000": 2}
        job = place.job("c", pairs=9, bad="pair0003", seconds=0.1)
        error = await self.failed(working, stores, job)
        assert error["detail"] == "pair0003: The sizes differ."
        assert error["items"] == [{"name": "pair0003", "reason": "The sizes differ."}]
        assert place.starts()["pair0003"] == 1


async def test_ends_are_told(place, stores):
    """Each once, also of a job that a dead worker was to cancel, or had just ended."""
    told = set()

    async def on_end(job):
        assert (job.id, job.state) not in told
        told.add((job.id, job.state))

    async with place.queue(stores, on_end=on_end) as queue:
        for name in ("waiting", "over"):
            await queue.submit(place.job(name))
        assert (await queue.cancel("waiting")).state is JobState.CANCELLED
        await stores.jobs.start("over", "", "one who died")
        await stores.jobs.finish("over", JobState.SUCCEEDED)
        for job in (place.job("dead"), place.job("pairs", pairs=2)):
            await stores.jobs.create(job)
            await stores.jobs.start(job.id, "", "one who died")
            await stores.jobs.request_cancel(job.id)
        async with place.worker(queue, stores):
            await queue.submit(place.job("u"))
            for name in ("u", "dead", "pairs"):
                await ended(stores, name)
            await until(lambda: ("over", JobState.SUCCEEDED) in told)
    cancelled = {(name, JobState.CANCELLED) for name in ("waiting", "dead", "pairs")}
    assert told == {("u", JobState.SUCCEEDED), ("over", JobState.SUCCEEDED), *cancelled}
    assert not {"over", "waiting"} & place.starts().keys()


class TestStop:
    async def test_gives_back(self, place, stores):
        """A longer job is given back, not counted as an attempt that died, and run again later."""
        async with place.queue(stores) as queue:
            for number in range(1, 5):
                async with place.worker(queue, stores, drain_s=0.1):
                    await queue.submit(place.job("c", pairs=1, waits=True))
                    await until(lambda number=number: place.starts()["pair0000"] == number)
                assert (await stores.jobs.get("c")).state is JobState.QUEUED
            place.gate.touch()
            async with place.worker(queue, stores):
                assert (await ended(stores, "c")).state is JobState.SUCCEEDED
        assert place.starts()["pair0000"] == 5

    async def test_restart_of_everything(self, tmp_path):
        first = memory_place(tmp_path)
        stores = first.stores()
        async with first.queue(stores) as queue:
            await queue.submit(first.job("waiting"))
            await queue.submit(first.job("c", pairs=6))
            await stores.jobs.create(first.job("died"))
            await stores.jobs.start("died", "", "one who died")
        await stores.close()

        again = memory_place(tmp_path)
        stores = again.stores()
        async with again.working(stores):
            for name in ("waiting", "died", "c"):
                assert (await ended(stores, name)).state is JobState.SUCCEEDED
        await stores.close()


@pytest.mark.servers
async def test_frozen(tmp_path, stores, monkeypatch):
    """Who submits a job does not wait for a queue that never answers; it is run once that does."""
    monkeypatch.setattr("trustscale_server.jobs.queue.SEND_S", 0.2)
    with RedisServer() as server:
        place = Place(server.url, "sqlite:///", tmp_path)
        async with place.queue(stores) as queue:
            server.pause()
            async with asyncio.timeout(PATIENCE_S):
                assert (await queue.submit(place.job("u"))).state is JobState.QUEUED
            server.unpause()
            async with place.worker(queue, stores):
                assert (await ended(stores, "u")).state is JobState.SUCCEEDED


@pytest.mark.servers
async def test_check(stores):
    with RedisServer() as server:
        async with JobQueue(server.url, stores.jobs, answer_s=60.0) as queue:
            server.kill()
            with pytest.raises(StoreUnavailable, match="queue"):
                await queue.probe()
            server.start()
            await queue.probe()
