"""The promises of JobStore."""

import asyncio
from unittest.mock import AsyncMock

import pytest

from harness.documents import job
from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.job_status import JobAbout, JobState, JobStatus, Progress


async def at(stores, task):
    return {attempt.owner for attempt in await stores.jobs.attempts("job", task)}


END = {"state": JobState.SUCCEEDED, "result": "/v1/results/1"}


async def begun(stores, name="job", task=""):
    await stores.jobs.create(job(name))
    return await stores.jobs.start(name, task, "ann")


async def test_what_was_created_comes_back(stores):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    about = JobAbout(name="ü", calls=3, warnings=["Two are alike."])
    whole = job().model_copy(update={"trace": trace, "about": about})
    status = JobStatus(**whole.model_dump(exclude={"request"}))
    assert await stores.jobs.create(whole) == status
    assert await stores.jobs.create(job(second=9)) == status
    assert await stores.jobs.get("job") == status
    assert await stores.jobs.load("job") == whole
    running = await stores.jobs.start("job", "", "ann")
    assert (running.trace, running.about) == (trace, about)


class TestAttempts:
    async def test_each_task_has_its_own(self, doors):
        """Attempts are kept by task, from all processes; running without a task is none."""
        await begun(doors[0], task=None)
        tasks = ["", "a pair", "pair"]
        await asyncio.gather(
            *(doors[i % 3].jobs.start("job", tasks[i % 3], f"w{i}") for i in range(9))
        )
        for place, task in enumerate(tasks):
            owners = {f"w{i}" for i in range(place, 9, 3)}
            assert await at(doors[0], task) == owners

    async def test_end(self, stores):
        """Any end removes all names at its task; a running job without attempts is queued."""
        first = await begun(stores, task="pair")
        await stores.jobs.start("job", "pair", "dead", alone=True)
        assert {one.alone for one in await stores.jobs.attempts("job", "pair")} == {True, False}
        await stores.jobs.start("job", "other", "bob")
        await stores.jobs.end("job", "pair")
        assert await at(stores, "pair") == set()
        assert (await stores.jobs.get("job")).state is JobState.RUNNING
        for _ in range(2):
            await stores.jobs.end("job", "other")
            assert (await stores.jobs.get("job")).state is JobState.QUEUED
        assert [j.id for j in await stores.jobs.unfinished()] == ["job"]
        again = await stores.jobs.start("job", "", "ann")
        assert again.started_at == first.started_at


class TestEnd:
    async def test_closed(self, stores):
        await begun(stores)
        await stores.jobs.start("job", "pair", "bob")
        assert await stores.jobs.finish("job", **END)
        before = await stores.jobs.get("job")
        assert (before.state, before.result) == (JobState.SUCCEEDED, "/v1/results/1")
        assert before.finished_at is not None
        assert await at(stores, "") == await at(stores, "pair") == set()
        assert not await stores.jobs.record("job", "pair", b"late")
        await stores.jobs.progress("job", Progress(done=9))
        await stores.jobs.end("job", "")
        assert not await stores.jobs.finish("job", JobState.FAILED, error={"title": "late"})
        assert await stores.jobs.start("job", "", "ann") is None
        assert await stores.jobs.request_cancel("job") == before
        assert await stores.jobs.get("job") == before

    async def test_told_twice(self, stores):
        """An end whose answer was lost can be reported again."""
        await begun(stores)
        for _ in range(2):
            assert await stores.jobs.finish("job", **END)
        problem = {"title": "ü", "items": [{"name": "1.png", "reason": None}], "empty": []}
        await begun(stores, "failed")
        for _ in range(2):
            assert await stores.jobs.finish("failed", JobState.FAILED, error=problem)
        assert (await stores.jobs.get("failed")).error == problem

    async def test_one_end_wins(self, doors):
        await begun(doors[0])
        won = await asyncio.gather(
            *(doors[i % 3].jobs.finish("job", JobState.SUCCEEDED, result=str(i)) for i in range(30))
        )
        assert sum(won) == 1
        assert (await doors[0].jobs.get("job")).result == str(won.index(True))


class TestRecords:
    async def test_in_order(self, stores):
        await begun(stores)
        names = [f"x/{i:03} ü.png" for i in range(200)]
        for name in reversed(names):
            assert await stores.jobs.record("job", name, name.encode())
        assert await stores.jobs.record("job", names[0], b"\x00another")
        kept = [pair async for pair in stores.jobs.records("job")]
        assert kept == [(name, name.encode()) for name in names]
        assert await stores.jobs.recorded_tasks("job") == set(names)

    async def test_forgives(self, stores):
        await begun(stores, task="pair 1")
        for owner, task in (("bob", "pair 1"), ("ann", "pair"), ("ann", "1")):
            await stores.jobs.start("job", task, owner)
        assert await stores.jobs.record("job", "pair 1", b"")
        assert await at(stores, "pair 1") == set()
        assert await at(stores, "pair") == await at(stores, "1") == {"ann"}


class TestCancel:
    async def test_waiting(self, stores):
        await begun(stores, "labels")
        await stores.jobs.finish("labels", JobState.AWAITING_LABELS)
        await stores.jobs.create(job())
        for name in ("job", "labels"):
            cancelled = await stores.jobs.request_cancel(name)
            assert cancelled.state is JobState.CANCELLED
            assert cancelled.finished_at is not None
        assert await stores.jobs.unfinished() == []

    async def test_running(self, stores):
        for name in ("job", "dead"):
            await begun(stores, name)
            marked = await stores.jobs.request_cancel(name)
            assert (marked.state, marked.cancel_requested) == (JobState.RUNNING, True)
        assert await stores.jobs.finish("job", JobState.CANCELLED)
        assert await stores.jobs.start("dead", "", "bob") is None
        assert (await stores.jobs.get("dead")).state is JobState.CANCELLED


class TestLists:
    async def test_expire(self, stores):
        await begun(stores, "ended")
        await stores.jobs.record("ended", "pair", b"")
        await stores.jobs.finish("ended", JobState.SUCCEEDED)
        await begun(stores, "running")
        assert await stores.job_retention.expire(older_s=60) == []
        assert await stores.job_retention.expire(older_s=-60) == ["ended"]
        for call in (stores.jobs.get, stores.jobs.load):
            with pytest.raises(NotFound):
                await call("ended")
        assert await stores.jobs.recorded_tasks("ended") == set()
        assert [j.id for j in await stores.jobs.unfinished()] == ["running"]

    async def test_labels_that_do_not_come(self, stores, monkeypatch):
        """A job that awaits labels expires; each label gives it as much time again."""
        for name in ("left", "labelled", "resumed"):
            await begun(stores, name)
            await stores.jobs.finish(name, JobState.AWAITING_LABELS)
        between = await stores.jobs._documents.time()
        await asyncio.sleep(0.01)  # more than the clock's step
        await stores.job_retention.touch("labelled")
        await stores.jobs.resume("resumed")
        await stores.job_retention.touch("resumed")  # by a label that came late
        await stores.job_retention.touch("unknown")
        with monkeypatch.context() as patch:
            patch.setattr(stores.jobs._documents, "time", AsyncMock(return_value=between))
            assert await stores.job_retention.expire(older_s=0) == ["left"]
        await stores.jobs.request_cancel("labelled")
        assert [j.id for j in await stores.jobs.unfinished()] == ["resumed"]
        assert await stores.job_retention.expire(older_s=-60) == ["labelled"]
        assert (await stores.jobs.pending_by_client("calibration")).total() == 1
