"""What becomes of a job whose result cannot be stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.jobs.acts import Patience
from app.jobs.handlers import Handler, JobContext
from app.jobs.queue import JobQueue
from app.stores.base import Job, JobState, Stores, StoreUnavailable
from app.upscalers.remote.errors import BadCredentials
from tests.jobs.conftest import Place, ended
from tests.jobs.work import SleepingPairs, new_job, note, starts
from tests.waiting import until

Away = Callable[[], bool]


class Generating:
    """Draws samples, whose count it keeps, and stores them unless the store is away."""

    def __init__(self, away: Away, *, drawn: int = 4) -> None:
        self.away = away
        self.drawn = drawn
        self.runs = 0

    async def __call__(self, job: Job, context: JobContext) -> str:
        self.runs += 1
        await context.progress(self.drawn, 4)
        if self.away():
            raise StoreUnavailable("The results folder cannot be used now: Not a directory.")
        return f"/v1/results/{job.id}"


@asynccontextmanager
async def working(
    place: Place, stores: Stores, handler: Handler, waits: tuple[float, float] = (0.1, 0.3)
) -> AsyncIterator[JobQueue]:
    """A worker with this handler; what goes back is submitted again ten times a second."""
    stop = asyncio.Event()
    async with place.queue(stores, patience=Patience(store_waits_s=waits)) as queue:

        async def resend() -> None:
            while not stop.is_set():  # a worker does it twice per lease
                await asyncio.sleep(0.1)
                for job in await stores.jobs.unfinished():
                    await queue.submit(await stores.jobs.load(job.id))

        run = asyncio.create_task(queue.run({"upscale": handler}, stop=stop, drain_s=0.1))
        resending = asyncio.create_task(resend())
        try:
            yield queue
        finally:
            stop.set()
            await asyncio.gather(run, resending)


class TestNotStored:
    async def test_given_up(self, place: Place, stores: Stores):
        """A job that generates for nothing is given up after three times, and says why."""
        handler = Generating(lambda: True)
        async with working(place, stores, handler) as queue:
            await queue.submit(new_job("u", "upscale", place.log))
            job = await ended(stores, "u")
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["detail"] == (
            "The job was given up: its result could not be stored 3 times. The results folder "
            "cannot be used now: Not a directory."
        )
        assert handler.runs == 3

    async def test_away_for_a_while(self, place: Place, stores: Stores):
        """A store that comes back in time loses no job."""
        handler = Generating(lambda: handler.runs < 3)
        async with working(place, stores, handler) as queue:
            await queue.submit(new_job("u", "upscale", place.log))
            assert (await ended(stores, "u")).state is JobState.SUCCEEDED
        assert handler.runs == 3

    async def test_nothing_generated(self, place: Place, stores: Stores):
        """Runs that could not even begin cost nothing and are not counted."""
        handler = Generating(lambda: handler.runs < 6, drawn=0)
        async with working(place, stores, handler) as queue:
            await queue.submit(new_job("u", "upscale", place.log))
            assert (await ended(stores, "u")).state is JobState.SUCCEEDED
        assert handler.runs == 6


class TestWaiting:
    async def test_can_be_cancelled(self, place: Place, stores: Stores):
        """A job that waits for the store is cancelled as fast as any."""
        handler = Generating(lambda: True)
        async with working(place, stores, handler, (3600, 3600)) as queue:
            await queue.submit(new_job("u", "upscale", place.log))
            await until(lambda: handler.runs == 1)
            await queue.cancel("u")
            assert (await ended(stores, "u")).state is JobState.CANCELLED
        assert handler.runs == 1

    async def test_goes_back_when_the_worker_stops(self, place: Place, stores: Stores):
        """A worker that stops gives the job back at once."""
        handler = Generating(lambda: True)
        async with working(place, stores, handler, (3600, 3600)) as queue:
            await queue.submit(new_job("u", "upscale", place.log))
            await until(lambda: handler.runs == 1)
        assert (await stores.jobs.get("u")).state is JobState.QUEUED


class Refused(SleepingPairs):
    """Pairs whose upscaler refuses the token."""

    async def unit(self, job: Job, unit: str) -> bytes:
        note(job, unit)
        raise BadCredentials("The token is wrong.")


async def test_a_refused_token(place: Place, stores: Stores):
    """Nobody waits for what only the operator can mend: the job fails, and says why."""
    async with place.queue(stores) as queue:
        handlers = {"calibration": Refused(stores)}
        async with place.working(queue, stores, handlers=handlers):
            await queue.submit(new_job("c", "calibration", place.log, pairs=1))
            job = await ended(stores, "c")
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "token" in job.error["detail"]
    assert starts(place.log) == {"pair0000": 1}
