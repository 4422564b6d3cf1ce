"""Somebody has died in the act of a piece; what else was under way is not to blame."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.jobs.acts import Patience
from app.stores.base import JobState, Stores
from tests.jobs.conftest import AT_ONCE, Place, ended, memory_place
from tests.jobs.work import lines, sleep_in_one_piece
from tests.waiting import PATIENCE_S, until


async def died(stores: Stores, times: int, *pieces: tuple[str, str]) -> None:
    for number in range(times):
        for job, unit in pieces:
            assert await stores.jobs.start(job, unit, f"dead{number}") is not None


async def test_a_job_is_alone(place: Place, stores: Stores):
    """A job in whose act somebody died runs alone, ends, and is forgiven."""
    names = ("a", "suspect", "b")
    for name in names:
        await stores.jobs.create(place.job(name, waits=True))
    await died(stores, 2, ("suspect", ""))
    async with place.working(stores, slots=3):
        await until(lambda: place.starts().total() > 0)
        place.gate.touch()
        for name in names:
            assert (await ended(stores, name)).state is JobState.SUCCEEDED
    done = [line.split()[0] for line in lines(place.log)]
    assert done.index("suspect-ended") == done.index("suspect") + 1


async def test_the_third_death(place: Place, stores: Stores):
    """The piece in whose act three have died is named; one beside it goes on until then."""
    for job in (place.job("c", pairs=4), place.job("u")):
        await stores.jobs.create(job)
    await died(stores, 3, ("c", "pair0002"))
    await died(stores, 2, ("c", "pair0001"), ("u", ""))
    async with place.working(stores, patience=AT_ONCE):
        failed, upscaled = await ended(stores, "c"), await ended(stores, "u")
    assert (failed.state, upscaled.state) == (JobState.FAILED, JobState.SUCCEEDED)
    assert failed.error is not None
    assert failed.error["items"] == [{"name": "pair0002", "reason": "its worker died each time"}]
    assert "pair0002" not in place.starts()


@pytest.mark.parametrize(
    ("times", "elsewhere", "state"),
    [
        (3, 1, JobState.SUCCEEDED),
        (5, 3, JobState.SUCCEEDED),
        (5, 2, JobState.FAILED),
        (6, 9, JobState.FAILED),
    ],
)
async def test_deaths_elsewhere(tmp_path: Path, stores: Stores, times, elsewhere, state):
    """Each worker that died without the piece gives it another try, three at most."""
    place = memory_place(tmp_path)
    for job in (place.job("hit"), place.job("other", pairs=9)):
        await stores.jobs.create(job)
    await died(stores, times, ("hit", ""))
    for number in range(elsewhere):
        unit = f"pair{number:04}"
        assert await stores.jobs.start("other", unit, f"elsewhere{number}") is not None
    async with place.working(stores, patience=AT_ONCE):
        assert (await ended(stores, "hit")).state is state
        assert (await ended(stores, "other")).state is JobState.SUCCEEDED


async def test_it_stands_back(place: Place, stores: Stores):
    """A piece that is about to be given up waits for a worker to die without it, and runs."""
    for name in ("hit", "other"):
        await stores.jobs.create(place.job(name))
    await died(stores, 3, ("hit", ""))
    async with place.working(stores, patience=Patience(verdict_s=3600.0, answer_s=PATIENCE_S)):
        assert (await ended(stores, "other")).state is JobState.SUCCEEDED
        assert not (await stores.jobs.get("hit")).state.is_final
        await stores.jobs.create(place.job("killed"))
        assert await stores.jobs.start("killed", "", "elsewhere") is not None
        assert (await ended(stores, "hit")).state is JobState.SUCCEEDED


@pytest.mark.servers
async def test_the_living_have_not_died(redis_place: Place, stores: Stores):
    """Who is alive and in the act of a piece only slept: that condemns nothing."""
    place, names = redis_place, []
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        for _ in range(3):
            other = await stack.enter_async_context(place.queue(stores))
            task = asyncio.create_task(other.run({"calibration": sleep_in_one_piece}, stop=stop))
            stack.push_async_callback(lambda task=task: asyncio.wait({task}))
            stack.callback(stop.set)
            names.append(other.owner)
        queue = await stack.enter_async_context(place.queue(stores))
        async with asyncio.timeout(60):
            while not set(names) <= (await queue.living() or set()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await stores.jobs.create(place.job("u"))
        for name in names:
            await stores.jobs.start("u", "", name)
        async with place.worker(queue, stores):
            assert (await ended(stores, "u")).state is JobState.SUCCEEDED
