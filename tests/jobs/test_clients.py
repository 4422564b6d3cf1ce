"""Whose job it is, where several clients have jobs."""

from collections import deque
from datetime import UTC, datetime

import pytest

from tests.jobs.conftest import ended
from trustscale_server.jobs.clients import LOOK_S, MAX_PASSES, ClientTurns
from trustscale_server.stores.job_status import JobAbout, JobState, JobStatus


def job(name, client, state=JobState.QUEUED, **fields):
    return JobStatus(
        id=name,
        kind="upscale",
        state=state,
        created_at=datetime.now(UTC),
        about=JobAbout(client=client),
        **fields,
    )


class Bench:
    """Jobs in a queue with so many slots; each job takes as long as the queue goes round."""

    def __init__(self, *jobs):
        self.jobs = {one.id: one for one in jobs}
        self.queue = deque(self.jobs)
        self.now = 0.0
        self.turns = ClientTurns(self.pending, lambda: self.now)

    async def pending(self):
        return [*self.jobs.values()]

    async def next(self):
        """The job that begins next; those that let it pass are at the end of the queue."""
        while True:
            name = self.queue.popleft()
            if not await self.turns.lets_pass(name):
                self.jobs[name] = self.jobs[name].model_copy(update={"state": JobState.RUNNING})
                return name
            self.queue.append(name)
            self.now += 0.001

    async def order(self, slots):
        begun, running = [], deque()
        while self.queue:
            if len(running) == slots:
                del self.jobs[running.popleft()]
                self.now += LOOK_S
            running.append(await self.next())
            begun.append(running[-1])
        return begun


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_a_newcomer_waits_for_no_crowd(slots):
    """Its jobs are served in turn with those of a client that came before with fifty."""
    crowd = [job(f"a{n}", "a") for n in range(50)]
    begun = await Bench(*crowd, *(job(f"b{n}", "b") for n in range(3))).order(slots)
    places = [begun.index(f"b{n}") for n in range(3)]
    assert places[-1] <= 6
    assert len(begun) == 53


async def test_one_client_has_every_slot():
    """Alone it waits for nobody, and its jobs keep their order."""
    names = [f"a{n}" for n in range(5)]
    assert await Bench(*(job(name, "a") for name in names)).order(5) == names


async def test_no_job_goes_back_for_ever():
    """Where the other client's job never comes, it is run all the same."""
    bench = Bench(job("a1", "a", JobState.RUNNING), job("a2", "a"), job("b", "b"))
    outcomes = [await bench.turns.lets_pass("a2") for _ in range(MAX_PASSES + 1)]
    assert outcomes == [True] * MAX_PASSES + [False]


async def test_nobody_waits_for_what_waits_itself():
    """A job whose upscaler is away holds back none of another client."""
    away = job("b", "b", dependency_down_since=datetime.now(UTC))
    bench = Bench(job("a1", "a", JobState.RUNNING), job("a2", "a"), away)
    assert not await bench.turns.lets_pass("a2")


async def test_one_that_has_ended_passes(place):
    """What is not in the list is left to the runner, which knows what to do."""
    assert not await Bench().turns.lets_pass("gone")


async def test_in_a_queue(place, stores):
    """With one slot, a newcomer's job is the second or third of a dozen."""
    async with place.queue(stores) as queue:
        for client, count in (("a", 10), ("b", 1)):
            for number in range(count):
                one = place.job(f"{client}{number}")
                await queue.submit(one.model_copy(update={"about": JobAbout(client=client)}))
        assert await stores.jobs.pending_by_client("upscale") == {"a": 10, "b": 1}
        async with place.worker(queue, stores, slots=1):
            for number in range(10):
                await ended(stores, f"a{number}")
    begun = [name for name in place.starts() if not name.endswith("-ended")]
    assert begun.index("b0") <= 2
    assert await stores.jobs.pending_by_client("upscale") == {}
