"""The promises of JobStore."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic as clock

import pytest

from app.errors import NotFound
from app.stores.base import Job, JobState, Progress, Stores
from tests.contract.conftest import Opener, job


async def begun(stores: Stores, name: str = "job") -> Job:
    await stores.jobs.create(job(name))
    running = await stores.jobs.begin(name)
    assert running is not None
    return running


class TestCreate:
    async def test_comes_back(self, stores: Stores):
        """A job comes back as it was created."""
        assert await stores.jobs.create(job()) == job()
        assert await stores.jobs.get("job") == job()

    async def test_the_trace_is_kept(self, stores: Stores):
        """A job keeps the context of the request that left it, through all of its attempts."""
        context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await stores.jobs.create(job().model_copy(update={"trace": context}))
        running = await stores.jobs.begin("job")
        assert running is not None
        assert running.trace == context

    async def test_existing_is_returned(self, stores: Stores):
        """Creating an id again returns the stored job, unchanged."""
        running = await begun(stores)
        assert await stores.jobs.create(job(second=9)) == running

    async def test_unknown(self, stores: Stores):
        """An unknown id is NotFound everywhere it is asked for, and nothing for `begin`."""
        for call in (stores.jobs.get, stores.jobs.request_cancel, stores.jobs.resume):
            with pytest.raises(NotFound):
                await call("nothing")
        with pytest.raises(NotFound):
            async for _ in stores.jobs.watch("nothing"):
                pass
        assert await stores.jobs.begin("nothing") is None
        assert await stores.jobs.start_unit("nothing", "pair") == 0


class TestBegin:
    async def test_first(self, stores: Stores):
        """The first attempt is 1, the job runs, and its start has a time."""
        running = await begun(stores)
        assert (running.attempt, running.state) == (1, JobState.RUNNING)
        assert running.started_at is not None
        assert await stores.jobs.get("job") == running

    async def test_start_time_stays(self, stores: Stores):
        """A later attempt keeps the time of the first start."""
        first = await begun(stores)
        again = await stores.jobs.begin("job")
        assert again is not None
        assert (again.attempt, again.started_at) == (2, first.started_at)

    async def test_race_hands_out_each_number_once(self, opener: Opener):
        """Racing begins get different attempt numbers, in all processes."""
        doors = [opener() for _ in range(3)]
        await doors[0].jobs.create(job())
        began = await asyncio.gather(
            *(doors[i % 3].jobs.begin("job", max_attempts=100) for i in range(30))
        )
        assert (await doors[0].jobs.get("job")).attempt == 30
        assert len([b for b in began if b]) == 30

    async def test_poison(self, stores: Stores):
        """After three attempts that ended without a word the job has failed and says why."""
        await stores.jobs.create(job())
        for attempt in (1, 2, 3):
            running = await stores.jobs.begin("job")
            assert running is not None
            assert running.attempt == attempt
        assert await stores.jobs.begin("job") is None
        failed = await stores.jobs.get("job")
        assert failed.state is JobState.FAILED
        assert failed.finished_at is not None
        assert failed.error is not None
        assert failed.error["detail"] == "The job was given up: its worker died 3 times."
        assert await stores.jobs.unfinished() == []

    async def test_poison_names_the_unit(self, stores: Stores):
        """The error names the unit that was started at every attempt, not the ones that ended."""
        await stores.jobs.create(job())
        for _ in range(3):
            await stores.jobs.begin("job")
            await stores.jobs.start_unit("job", "bystander")
            await stores.jobs.start_unit("job", "killer")
        await stores.jobs.start_unit("job", "killer")
        assert await stores.jobs.begin("job") is None
        error = (await stores.jobs.get("job")).error
        assert error is not None
        assert error["detail"].endswith("died 3 times while working on killer.")
        assert [item["name"] for item in error["items"]] == ["killer"]

    async def test_progress_forgives(self, stores: Stores):
        """Attempts that leave a new checkpoint do not add up to poison; repeated ones do."""
        await stores.jobs.create(job())
        for i in range(6):
            running = await stores.jobs.begin("job")
            assert running is not None
            assert await stores.jobs.record("job", running.attempt, f"pair{i}", b"")
        for _ in range(2):
            running = await stores.jobs.begin("job")
            assert running is not None
            assert await stores.jobs.record("job", running.attempt, "pair0", b"again")
        assert await stores.jobs.begin("job") is None

    async def test_alive_is_not_overtaken(self, stores: Stores):
        """While an attempt tells that it is alive, another begin finds nothing to do."""
        await begun(stores)
        assert await stores.jobs.begin("job", alive_s=600) is None
        assert await stores.jobs.beat("job", 1)
        assert (await stores.jobs.get("job")).attempt == 1
        await asyncio.sleep(0.3)
        again = await stores.jobs.begin("job", alive_s=0.2)
        assert again is not None
        assert again.attempt == 2
        assert not await stores.jobs.beat("job", 1)
        assert await stores.jobs.release("job", 2)
        assert await stores.jobs.begin("job", alive_s=60) is not None

    async def test_a_beat_counts_from_then(self, stores: Stores):
        """An attempt that began long ago is alive for as long again after it has said so."""
        for name in map("job{}".format, range(100)):
            await begun(stores, name)
            began = clock()
            await asyncio.sleep(0.2)
            told = clock()
            assert await stores.jobs.beat(name, 1)
            again = await stores.jobs.begin(name, alive_s=told - began)
            if clock() - told < told - began:  # else the machine stalled: nothing is known
                break
        assert again is None

    async def test_release_is_not_counted(self, stores: Stores):
        """An attempt that was interrupted and gave itself back is not held against the job."""
        await stores.jobs.create(job())
        for _ in range(5):
            running = await stores.jobs.begin("job")
            assert running is not None
            assert await stores.jobs.release("job", running.attempt)
            assert (await stores.jobs.get("job")).state is JobState.QUEUED
            assert [j.id for j in await stores.jobs.unfinished()] == ["job"]


class TestFencing:
    async def test_zombie_is_refused(self, stores: Stores):
        """Every write of an attempt that was overtaken is refused and changes nothing."""
        await begun(stores)
        await stores.jobs.begin("job")
        before = await stores.jobs.get("job")
        assert not await stores.jobs.record("job", 1, "pair", b"zombie")
        assert not await stores.jobs.progress("job", 1, Progress(done=9))
        assert not await stores.jobs.finish("job", 1, JobState.SUCCEEDED, result="zombie")
        assert not await stores.jobs.release("job", 1)
        assert await stores.jobs.get("job") == before
        assert await stores.jobs.recorded("job") == set()

    async def test_ended_is_closed(self, stores: Stores):
        """After the end every write is refused, also those of the attempt that ended it."""
        await begun(stores)
        assert await stores.jobs.finish("job", 1, JobState.SUCCEEDED, result="/v1/results/1")
        before = await stores.jobs.get("job")
        assert before.result == "/v1/results/1"
        assert before.finished_at is not None
        assert not await stores.jobs.record("job", 1, "pair", b"late")
        assert not await stores.jobs.progress("job", 1, Progress(done=9))
        assert not await stores.jobs.finish("job", 1, JobState.FAILED, error={"title": "late"})
        assert await stores.jobs.begin("job") is None
        assert await stores.jobs.start_unit("job", "pair") == 0
        assert await stores.jobs.request_cancel("job") == before
        assert await stores.jobs.get("job") == before

    async def test_one_finish_wins(self, opener: Opener):
        """Of many racing ends exactly one is true, and its outcome is stored."""
        doors = [opener() for _ in range(3)]
        await begun(doors[0])
        won = await asyncio.gather(
            *(
                doors[i % 3].jobs.finish("job", 1, JobState.SUCCEEDED, result=str(i))
                for i in range(30)
            )
        )
        assert sum(won) == 1
        assert (await doors[0].jobs.get("job")).result == str(won.index(True))

    async def test_finish_takes_an_end(self, stores: Stores):
        """A state that is no end is a mistake of the caller."""
        await begun(stores)
        with pytest.raises(ValueError, match="running"):
            await stores.jobs.finish("job", 1, JobState.RUNNING)

    async def test_error_is_kept(self, stores: Stores):
        """The error of a failed job is stored as it is."""
        await begun(stores)
        problem = {"title": "ü", "items": [{"name": "1.png", "reason": None}], "empty": []}
        assert await stores.jobs.finish("job", 1, JobState.FAILED, error=problem)
        assert (await stores.jobs.get("job")).error == problem


class TestUnits:
    async def test_records_in_order(self, stores: Stores):
        """Checkpoints come in the order of their keys; the last value of a key counts."""
        await begun(stores)
        names = [f"x/{i:03} ü.png" for i in range(200)]
        for name in reversed(names):
            assert await stores.jobs.record("job", 1, name, name.encode())
        assert await stores.jobs.record("job", 1, names[0], b"\x00new")
        kept = [pair async for pair in stores.jobs.records("job")]
        assert [key for key, _ in kept] == names
        assert kept[0][1] == b"\x00new"
        assert kept[-1][1] == names[-1].encode()
        assert await stores.jobs.recorded("job") == set(names)

    async def test_records_survive_attempts(self, stores: Stores):
        """A later attempt finds the checkpoints of the earlier ones."""
        await begun(stores)
        await stores.jobs.record("job", 1, "pair", b"value")
        await stores.jobs.begin("job")
        assert [pair async for pair in stores.jobs.records("job")] == [("pair", b"value")]

    async def test_starts_are_counted(self, opener: Opener):
        """Racing starts of a unit are counted one by one."""
        doors = [opener() for _ in range(3)]
        await begun(doors[0])
        counts = await asyncio.gather(
            *(doors[i % 3].jobs.start_unit("job", "pair") for i in range(12))
        )
        assert sorted(counts) == list(range(1, 13))
        assert await doors[0].jobs.unit_starts("job", "pair") == 12
        assert await doors[0].jobs.unit_starts("job", "other") == 0

    async def test_release_takes_back(self, stores: Stores):
        """A released start is not counted; there is nothing below zero."""
        await begun(stores)
        assert await stores.jobs.start_unit("job", "pair") == 1
        for _ in range(2):
            await stores.jobs.release_unit("job", "pair")
        assert await stores.jobs.unit_starts("job", "pair") == 0
        assert await stores.jobs.start_unit("job", "pair") == 1

    async def test_nothing_to_start(self, stores: Stores):
        """A recorded unit, a cancelled job and a queued job give nothing to start."""
        await stores.jobs.create(job())
        assert await stores.jobs.start_unit("job", "pair") == 0
        await stores.jobs.begin("job")
        assert await stores.jobs.start_unit("job", "pair") == 1
        await stores.jobs.record("job", 1, "pair", b"")
        assert await stores.jobs.start_unit("job", "pair") == 0
        await stores.jobs.request_cancel("job")
        assert await stores.jobs.start_unit("job", "other") == 0


class TestCancel:
    async def test_queued(self, stores: Stores):
        """A queued job is cancelled at once."""
        await stores.jobs.create(job())
        cancelled = await stores.jobs.request_cancel("job")
        assert cancelled.state is JobState.CANCELLED
        assert cancelled.finished_at is not None
        assert await stores.jobs.unfinished() == []

    async def test_running(self, stores: Stores):
        """A running job is marked; its attempt ends it."""
        await begun(stores)
        marked = await stores.jobs.request_cancel("job")
        assert (marked.state, marked.cancel_requested) == (JobState.RUNNING, True)
        assert await stores.jobs.finish("job", 1, JobState.CANCELLED)

    async def test_dead(self, stores: Stores):
        """A marked job whose worker died is cancelled by the next begin."""
        await begun(stores)
        await stores.jobs.request_cancel("job")
        assert await stores.jobs.begin("job") is None
        assert (await stores.jobs.get("job")).state is JobState.CANCELLED


class TestAwaitingLabels:
    async def test_round_trip(self, stores: Stores):
        """A job that awaits labels is neither final nor to be run, until it is resumed."""
        await begun(stores)
        await stores.jobs.record("job", 1, "pair", b"kept")
        assert await stores.jobs.finish("job", 1, JobState.AWAITING_LABELS)
        assert await stores.jobs.begin("job") is None
        assert await stores.jobs.unfinished() == []
        assert not await stores.jobs.record("job", 1, "pair", b"late")
        assert (await stores.jobs.get("job")).finished_at is None
        assert (await stores.jobs.resume("job")).state is JobState.QUEUED
        assert [j.id for j in await stores.jobs.unfinished()] == ["job"]
        again = await stores.jobs.begin("job")
        assert again is not None
        assert again.attempt == 2
        assert await stores.jobs.recorded("job") == {"pair"}

    async def test_others_are_unchanged(self, stores: Stores):
        """Resuming a running job changes nothing."""
        running = await begun(stores)
        assert await stores.jobs.resume("job") == running

    async def test_cancel(self, stores: Stores):
        """A job that awaits labels is cancelled at once."""
        await begun(stores)
        await stores.jobs.finish("job", 1, JobState.AWAITING_LABELS)
        assert (await stores.jobs.request_cancel("job")).state is JobState.CANCELLED


class TestWatch:
    async def test_until_the_end(self, opener: Opener):
        """A watcher sees the present, later changes of another process, and ends with the end."""
        watched, other = opener(), opener()
        await watched.jobs.create(job())
        seen: list[Job] = []
        news = asyncio.Event()

        async def watch() -> None:
            async for change in watched.jobs.watch("job"):
                seen.append(change)
                news.set()

        async def until(is_seen: Callable[[Job], bool]) -> None:
            while not seen or not is_seen(seen[-1]):
                await news.wait()
                news.clear()

        watcher = asyncio.create_task(watch())
        async with asyncio.timeout(60):
            await until(lambda j: j.state is JobState.QUEUED)
            await other.jobs.begin("job")
            await other.jobs.progress("job", 1, Progress(done=3, total=5, unit="pairs"))
            await until(lambda j: j.progress.done == 3)
            await other.jobs.finish("job", 1, JobState.SUCCEEDED, result="r")
            await watcher
        assert seen[0].state is JobState.QUEUED
        assert seen[-1].state is JobState.SUCCEEDED
        assert seen[-1].progress == Progress(done=3, total=5, unit="pairs")

    async def test_final(self, stores: Stores):
        """Watching a final job gives it once."""
        await stores.jobs.create(job())
        await stores.jobs.request_cancel("job")
        assert [j.state async for j in stores.jobs.watch("job")] == [JobState.CANCELLED]


class TestLists:
    async def test_unfinished_oldest_first(self, stores: Stores):
        """Queued and running jobs are listed, the oldest first; ended ones are not."""
        for second in (3, 1, 2, 0):
            await stores.jobs.create(job(f"j{second}", second=second))
        await stores.jobs.begin("j2")
        await stores.jobs.request_cancel("j0")
        assert [j.id for j in await stores.jobs.unfinished()] == ["j1", "j2", "j3"]

    async def test_expire(self, stores: Stores):
        """Only final jobs that ended before the time go, with their checkpoints."""
        await begun(stores, "ended")
        await stores.jobs.record("ended", 1, "pair", b"")
        await stores.jobs.finish("ended", 1, JobState.SUCCEEDED)
        await begun(stores, "running")
        now = datetime.now(UTC)
        assert await stores.jobs.expire(now - timedelta(minutes=1)) == []
        assert await stores.jobs.expire(now + timedelta(minutes=1)) == ["ended"]
        with pytest.raises(NotFound):
            await stores.jobs.get("ended")
        assert await stores.jobs.recorded("ended") == set()
        assert [j.id for j in await stores.jobs.unfinished()] == ["running"]

    async def test_pending(self, stores: Stores):
        """Queued, running and awaiting jobs of a kind, the newest first; final ones are not."""
        for second, name in enumerate(("queued", "running", "awaiting", "ended", "cancelled")):
            await stores.jobs.create(job(name, second=second))
        other = job("upscale", second=9).model_copy(update={"kind": "upscale"})
        await stores.jobs.create(other)
        for name in ("running", "awaiting", "ended"):
            await stores.jobs.begin(name)
        await stores.jobs.finish("awaiting", 1, JobState.AWAITING_LABELS)
        await stores.jobs.finish("ended", 1, JobState.SUCCEEDED)
        await stores.jobs.request_cancel("cancelled")
        listed = [j.id for j in await stores.jobs.pending("calibration")]
        assert listed == ["awaiting", "running", "queued"]
        assert [j.id for j in await stores.jobs.pending("upscale")] == ["upscale"]
        assert [j.id for j in await stores.jobs.unfinished()] == ["queued", "running", "upscale"]
        await stores.jobs.resume("awaiting")
        assert "awaiting" in [j.id for j in await stores.jobs.unfinished()]
        await stores.jobs.request_cancel("awaiting")
        listed = [j.id for j in await stores.jobs.pending("calibration")]
        assert listed == ["running", "queued"]
