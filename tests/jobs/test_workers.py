"""Worker processes on a real Redis: killed, poisoned, stopped, and sharing one job."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from app.api.gauges import observe_jobs
from app.jobs.queue import JobQueue
from app.jobs.runner import DEATHS, DEATHS_ALONE
from app.stores.base import JobState, Stores
from app.telemetry.metrics import Metrics
from tests.jobs.conftest import Place, ended
from tests.jobs.work import lines, workers
from tests.numbers import numbers_of
from tests.servers import ProcessGroup
from tests.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# Longer than a machine stalls, so that only the dead lose theirs (`Place.kill`). The living look
# for those four times per lease. One that is alone loses its lease to nobody.
LEASE_S = 20.0
LEASE_ALONE_S = 2.0


@pytest.fixture
def place(redis_place: Place) -> Place:
    return redis_place


@pytest.fixture
async def queue(place: Place, stores: Stores) -> AsyncIterator[JobQueue]:
    """Only sends; the workers are processes."""
    async with place.queue(stores) as queue:
        yield queue


class TestKilled:
    @pytest.mark.parametrize("first_dies", [True, False])
    async def test_pairs_in_flight_at_most(
        self, place: Place, stores: Stores, queue: JobQueue, *, first_dies: bool
    ):
        """When a worker is killed, another ends the job and repeats its pairs in flight at most.

        It does not matter whether the killed one was the coordinator, which the first one is.
        """
        place.lease_s = LEASE_S
        first = place.start_worker(slots=2)
        await queue.submit(place.job("c", pairs=24, waits=True))
        await until(lambda: len(lines(place.log)) == 2)
        second = place.start_worker(slots=2)
        await until(lambda: len(lines(place.log)) == 4)
        assert len(workers(place.log)) == 2
        place.kill(first if first_dies else second)
        place.gate.touch()
        assert (await ended(stores, "c")).state is JobState.SUCCEEDED
        done = place.starts()
        assert sum(done.values()) <= 24 + 2 + 1  # 24 pairs, 2 in flight, 1 reduce
        assert done["reduce"] == 1

    async def test_upscale_is_taken_over(self, place: Place, stores: Stores, queue: JobQueue):
        """A job in one piece is run again by another worker."""
        place.lease_s = LEASE_ALONE_S
        first = place.start_worker()
        await queue.submit(place.job("u", waits=True))
        await until(lambda: place.starts()["u"] == 1)
        place.kill(first)
        place.gate.touch()
        place.start_worker()
        assert (await ended(stores, "u")).state is JobState.SUCCEEDED
        assert place.starts() == {"u": 2, "u-ended": 1}

    async def test_long_job_is_not_doubled(self, place: Place, queue: JobQueue):
        """The lease of a healthy job is renewed while it runs, so nobody else takes it."""
        place.lease_s = 4.0
        place.start_worker(slots=1)  # it has no slot to take its own job over
        await queue.submit(place.job("u", waits=True))
        await until(lambda: place.starts()["u"] == 1)
        await until(lambda: place.idle_s("upscale") > 0.5)
        await until(lambda: place.idle_s("upscale") < 0.5)


class TestAsleep:
    """A worker that is stopped for longer than its lease has not died."""

    @pytest.mark.parametrize("workers", [1, 2])
    async def test_nothing_is_given_up(
        self, place: Place, stores: Stores, queue: JobQueue, *, workers: int
    ):
        """Stalled in turn, workers end their job; pairs in the act then are done twice at most."""
        place.lease_s = 2.0
        fleet = [place.start_worker(slots=2) for _ in range(workers)]
        await queue.submit(place.job("u", waits=True))
        await queue.submit(place.job("c", pairs=4, waits=True))
        await until(lambda: place.starts().total() >= 3)
        for number in range(workers + 1):
            fleet[number % workers].send(signal.SIGSTOP)
            await asyncio.sleep(2 * place.lease_s)
            fleet[number % workers].send(signal.SIGCONT)
        place.gate.touch()
        jobs = [await ended(stores, name) for name in "uc"]
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
        most = place.starts()
        assert max(n for what, n in most.items() if what != "reduce") <= workers


class TestPoison:
    async def test_pair(self, place: Place, stores: Stores, queue: JobQueue):
        """A pair that kills its worker is named; the pairs beside it are done and not blamed."""
        place.lease_s = LEASE_ALONE_S
        await queue.submit(place.job("c", pairs=8, kill="pair0002", seconds=0.3))
        for _ in range(DEATHS + DEATHS_ALONE):
            await place.work_until_dead(stores, slots=4)
        place.start_worker(slots=4)
        job = await ended(stores, "c")
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "while working on pair0002, at last" in job.error["detail"]
        assert place.starts()["pair0002"] == 6


class TestFromZero:
    """Workers that somebody starts and ends by what a gateway's metrics say, as KEDA does."""

    async def test_by_load(self, place: Place, stores: Stores, queue: JobQueue):
        """Without jobs there is no worker; one that is taken away in the middle loses nothing."""
        place.lease_s = 3600  # nobody waits for its end
        alive: list[ProcessGroup] = []

        async def scale() -> int:
            """One worker where the metric of the chart's query is above zero, else none."""
            metrics = Metrics()
            observe_jobs(metrics, await stores.jobs.unfinished())
            found = numbers_of(metrics)
            load = sum(n for key, n in found.items() if key[:2] == ("trustscale_jobs", "upscale"))
            if load and not alive:
                alive.append(place.start_worker())
            if not load and alive:
                assert await asyncio.to_thread(alive.pop().stop) == 0
            return len(alive)

        assert await scale() == 0
        await queue.submit(place.job("a"))
        assert await scale() == 1
        assert (await ended(stores, "a")).state is JobState.SUCCEEDED
        assert await scale() == 0
        await queue.submit(place.job("b", waits=True))
        assert await scale() == 1
        await until(lambda: place.starts()["b"] == 1)
        assert await asyncio.to_thread(alive.pop().stop) == 0
        assert await scale() == 1
        place.gate.touch()
        assert (await ended(stores, "b")).state is JobState.SUCCEEDED
        assert await scale() == 0


class TestFleet:
    async def test_two_share_one_job(self, place: Place, stores: Stores, queue: JobQueue):
        """Each works on as many pairs at a time as it has slots for, and no pair is done twice."""
        await queue.submit(place.job("c", pairs=16, waits=True))
        for count in (1, 2):
            place.start_worker(slots=1)
            await until(lambda count=count: len(workers(place.log)) == count)
            await queue.submit(place.job(f"u{count}"))  # until it has ended there was time for more
            await ended(stores, f"u{count}")
            assert sum(what.startswith("pair") for what in place.starts().elements()) == count
        place.gate.touch()
        assert (await ended(stores, "c")).state is JobState.SUCCEEDED
        upscales = dict.fromkeys(("u1", "u1-ended", "u2", "u2-ended"), 1)
        pairs = {f"pair{i:04}": 1 for i in range(16)}
        assert place.starts() == {"reduce": 1, **upscales, **pairs}

    async def test_cancel_from_another_process(self, place: Place, stores: Stores, queue: JobQueue):
        """A job of another process is cancelled."""
        place.start_worker()
        await queue.submit(place.job("u", waits=True))
        await until(lambda: place.starts()["u"] == 1)
        await queue.cancel("u")
        assert (await ended(stores, "u")).state is JobState.CANCELLED

    async def test_terminated_worker_hands_over(
        self, place: Place, stores: Stores, queue: JobQueue
    ):
        """After SIGTERM a long job goes on elsewhere, and the worker ends well."""
        place.lease_s = 3600  # nobody waits for its end
        first = place.start_worker()
        await queue.submit(place.job("u", waits=True))
        await until(lambda: place.starts()["u"] == 1)
        place.start_worker()
        assert await asyncio.to_thread(first.stop) == 0
        await until(lambda: place.starts()["u"] == 2)
        place.gate.touch()
        assert (await ended(stores, "u")).state is JobState.SUCCEEDED
