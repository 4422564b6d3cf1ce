"""A queue with its stores: in memory beside SQLite, and both on one Redis."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.jobs.acts import Patience
from app.jobs.queue import JobQueue
from app.stores.base import Job, JobStatus, Stores
from app.stores.open import open_stores
from tests.jobs.work import SleepingPairs, new_job, sleep_in_one_piece, starts
from tests.servers import ProcessGroup
from tests.waiting import until

# Longer than any stall of the machine: an attempt that is well is never taken for a dead one.
LEASE_S = 60.0


@dataclass
class Place:
    """Where jobs are kept and queued; makes queues, in-process workers and worker processes."""

    queue_url: str
    store_url: str
    folder: Path
    lease_s: float = LEASE_S
    processes: list[ProcessGroup] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "work.log"

    @property
    def gate(self) -> Path:
        """A file for which jobs can be told to wait."""
        return self.folder / "gate"

    def stores(self) -> Stores:
        return open_stores(
            self.store_url, self.folder / "data", result_ttl_s=600, max_result_bytes=10**9
        )

    def job(self, name: str, *, waits: bool = False, **request: Any) -> Job:
        """A job that is logged: a calibration if it has pairs; `waits`: for the gate."""
        kind = "calibration" if "pairs" in request else "upscale"
        gate = {"gate": str(self.gate)} if waits else {}
        return new_job(name, kind, self.log, **gate, **request)

    def starts(self) -> Counter[str]:
        """How often each piece of work was started."""
        return starts(self.log)

    def start_worker(self, *, slots: int = 2) -> ProcessGroup:
        """A worker process."""
        parts = (self.queue_url, self.store_url, str(self.folder / "data"), str(self.lease_s))
        command = [sys.executable, "-m", "tests.jobs.work", *parts, str(slots), "0"]
        log = self.folder / f"worker{len(self.processes)}.log"
        self.processes.append(ProcessGroup(command, log=log))
        return self.processes[-1]

    async def work_until_dead(self, *, slots: int = 2) -> None:
        """A worker process that is expected to die."""
        worker = self.start_worker(slots=slots)
        await until(lambda: not worker.is_alive)

    @asynccontextmanager
    async def queue(self, stores: Stores, **settings: Any) -> AsyncIterator[JobQueue]:
        async with JobQueue(self.queue_url, stores.jobs, lease_s=self.lease_s, **settings) as queue:
            yield queue

    @asynccontextmanager
    async def worker(
        self, queue: JobQueue, stores: Stores, *, slots: int = 2, drain_s: float = 20.0, **more: Any
    ) -> AsyncIterator[None]:
        """A worker inside this process, as in the gateway; `more` are handlers by kind."""
        handlers = {"upscale": sleep_in_one_piece, "calibration": SleepingPairs(stores), **more}
        most = dict.fromkeys(handlers, slots)
        stop = asyncio.Event()
        task = asyncio.create_task(
            queue.run(handlers, stop=stop, concurrency=most, drain_s=drain_s)
        )
        try:
            yield
        finally:
            stop.set()
            await task

    @asynccontextmanager
    async def working(
        self, stores: Stores, *, patience: Patience | None = None, **worker: Any
    ) -> AsyncIterator[JobQueue]:
        """A queue, and a worker beside it."""
        async with (
            self.queue(stores, patience=patience or Patience()) as queue,
            self.worker(queue, stores, **worker),
        ):
            yield queue


def memory_place(folder: Path) -> Place:
    return Place(f"memory://{uuid4().hex}", "sqlite:///", folder)


@pytest.fixture
def redis_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url = request.getfixturevalue("redis_url")
    place = Place(url, url, tmp_path)
    yield place
    for process in place.processes:
        process.kill()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "redis":
        return request.getfixturevalue("redis_place")
    return memory_place(tmp_path)


@pytest.fixture
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """The stores of the place that the test uses, or of one in memory."""
    used = [name for name in ("place", "redis_place") if name in request.fixturenames]
    place = request.getfixturevalue(used[0]) if used else memory_place(tmp_path)
    opened = place.stores()
    yield opened
    await opened.close()


@pytest.fixture
async def working(place: Place, stores: Stores) -> AsyncIterator[JobQueue]:
    """A queue whose jobs are run."""
    async with place.working(stores) as queue:
        yield queue


async def ended(stores: Stores, job_id: str, within_s: float = 90.0) -> JobStatus:
    """The job after its end."""
    async with asyncio.timeout(within_s):
        async for job in stores.jobs.watch(job_id):
            last = job
    return last
