"""What dying workers, a wrong clock or a damaged job must not do to the others."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing

import pytest
import redis

from harness.waiting import until
from harness.work import lines, sleep_in_one_piece
from tests.jobs.conftest import ended
from trustscale_server.jobs.tasks import DEATHS_ALONE
from trustscale_server.stores.job_status import JobState


def change(place, statement, *command):
    """Change what the store holds behind its back: by SQL, or by a command of Redis."""
    if place.store_url.startswith("redis"):
        with redis.Redis.from_url(place.store_url) as client:
            client.execute_command(*command)
        return
    database = place.folder / "data" / "trustscale.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_an_unreadable_job(place, stores, caplog):
    for name in ("broken", "whole"):
        await stores.jobs.create(place.job(name))
    change(
        place,
        "UPDATE document SET value = X'7B' WHERE (folder, name) = ('jobs', 'broken')",
        *("HSET", "trustscale:documents:jobs", "broken", "1 {"),
    )
    assert (await stores.jobs.pending_by_client("upscale")).total() == 2  # nothing is read to count
    async with place.working(stores) as queue:
        assert (await ended(stores, "whole")).state is JobState.SUCCEEDED
        await queue.submit(place.job("later"))
        assert (await ended(stores, "later")).state is JobState.SUCCEEDED
    assert "The job broken in" in caplog.text


async def died(stores, times, *tasks, alone=False):
    for number in range(times):
        for job, task in tasks:
            name = f"dead{number}{alone}"
            assert await stores.jobs.start(job, task, name, alone=alone) is not None


@pytest.mark.parametrize("deaths", [1, 2])
async def test_alone_after_two(place, stores, deaths):
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


async def test_poison(place, stores):
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
    assert pair.error["items"] == [{"name": "pair0002", "reason": "its worker died each time"}]
    assert "died 6 times while working on pair0002, at last" in pair.error["detail"]
    assert "its worker died 6 times, at last" in whole.error["detail"]
    assert not {"pair0002", "alone"} & place.starts().keys()


@pytest.mark.servers
async def test_the_living_have_not_died(redis_place, stores):
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
