"""Worker processes on a real Redis: killed, poisoned, stopped, and sharing one job."""

from __future__ import annotations

import asyncio
import signal

import pytest

from app.stores.base import JobState, Stores
from tests.jobs.conftest import Place, ended
from tests.jobs.work import lines, new_job, starts, workers
from tests.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# Where a worker dies the others wait for the end of its lease. Longer than a machine stalls, so
# that only the dead lose theirs.
SHORT_LEASE_S = 5.0


@pytest.fixture
def short_lease(redis_place: Place) -> None:
    redis_place.lease_s = SHORT_LEASE_S


@pytest.mark.usefixtures("short_lease")
class TestKilled:
    @pytest.mark.parametrize("first_dies", [True, False])
    async def test_pairs_in_flight_at_most(
        self, redis_place: Place, stores: Stores, *, first_dies: bool
    ):
        """When a worker is killed, another ends the job and repeats its pairs in flight at most.

        It does not matter whether the killed one was the coordinator, which the first one is.
        """
        first, gate = redis_place.start_worker(slots=2), redis_place.gate
        async with redis_place.queue(stores) as queue:
            await queue.submit(
                new_job("c", "calibration", redis_place.log, pairs=24, gate=str(gate))
            )
            await until(lambda: len(lines(redis_place.log)) == 2)
            second = redis_place.start_worker(slots=2)
            await until(lambda: len(lines(redis_place.log)) == 4)
            assert len(workers(redis_place.log)) == 2
            (first if first_dies else second).kill()
            gate.touch()
            job = await ended(stores, "c")
        assert job.state is JobState.SUCCEEDED
        done = starts(redis_place.log)
        assert sum(done.values()) <= 24 + 2 + 1  # 24 pairs, 2 in flight, 1 reduce
        assert done["reduce"] == 1

    async def test_upscale_is_taken_over(self, redis_place: Place, stores: Stores):
        """A job in one piece is run again by another worker."""
        first, gate = redis_place.start_worker(), redis_place.gate
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, gate=str(gate)))
            await until(lambda: starts(redis_place.log)["u"] == 1)
            first.kill()
            gate.touch()
            redis_place.start_worker()
            job = await ended(stores, "u")
        assert job.state is JobState.SUCCEEDED
        assert starts(redis_place.log) == {"u": 2, "u-ended": 1}

    async def test_long_job_is_not_doubled(self, redis_place: Place, stores: Stores):
        """A healthy job much longer than the lease is started once."""
        redis_place.lease_s = 3.0
        redis_place.start_worker()
        redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, seconds=7))
            job = await ended(stores, "u")
        assert job.state is JobState.SUCCEEDED
        assert starts(redis_place.log)["u"] == 1


class TestAsleep:
    """A worker that is stopped for longer than its lease has not died."""

    @pytest.mark.parametrize("workers", [1, 2])
    async def test_nothing_is_given_up(self, redis_place: Place, stores: Stores, *, workers: int):
        """Stalled in turn, workers end their job; pairs in the act then are done twice at most."""
        redis_place.lease_s, log, gate = 2.0, redis_place.log, redis_place.gate
        fleet = [redis_place.start_worker(slots=2) for _ in range(workers)]
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", log, gate=str(gate)))
            await queue.submit(new_job("c", "calibration", log, pairs=4, gate=str(gate)))
            await until(lambda: starts(log).total() >= 3)
            for number in range(workers + 1):
                fleet[number % workers].send(signal.SIGSTOP)
                await asyncio.sleep(2 * redis_place.lease_s)
                fleet[number % workers].send(signal.SIGCONT)
            gate.touch()
            jobs = [await ended(stores, name) for name in "uc"]
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
        most = starts(log)
        assert max(n for what, n in most.items() if what != "reduce") <= workers


@pytest.mark.usefixtures("short_lease")
class TestPoison:
    async def test_job(self, redis_place: Place, stores: Stores):
        """A job that always kills its worker is given up after its third death, and says so."""
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("u", "upscale", redis_place.log, kill=True))
            for _ in range(3):
                await redis_place.work_until_dead()
            redis_place.start_worker()
            job = await ended(stores, "u")
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
            job = await ended(stores, "c")
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "while working on pair0002." in job.error["detail"]
        assert starts(redis_place.log)["pair0002"] == 3


class TestFleet:
    async def test_two_share_one_job(self, redis_place: Place, stores: Stores):
        """Each works on as many pairs at a time as it has slots for, and no pair is done twice."""
        gate, log = redis_place.gate, redis_place.log
        async with redis_place.queue(stores) as queue:
            await queue.submit(new_job("c", "calibration", log, pairs=16, gate=str(gate)))
            for count in (1, 2):
                redis_place.start_worker(slots=1)
                await until(lambda count=count: len(lines(log)) == count)
                await asyncio.sleep(0.5)
                assert len(workers(log)) == len(lines(log)) == count
            gate.touch()
            assert (await ended(stores, "c")).state is JobState.SUCCEEDED
        assert starts(log) == {"reduce": 1, **{f"pair{i:04}": 1 for i in range(16)}}

    async def test_cancel_from_another_process(self, redis_place: Place, stores: Stores):
        """A job of another process is cancelled."""
        redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            gate = str(redis_place.gate)
            await queue.submit(new_job("u", "upscale", redis_place.log, gate=gate))
            await until(lambda: starts(redis_place.log)["u"] == 1)
            await queue.cancel("u")
            assert (await ended(stores, "u")).state is JobState.CANCELLED

    async def test_terminated_worker_hands_over(self, redis_place: Place, stores: Stores):
        """After SIGTERM a long job goes on elsewhere, and the worker ends well."""
        redis_place.lease_s = 3600  # nobody waits for its end
        first = redis_place.start_worker()
        async with redis_place.queue(stores) as queue:
            gate = redis_place.gate
            await queue.submit(new_job("u", "upscale", redis_place.log, gate=str(gate)))
            await until(lambda: starts(redis_place.log)["u"] == 1)
            redis_place.start_worker()
            assert await asyncio.to_thread(first.stop) == 0
            await until(lambda: starts(redis_place.log)["u"] == 2)
            gate.touch()
            job = await ended(stores, "u")
        assert job.state is JobState.SUCCEEDED
