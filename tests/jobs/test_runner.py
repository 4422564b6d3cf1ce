"""Who runs beside whom, and what a lost store does to work that is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.errors import NotFound, TrustscaleError
from app.jobs.runner import RetryPolicy, Turns
from app.jobs.supervision import Interrupted, JobCancelled, Over, Supervisor
from app.stores.base import JobState, Stores, StoreUnavailable
from tests.clock import LoopClock
from tests.jobs.work import new_job


class TestTurns:
    async def test_alone(self):
        """Tasks run side by side; those that must be alone run first, one after the other."""
        turns = Turns()
        running: set[str] = set()
        together: list[frozenset[str]] = []

        async def task(name: str) -> None:
            async with turns.take(alone=name.isupper()):
                running.add(name)
                together.append(frozenset(running))
                for _ in range(10):  # turns of the loop, in which all come in that may
                    await asyncio.sleep(0)
                running.remove(name)

        await asyncio.gather(*map(task, "abScTd"))
        assert frozenset("ab") in together
        assert [group for group in together if group & set("ST")] == [{"S"}, {"T"}]
        assert frozenset("cd") in together

    async def test_a_waiting_one_can_be_cancelled(self):
        """One that gives up waiting to be alone holds nobody up."""
        turns = Turns()
        async with turns.take(alone=False):
            waiting = asyncio.create_task(turns.take(alone=True).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(60), turns.take(alone=False):
                pass


def test_worst_case():
    """What stays away is tried a few times only, further and further apart."""
    policy, waited, runs = RetryPolicy(), 0.0, [0.0]
    while waited < policy.away_s:
        waited += policy.pause(waited)
        runs.append(waited)
    assert runs == [0, 10, 40, 160, 460, 760]


@pytest.fixture
async def stores(stores: Stores, tmp_path: Path) -> Stores:
    """With a running job."""
    await stores.jobs.create(new_job("u", "upscale", tmp_path / "log"))
    await stores.jobs.start("u", "", "ann")
    return stores


async def for_ever() -> str:
    await asyncio.sleep(60)
    return "never"


def supervisor(stores: Stores, patience_s: float = 1.0) -> Supervisor:
    return Supervisor(stores.jobs, patience_s=patience_s, lease_s=60.0)


class TestSupervisor:
    async def test_reasons_to_stop(self, stores: Stores):
        """Cancellation, an end and the end of the worker stop the work, each by name."""
        watching = supervisor(stores)
        await stores.jobs.request_cancel("u")
        with pytest.raises(JobCancelled):
            await watching.run("u", for_ever())
        await stores.jobs.finish("u", JobState.CANCELLED)
        await stores.jobs.create(new_job("v", "upscale", Path("log")))
        await stores.jobs.start("v", "", "ann")
        await stores.jobs.finish("v", JobState.SUCCEEDED)
        with pytest.raises(Over):
            await watching.run("v", for_ever())
        watching.interrupt()
        with pytest.raises(Interrupted):
            await watching.run("v", for_ever())

    @pytest.mark.parametrize(("end", "reason"), [("finish", Over), ("request", JobCancelled)])
    async def test_fails_after_the_end(self, stores: Stores, end: str, reason: type[Exception]):
        """Work that fails once its job has ended, or is to, is no failure: its uploads are gone."""

        async def without_uploads() -> str:
            if end == "finish":
                await stores.jobs.finish("u", JobState.CANCELLED)
            else:
                await stores.jobs.request_cancel("u")
            raise NotFound("There is no file 'image' of job u.")

        with pytest.raises(reason):
            await supervisor(stores).run("u", without_uploads())

    async def test_ended_in_time(self, stores: Stores):
        """Work that ends while it is being stopped has ended."""

        async def stubborn() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "done"
            return "never"

        await stores.jobs.request_cancel("u")
        assert await supervisor(stores).run("u", stubborn()) == "done"

    async def test_insists_with_patience(self, stores: Stores):
        """A store that is away is called again until it answers or the patience ends."""
        calls = 0

        async def away(times: int) -> int:
            nonlocal calls
            calls += 1
            if calls <= times:
                raise StoreUnavailable("It is away.")
            return calls

        assert await supervisor(stores, patience_s=600).insist(lambda: away(2)) == 3
        with pytest.raises(StoreUnavailable):
            await supervisor(stores, patience_s=0.05).insist(lambda: away(100))

    async def test_error_of_the_work(self, stores: Stores):
        """An error of the work arrives as it is; one that came while the process slept does not."""

        async def fails() -> None:
            raise TrustscaleError("It failed.")

        clock = LoopClock()

        async def sleeps_and_fails() -> None:
            clock.jump(120)  # as that of a process that is stopped does
            raise TrustscaleError("It ran into its time-out.")

        with pytest.raises(TrustscaleError, match="It failed"):
            await supervisor(stores).run("u", fails())
        with pytest.raises(Interrupted):
            await supervisor(stores).run("u", sleeps_and_fails())
