"""How work is begun, given up, and put off while an upscaler is away."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from harness.waiting import PATIENCE_S
from harness.work import new_job
from tests.clock import LoopClock
from tests.jobs.conftest import EAGER, ended
from trustscale_server.jobs.exclusive import ExclusiveLock
from trustscale_server.jobs.supervisor import (
    Interrupted,
    JobCancelled,
    JobEndedElsewhere,
    Supervisor,
)
from trustscale_server.jobs.tasks import TaskRetryPolicy
from trustscale_server.platform.errors import (
    NotFound,
    TimedOut,
    TrustscaleError,
    UpscalerUnavailable,
)
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JobState
from trustscale_server.upscalers.failures import BadCredentials


async def test_turns_alone():
    """Tasks run side by side; those that must be alone run first, one after the other."""
    turns, running, together = ExclusiveLock(), set(), []

    async def task(name):
        async with turns.take(alone=name.isupper()):
            running.add(name)
            together.append(frozenset(running))
            for _ in range(10):  # turns of the loop, in which all come in that may
                await asyncio.sleep(0)
            running.remove(name)

    await asyncio.gather(*map(task, "abScTd"))
    assert frozenset("ab") in together
    assert [group for group in together if group & set("ST")] == [{"S"}, {"T"}]
    assert frozenset("cd") in together


async def test_a_cancelled_wait_holds_nobody_up():
    turns = ExclusiveLock()
    async with turns.take(alone=False):
        waits = asyncio.create_task(turns.take(alone=True).__aenter__())
        await asyncio.sleep(0)
        waits.cancel()
        with suppress(asyncio.CancelledError):
            await waits
        async with asyncio.timeout(PATIENCE_S), turns.take(alone=False):
            pass


@pytest.fixture
async def stores(stores, tmp_path):
    """With a running job."""
    await stores.jobs.create(new_job("u", "upscale", tmp_path / "log"))
    await stores.jobs.start("u", "", "ann")
    return stores


def supervisor(stores, patience_s=1.0):
    return Supervisor(stores.jobs, patience_s=patience_s, lease_s=60.0)


class TestSupervisor:
    @pytest.mark.parametrize(
        ("end", "reason"), [("finish", JobEndedElsewhere), ("request", JobCancelled)]
    )
    async def test_fails_after_the_end(self, stores, end, reason):
        """Work that fails once its job has ended, or is to, is no failure: its uploads are gone."""

        async def without_uploads():
            if end == "finish":
                await stores.jobs.finish("u", JobState.CANCELLED)
            else:
                await stores.jobs.request_cancel("u")
            raise NotFound("There is no file 'image' of job u.")

        with pytest.raises(reason):
            await supervisor(stores).run("u", without_uploads())

    async def test_insists_with_patience(self, stores):
        calls = 0

        async def away(times):
            nonlocal calls
            calls += 1
            if calls <= times:
                raise StoreUnavailable("It is away.")
            return calls

        assert await supervisor(stores, patience_s=600).insist(lambda: away(2)) == 3
        with pytest.raises(StoreUnavailable):
            await supervisor(stores, patience_s=0.05).insist(lambda: away(100))

    async def test_error_of_the_work(self, stores):
        """An error of the work arrives as it is; one that came while the process slept does not."""

        async def fails():
            raise TrustscaleError("It failed.")

        clock = LoopClock()

        async def sleeps_and_fails():
            clock.jump(120)  # as that of a process that is stopped does
            raise TrustscaleError("It ran into its time-out.")

        with pytest.raises(TrustscaleError, match="It failed"):
            await supervisor(stores).run("u", fails())
        with pytest.raises(Interrupted):
            await supervisor(stores).run("u", sleeps_and_fails())


STORE = StoreUnavailable("The folder cannot be used now: Not a directory.", retry_after=0.0)
UPSCALER = UpscalerUnavailable("It restarts.", retry_after=0.0)


class Failing:
    """Draws samples, and raises an error while it is `away`, by the number of the run."""

    def __init__(self, error, away, *, drawn=4):
        self.error = error
        self.away = away
        self.drawn = drawn
        self.runs = 0

    async def __call__(self, job, context):
        if job.id != "u":
            return "another"
        self.runs += 1
        await context.progress(self.drawn, 4)
        if self.away(self.runs):
            raise self.error
        return f"/v1/results/{job.id}"


@pytest.mark.parametrize(("error", "drawn"), [(STORE, 4), (STORE, 0), (UPSCALER, 0)])
async def test_for_a_while(place, stores, error, drawn):
    handler = Failing(error, lambda run: run < 4, drawn=drawn)
    async with place.working(stores, settings={"policy": EAGER}, upscale=handler) as queue:
        await queue.submit(place.job("u"))
        assert (await ended(stores, "u")).state is JobState.SUCCEEDED
    assert handler.runs == 4


@pytest.mark.parametrize(
    ("error", "is_tried_again", "words"),
    [(STORE, True, "its result could not be stored for"), (UPSCALER, True, "It restarts."),
     (BadCredentials("The token is wrong."), False, "The token is wrong."),
     (TimedOut("Too slow."), False, "Too slow.")],
)  # fmt: skip
async def test_not_for_ever(place, stores, error, is_tried_again, words):
    """What only the operator can mend, or has had its time, fails the job at once."""
    handler, policy = Failing(error, lambda _: True), replace(EAGER, away_s=0.3)
    async with place.working(stores, settings={"policy": policy}, upscale=handler) as queue:
        await queue.submit(place.job("u"))
        job = await ended(stores, "u")
    assert job.state is JobState.FAILED
    assert words in job.error["detail"]
    assert (handler.runs > 1) == is_tried_again


@pytest.mark.parametrize("error", [STORE, UPSCALER])
async def test_it_holds_no_slot(place, stores, error):
    handler, policy = Failing(error, lambda _: True), TaskRetryPolicy(first_s=3600.0)
    settings = {"policy": policy}
    async with place.working(stores, settings=settings, slots=1, upscale=handler) as queue:
        for name in ("u", "v"):
            await queue.submit(place.job(name))
        assert (await ended(stores, "v")).result == "another"
        waiting = await stores.jobs.get("u")
        assert (waiting.state, handler.runs) == (JobState.QUEUED, 1)
        assert waiting.dependency_down_since is not None
        assert (await queue.cancel("u")).state is JobState.CANCELLED


async def test_progress_forgives(stores, place):
    """The time that something was away is counted since the last progress."""
    await stores.jobs.create(place.job("c", pairs=2))
    await stores.jobs.start("c", "pair0000", "ann")
    await stores.jobs.end("c", "pair0000", away=True)
    first = (await stores.jobs.get("c")).dependency_down_since
    assert first is not None
    await stores.jobs.end("c", "pair0000", away=True)
    assert (await stores.jobs.get("c")).dependency_down_since == first
    await stores.jobs.record("c", "pair0001", b"")
    assert (await stores.jobs.get("c")).dependency_down_since is None
