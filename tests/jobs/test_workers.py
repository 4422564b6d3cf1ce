"""Worker processes on a real Redis: killed, poisoned, stopped, and sharing one job."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.stores.base import JobState, Stores
from tests.jobs.conftest import LEASE_S, Place, ended, until
from tests.jobs.work import lines, new_job, starts, workers

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# docket sweeps for abandoned messages every quarter of the lease, give or take.
TAKE_OVER_S = 1.4 * LEASE_S + 2


class TestKilled:
    @pytest.mark.parametrize("first_dies", [True, False])
    async def test_pairs_in_flight_at_most(
        self, redis_place: Place, stores: Stores, *, first_dies: bool
    ):
        """When a worker is killed, another ends the job and repeats its pairs in flight at most.

        It does not matter whether the killed one was the coordinator, which the first one is.
        """
        first = redis_place.start_worker(slots=2)
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("c", "calibration", redis_place.log, pairs=24, seconds=0.3))
            await until(lambda: len(lines(redis_place.log)) >= 2)
            second = redis_place.start_worker(slots=2)
            await until(lambda: len(workers(redis_place.log)) == 2)
            (first if first_dies else second).kill()
            job = await ended(stores, "c", within_s=30)
        assert job.state is JobState.SUCCEEDED
        assert job.attempt == (2 if first_dies else 1)
        done = starts(redis_place.log)
        assert sum(done.values()) <= 24 + 2 + 1  # 24 pairs, 2 in flight, 1 reduce
        assert done["reduce"] == 1

    async def test_upscale_is_taken_over(self, redis_place: Place, stores: Stores):
        """A job in one piece is run again within the lease and a few seconds."""
        first = redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, seconds=0.5))
            await until(lambda: starts(redis_place.log)["u"] == 1)
            first.kill()
            redis_place.start_worker()
            killed = time.monotonic()
            job = await ended(stores, "u")
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
        assert time.monotonic() - killed < TAKE_OVER_S + 1.5

    async def test_long_job_is_not_doubled(self, redis_place: Place, stores: Stores):
        """A healthy job much longer than the lease is started once."""
        redis_place.start_worker()
        redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, seconds=3 * LEASE_S))
            job = await ended(stores, "u")
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
        assert starts(redis_place.log)["u"] == 1


class TestPoison:
    async def test_job(self, redis_place: Place, stores: Stores):
        """A job that always kills its worker is given up after three attempts, and says so."""
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, kill=True))
            for _ in range(3):
                await redis_place.work_until_dead()
            redis_place.start_worker()
            job = await ended(stores, "u", within_s=TAKE_OVER_S)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "died 3 times" in job.error["detail"]
        assert starts(redis_place.log)["u"] == 3

    async def test_pair(self, redis_place: Place, stores: Stores):
        """A pair that kills its worker is named; the pairs beside it are done and not blamed."""
        async with redis_place.queue(stores) as queue:
            await queue.submit(
                new_job("c", "calibration", redis_place.log, pairs=8, kill="pair0002", seconds=0.3)
            )
            for _ in range(3):
                await redis_place.work_until_dead(slots=4)
            redis_place.start_worker(slots=4)
            job = await ended(stores, "c", within_s=TAKE_OVER_S)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "while working on pair0002." in job.error["detail"]
        assert starts(redis_place.log)["pair0002"] == 3


class TestFleet:
    async def test_two_are_faster_than_one(self, redis_place: Place, stores: Stores):
        """Two workers need about half the time of one for pairs that wait for an upscaler."""
        times = []
        async with redis_place.queue(stores) as queue:
            for count in (1, 2):
                redis_place.start_worker(slots=1)
                await asyncio.sleep(2)  # the programs start
                began = time.monotonic()
                name = f"c{count}"
                await queue.submit(
                    new_job(name, "calibration", redis_place.log, pairs=16, seconds=0.4)
                )
                assert (await ended(stores, name)).state is JobState.SUCCEEDED
                times.append(time.monotonic() - began)
        assert times[0] / times[1] > 1.6

    async def test_cancel_from_another_process(self, redis_place: Place, stores: Stores):
        """A job of another process is cancelled within two seconds."""
        redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, seconds=60))
            await until(lambda: starts(redis_place.log)["u"] == 1)
            await queue.cancel("u")
            assert (await ended(stores, "u", within_s=2)).state is JobState.CANCELLED

    async def test_terminated_worker_hands_over(self, redis_place: Place, stores: Stores):
        """After SIGTERM a long job goes on elsewhere at once, and the worker ends well."""
        first = redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, seconds=2.9))
            await until(lambda: starts(redis_place.log)["u"] == 1)
            redis_place.start_worker()
            await asyncio.sleep(0.3)
            assert await asyncio.to_thread(first.stop) == 0
            await until(lambda: starts(redis_place.log)["u"] == 2, within_s=2)
            assert (await ended(stores, "u")).state is JobState.SUCCEEDED
