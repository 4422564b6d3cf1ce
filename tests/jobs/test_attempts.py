"""What becomes of a job whose result cannot be stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.jobs.acts import Patience
from app.jobs.handlers import JobContext
from app.jobs.queue import JobQueue
from app.stores.base import Job, JobState, Stores, StoreUnavailable
from tests.jobs.conftest import Place, ended
from tests.waiting import until


class Generating:
    """Draws samples, and stores them unless the store is `away`, by the number of the run."""

    def __init__(self, away: Callable[[int], bool], *, drawn: int = 4) -> None:
        self.away = away
        self.drawn = drawn
        self.runs = 0

    async def __call__(self, job: Job, context: JobContext) -> str:
        self.runs += 1
        await context.progress(self.drawn, 4)
        if self.away(self.runs):
            raise StoreUnavailable("The results folder cannot be used now: Not a directory.")
        return f"/v1/results/{job.id}"


@asynccontextmanager
async def generating(
    place: Place, stores: Stores, handler: Generating, waits: tuple[float, float] = (0.1, 0.3)
) -> AsyncIterator[JobQueue]:
    """A worker at one job; what goes back is submitted again ten times a second."""
    patience = Patience(store_waits_s=waits)
    async with place.working(stores, patience=patience, drain_s=0.1, upscale=handler) as queue:
        over = asyncio.Event()

        async def resend() -> None:
            while not over.is_set():  # a worker does it twice per lease
                await asyncio.sleep(0.1)
                for job in await stores.jobs.unfinished():
                    await queue.submit(await stores.jobs.load(job.id))

        await queue.submit(place.job("u"))
        resending = asyncio.create_task(resend())
        try:
            yield queue
        finally:
            over.set()  # not cancelled: redis-py may lose that
            await resending


async def test_given_up(place: Place, stores: Stores):
    """A job that generates for nothing is given up after three times, and says why."""
    handler = Generating(lambda _: True)
    async with generating(place, stores, handler):
        job = await ended(stores, "u")
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["detail"] == (
        "The job was given up: its result could not be stored 3 times. The results folder "
        "cannot be used now: Not a directory."
    )
    assert handler.runs == 3


@pytest.mark.parametrize(("runs", "drawn"), [(3, 4), (6, 0)])
async def test_away_for_a_while(place: Place, stores: Stores, runs: int, drawn: int):
    """A store that comes back in time loses no job; runs that could not begin are not counted."""
    handler = Generating(lambda run: run < runs, drawn=drawn)
    async with generating(place, stores, handler):
        assert (await ended(stores, "u")).state is JobState.SUCCEEDED
    assert handler.runs == runs


@pytest.mark.parametrize(
    ("is_cancelled", "state"), [(True, JobState.CANCELLED), (False, JobState.QUEUED)]
)
async def test_while_it_waits(place: Place, stores: Stores, is_cancelled: bool, state: JobState):
    """A job that waits for the store is cancelled, or given back, as fast as any."""
    handler = Generating(lambda _: True)
    async with generating(place, stores, handler, (3600, 3600)) as queue:
        await until(lambda: handler.runs == 1)
        if is_cancelled:
            await queue.cancel("u")
            await ended(stores, "u")
    assert (await stores.jobs.get("u")).state is state
    assert handler.runs == 1
