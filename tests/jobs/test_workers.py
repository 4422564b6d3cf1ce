"""Worker processes on a real Redis: killed, poisoned, stopped, and sharing one job."""

import asyncio
import signal
import time

import pytest

from harness.waiting import PATIENCE_S, until
from harness.work import lines, sleep_in_one_piece, workers
from tests.jobs.conftest import ended
from tests.jobs.test_resistance import died
from trustscale_server.jobs.tasks import DEATHS, DEATHS_ALONE
from trustscale_server.stores.job_status import JobState

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# Longer than a machine stalls, so that only the dead lose theirs (`Place.kill`). The living look
# for those four times per lease. One that is alone loses its lease to nobody.
LEASE_S = 20.0
LEASE_ALONE_S = 2.0


@pytest.fixture
def place(redis_place):
    return redis_place


@pytest.fixture
async def queue(place, stores):
    """Only sends; the workers are processes."""
    async with place.queue(stores) as queue:
        yield queue


async def test_pairs_in_flight_at_most(place, stores, queue):
    place.lease_s = LEASE_S
    first = place.start_worker(slots=2)
    await queue.submit(place.job("c", pairs=24, waits=True))
    await until(lambda: len(lines(place.log)) == 2)
    place.start_worker(slots=2)
    await until(lambda: len(lines(place.log)) == 4)
    assert len(workers(place.log)) == 2
    place.kill(first)
    place.gate.touch()
    assert (await ended(stores, "c")).state is JobState.SUCCEEDED
    done = place.starts()
    assert sum(done.values()) <= 24 + 2 + 1  # 24 pairs, 2 in flight, 1 reduce
    assert done["reduce"] == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_sleeping_have_not_died(place, stores, queue, workers):
    """Stalled in turn, workers end their job; pairs in the act then are done twice at most."""
    place.lease_s = 2.0
    fleet = [place.start_worker(slots=2) for _ in range(workers)]
    await queue.submit(place.job("u", waits=True))
    await queue.submit(place.job("c", pairs=4, waits=True))
    await until(lambda: place.starts().total() >= 3)
    for worker in fleet:
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(1.5 * place.lease_s)
        worker.send(signal.SIGCONT)
    place.gate.touch()
    jobs = [await ended(stores, name) for name in "uc"]
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
    most = place.starts()
    assert max(n for what, n in most.items() if what != "reduce") <= workers


async def test_poison_pair(place, stores, queue):
    """A pair that kills its worker is named; the pairs beside it are done and not blamed.

    Its first death beside others and its last one alone are real ones.
    """
    place.lease_s = LEASE_ALONE_S
    pair = ("c", "pair0002")
    await queue.submit(place.job("c", pairs=8, kill=pair[1], seconds=0.3))
    await place.work_until_dead(stores, slots=4)
    await died(stores, DEATHS - 1, pair)
    await died(stores, DEATHS_ALONE - 1, pair, alone=True)
    await place.work_until_dead(stores, slots=4)
    place.start_worker(slots=4)
    job = await ended(stores, "c")
    assert job.state is JobState.FAILED
    assert "while working on pair0002, at last" in job.error["detail"]
    assert place.starts()["pair0002"] == 2


async def test_leases_while_it_drains(place, stores):
    """A call that takes longer than the lease ends where it runs, though that one stops."""
    place.lease_s, stop = 2.0, asyncio.Event()
    async with place.queue(stores) as queue:
        running = asyncio.create_task(
            queue.run({"upscale": sleep_in_one_piece}, stop=stop, drain_s=PATIENCE_S)
        )
        await queue.submit(place.job("u", waits=True))
        await until(lambda: place.starts()["u"] == 1)
        stop.set()
        began = time.monotonic()
        while time.monotonic() < began + 2 * place.lease_s:
            await until(lambda: place.idle_s("upscale") > place.lease_s / 8)
            await until(lambda: place.idle_s("upscale") < place.lease_s / 8)
        place.gate.touch()
        await running
    assert (await stores.jobs.get("u")).state is JobState.SUCCEEDED
    assert place.starts() == {"u": 1, "u-ended": 1}
