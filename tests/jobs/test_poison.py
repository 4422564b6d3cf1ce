"""Workers die at tasks: two deaths, and it runs alone; four more alone, and it is poison."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from app.jobs.runner import DEATHS_ALONE
from app.stores.base import JobState, Stores
from tests.jobs.conftest import Place, ended
from tests.jobs.work import lines, sleep_in_one_piece
from tests.waiting import until


async def died(stores: Stores, times: int, *tasks: tuple[str, str], alone: bool = False) -> None:
    for number in range(times):
        for job, task in tasks:
            name = f"dead{number}{alone}"
            assert await stores.jobs.start(job, task, name, alone=alone) is not None


@pytest.mark.parametrize("deaths", [1, 2])
async def test_alone_after_two(place: Place, stores: Stores, deaths: int):
    """A job at which two workers died runs alone, ends, and is forgiven; after one it does not."""
    names = ("a", "hit", "b")
    for name in names:
        await stores.jobs.create(place.job(name, waits=True))
    await died(stores, deaths, ("hit", ""))
    async with place.working(stores, slots=3):
        # Behind the gate all of them are seen beside each other.
        await until(lambda: place.starts().total() >= (3 if deaths == 1 else 1))
        place.gate.touch()
        for name in names:
            assert (await ended(stores, name)).state is JobState.SUCCEEDED
    done = [line.split()[0] for line in lines(place.log)]
    assert deaths == 1 or done.index("hit-ended") == done.index("hit") + 1


async def test_poison(place: Place, stores: Stores):
    """The task that killed its workers alone is named; what was hit beside others goes on."""
    for job in (place.job("c", pairs=4), place.job("u"), place.job("v"), place.job("alone")):
        await stores.jobs.create(job)
    await died(stores, 2, ("c", "pair0002"), ("c", "pair0001"), ("u", ""), ("alone", ""))
    await died(stores, DEATHS_ALONE, ("c", "pair0002"), ("alone", ""), alone=True)
    await died(stores, DEATHS_ALONE - 1, ("v", ""), alone=True)  # by chance
    async with place.working(stores):
        pair, whole = await ended(stores, "c"), await ended(stores, "alone")
        for name in "uv":
            assert (await ended(stores, name)).state is JobState.SUCCEEDED
    assert (pair.state, whole.state) == (JobState.FAILED, JobState.FAILED)
    assert pair.error is not None
    assert pair.error["items"] == [{"name": "pair0002", "reason": "its worker died each time"}]
    assert "died 6 times while working on pair0002, at last" in pair.error["detail"]
    assert whole.error is not None
    assert "its worker died 6 times, at last" in whole.error["detail"]
    assert not {"pair0002", "alone"} & place.starts().keys()


@pytest.mark.servers
async def test_the_living_have_not_died(redis_place: Place, stores: Stores):
    """Who is alive and at a task has only slept: that condemns nothing."""
    place, names = redis_place, []
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        for _ in range(DEATHS_ALONE + 1):
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
            await stores.jobs.start("u", "", name, alone=True)
        async with place.worker(queue, stores):
            assert (await ended(stores, "u")).state is JobState.SUCCEEDED
