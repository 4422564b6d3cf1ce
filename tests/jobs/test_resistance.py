"""What a wrong clock or a damaged job must not do to the others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import redis
import time_machine

from app.errors import NotFound
from app.stores.base import JobState, Stores
from tests.jobs.conftest import Place, ended
from tests.waiting import until


def change(place: Place, statement: str, *command: str) -> None:
    """Change what the store holds behind its back: by SQL, or by a command of Redis."""
    if place.store_url.startswith("redis"):
        with redis.Redis.from_url(place.store_url) as client:
            client.execute_command(*command)
        return
    database = place.folder / "data" / "trustscale.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.slow
async def test_a_clock_set_back(place: Place, stores: Stores):
    """What a dead worker left running is taken over as soon with the clock set back by two hours.

    Leases are durations, not times of day.
    """
    place.lease_s = 5.0
    worker = place.start_worker()
    async with place.queue(stores) as queue:
        await queue.submit(place.job("u", waits=True))
        await until(lambda: place.starts()["u"] == 1)
        worker.kill()
        place.gate.touch()
        assert (await stores.jobs.get("u")).state is JobState.RUNNING
        before = datetime.now(UTC) - timedelta(hours=2)
        with time_machine.travel(before):
            async with place.worker(queue, stores):
                job = await ended(stores, "u")
    assert job.state is JobState.SUCCEEDED
    assert job.finished_at is not None
    assert job.finished_at < before + timedelta(hours=1)
    assert place.starts() == {"u": 2, "u-ended": 1}


async def test_an_unreadable_job(place: Place, stores: Stores, caplog: pytest.LogCaptureFixture):
    """It is logged and counted; the worker goes on with the other jobs, and with later ones."""
    for name in ("broken", "whole"):
        await stores.jobs.create(place.job(name))
    change(
        place,
        "UPDATE document SET value = X'7B' WHERE (folder, name) = ('jobs', 'broken')",
        *("HSET", "trustscale:documents:jobs", "broken", "1 {"),
    )
    assert await stores.jobs.count_pending("upscale") == 2  # nothing is read to count
    async with place.working(stores) as queue:
        assert (await ended(stores, "whole")).state is JobState.SUCCEEDED
        await queue.submit(place.job("later"))
        assert (await ended(stores, "later")).state is JobState.SUCCEEDED
    assert "The job broken in" in caplog.text


async def test_looks_leave_the_request_alone(place: Place, stores: Stores):
    """Whoever only asks how a job does reads no request, which may be a megabyte."""
    await stores.jobs.create(place.job("u"))
    change(
        place,
        "DELETE FROM document WHERE folder = 'job-requests'",
        *("DEL", "trustscale:documents:job-requests"),
    )
    with pytest.raises(NotFound):
        await stores.jobs.load("u")
    status = await stores.jobs.get("u")
    assert await stores.jobs.pending("upscale") == await stores.jobs.unfinished() == [status]
    assert await stores.jobs.start("u", "", "ann") is not None
    await stores.jobs.request_cancel("u")
    assert await stores.jobs.finish("u", JobState.CANCELLED)
    assert [job.state async for job in stores.jobs.watch("u")] == [JobState.CANCELLED]
