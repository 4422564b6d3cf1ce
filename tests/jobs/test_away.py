"""What a job needs is away: it waits in the queue, not in a slot, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.errors import TimedOut, UpscalerUnavailable
from app.jobs.handlers import JobContext
from app.jobs.runner import RetryPolicy
from app.stores.base import Job, JobState, Stores, StoreUnavailable
from app.upscalers.remote.errors import BadCredentials
from tests.jobs.conftest import EAGER, Place, ended

STORE = StoreUnavailable("The folder cannot be used now: Not a directory.", retry_after=0.0)
UPSCALER = UpscalerUnavailable("It restarts.", retry_after=0.0)


class Failing:
    """Draws samples, and raises an error while it is `away`, by the number of the run."""

    def __init__(self, error: Exception, away: Callable[[int], bool], *, drawn: int = 4) -> None:
        self.error = error
        self.away = away
        self.drawn = drawn
        self.runs = 0

    async def __call__(self, job: Job, context: JobContext) -> str:
        if job.id != "u":
            return "another"
        self.runs += 1
        await context.progress(self.drawn, 4)
        if self.away(self.runs):
            raise self.error
        return f"/v1/results/{job.id}"


@pytest.mark.parametrize(("error", "drawn"), [(STORE, 4), (STORE, 0), (UPSCALER, 0)])
async def test_for_a_while(place: Place, stores: Stores, error: Exception, drawn: int):
    """What comes back in time loses no job."""
    handler = Failing(error, lambda run: run < 4, drawn=drawn)
    async with place.working(stores, settings={"policy": EAGER}, upscale=handler) as queue:
        await queue.submit(place.job("u"))
        assert (await ended(stores, "u")).state is JobState.SUCCEEDED
    assert handler.runs == 4


@pytest.mark.parametrize(
    ("error", "words"),
    [(STORE, "its result could not be stored for"), (UPSCALER, "It restarts.")],
)
async def test_not_for_ever(place: Place, stores: Stores, error: Exception, words: str):
    """What stays away without any progress fails the job, which says why."""
    handler, policy = Failing(error, lambda _: True), replace(EAGER, away_s=0.3)
    async with place.working(stores, settings={"policy": policy}, upscale=handler) as queue:
        await queue.submit(place.job("u"))
        job = await ended(stores, "u")
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert words in job.error["detail"]
    assert handler.runs >= 2


@pytest.mark.parametrize("error", [STORE, UPSCALER])
async def test_it_holds_no_slot(place: Place, stores: Stores, error: Exception):
    """While it waits it is queued, others run in its slot, and it can be cancelled at once."""
    handler, policy = Failing(error, lambda _: True), RetryPolicy(first_s=3600.0)
    settings = {"policy": policy}
    async with place.working(stores, settings=settings, slots=1, upscale=handler) as queue:
        for name in ("u", "v"):
            await queue.submit(place.job(name))
        assert (await ended(stores, "v")).result == "another"
        waiting = await stores.jobs.get("u")
        assert (waiting.state, handler.runs) == (JobState.QUEUED, 1)
        assert waiting.away_since is not None
        assert (await queue.cancel("u")).state is JobState.CANCELLED


@pytest.mark.parametrize("error", [BadCredentials("The token is wrong."), TimedOut("Too slow.")])
async def test_where_waiting_does_nothing(place: Place, stores: Stores, error: Exception):
    """What only the operator can mend, or has had its time, fails the job at once."""
    handler = Failing(error, lambda _: True)
    async with place.working(stores, settings={"policy": EAGER}, upscale=handler) as queue:
        await queue.submit(place.job("u"))
        assert (await ended(stores, "u")).state is JobState.FAILED
    assert handler.runs == 1


@pytest.mark.parametrize(("away_s", "state"), [(600.0, "succeeded"), (0.0, "failed")])
async def test_a_pair(place: Place, stores: Stores, away_s: float, state: str):
    """A pair goes back to the queue, too."""
    settings = {"policy": replace(EAGER, away_s=away_s)}
    async with place.working(stores, settings=settings) as queue:
        await queue.submit(place.job("c", pairs=2, away="pair0000"))
        assert (await ended(stores, "c")).state == state


async def test_progress_forgives(stores: Stores, place: Place):
    """The time that something was away is counted since the last progress."""
    await stores.jobs.create(place.job("c", pairs=2))
    await stores.jobs.start("c", "pair0000", "ann")
    await stores.jobs.end("c", "pair0000", away=True)
    first = (await stores.jobs.get("c")).away_since
    assert first is not None
    await stores.jobs.end("c", "pair0000", away=True)
    assert (await stores.jobs.get("c")).away_since == first
    await stores.jobs.record("c", "pair0001", b"")
    assert (await stores.jobs.get("c")).away_since is None
