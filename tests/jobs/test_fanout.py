"""Who runs beside whom, and what a lost store does to work that is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.errors import TrustscaleError
from app.jobs.fanout import Turns
from app.jobs.handlers import Interrupted, JobContext, Overtaken
from app.jobs.supervision import Cancelled, Supervisor
from app.stores.base import Job, Stores, StoreUnavailable
from tests.jobs.conftest import memory_place
from tests.jobs.work import new_job


class TestTurns:
    async def test_a_suspect_is_alone(self):
        """Ordinary units run side by side; a suspect waits for them, and they for it."""
        turns = Turns()
        running: set[str] = set()
        together: list[frozenset[str]] = []

        async def unit(name: str, *, alone: bool) -> None:
            async with turns.take(alone=alone):
                running.add(name)
                together.append(frozenset(running))
                for _ in range(10):  # turns of the loop, in which all come in that may
                    await asyncio.sleep(0)
                running.remove(name)

        names = [("a", False), ("b", False), ("S", True), ("c", False), ("T", True), ("d", False)]
        await asyncio.gather(*(unit(name, alone=alone) for name, alone in names))
        assert frozenset("ab") in together
        assert [group for group in together if group & set("ST")] == [
            frozenset("S"),
            frozenset("T"),
        ]
        assert frozenset("cd") in together

    async def test_a_waiting_one_can_be_cancelled(self):
        """A suspect that gives up waiting holds nobody up."""
        turns = Turns()
        async with turns.take(alone=False):
            waiting = asyncio.create_task(turns.take(alone=True).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(60), turns.take(alone=False):
                pass


@pytest.fixture
async def running(tmp_path: Path):
    """Stores with one running job."""
    stores = memory_place(tmp_path).stores()
    await stores.jobs.create(new_job("u", "upscale", tmp_path / "log"))
    job = await stores.jobs.begin("u")
    yield stores, job
    await stores.close()


async def for_ever() -> str:
    await asyncio.sleep(60)
    return "never"


class TestSupervisor:
    async def test_reasons_to_stop(self, running: tuple[Stores, Job]):
        """Cancellation, a newer attempt and the end of the worker stop the work, each by name."""
        stores, job = running
        supervisor = Supervisor(stores.jobs, patience_s=1)
        context = JobContext(job, stores.jobs)
        await stores.jobs.begin("u")
        with pytest.raises(Overtaken):
            await supervisor.run(job, for_ever(), context=context)
        assert context.cancelled()
        await stores.jobs.request_cancel("u")
        with pytest.raises(Cancelled):
            await supervisor.run(job, for_ever())
        supervisor.interrupt()
        with pytest.raises(Interrupted):
            await supervisor.run(job, for_ever())

    async def test_ended_in_time(self, running: tuple[Stores, Job]):
        """Work that ends while it is being stopped has ended."""
        stores, job = running

        async def stubborn() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "done"
            return "never"

        await stores.jobs.request_cancel("u")
        assert await Supervisor(stores.jobs, patience_s=1).run(job, stubborn()) == "done"

    async def test_insists_with_patience(self, running: tuple[Stores, Job]):
        """A store that is away is called again until it answers or the patience ends."""
        stores, _ = running
        calls = 0

        async def away(times: int) -> int:
            nonlocal calls
            calls += 1
            if calls <= times:
                raise StoreUnavailable("It is away.")
            return calls

        assert await Supervisor(stores.jobs, patience_s=600).insist(lambda: away(2)) == 3
        with pytest.raises(StoreUnavailable):
            await Supervisor(stores.jobs, patience_s=0.05).insist(lambda: away(100))

    async def test_error_of_the_work(self, running: tuple[Stores, Job]):
        """An error of the work arrives as it is."""
        stores, job = running

        async def fails() -> None:
            raise TrustscaleError("It failed.")

        with pytest.raises(TrustscaleError, match="It failed"):
            await Supervisor(stores.jobs, patience_s=1).run(job, fails())


class TestContext:
    async def test_overtaken(self, running: tuple[Stores, Job]):
        """Checkpoints and progress of an overtaken attempt raise Overtaken."""
        stores, job = running
        context = JobContext(job, stores.jobs)
        await context.record("a", b"1")
        await stores.jobs.begin("u")
        with pytest.raises(Overtaken):
            await context.record("b", b"2")
        with pytest.raises(Overtaken):
            await context.progress(1, 2)
        assert await context.recorded() == {"a"}
        assert [pair async for pair in context.records()] == [("a", b"1")]
