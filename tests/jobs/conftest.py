"""A queue with its stores: in memory beside SQLite, and both on one Redis."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.jobs.queue import JobQueue
from app.stores.base import JobStatus, Stores
from app.stores.open import open_stores
from tests.jobs.work import SleepingPairs, sleep_in_one_piece
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
        """A file for which jobs can be told to wait: `new_job(…, gate=str(place.gate))`."""
        return self.folder / "gate"

    def stores(self) -> Stores:
        return open_stores(
            self.store_url, self.folder / "data", result_ttl_s=600, max_result_bytes=10**9
        )

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
    async def working(
        self, queue: JobQueue, stores: Stores, **settings: Any
    ) -> AsyncIterator[None]:
        """A worker inside this process, as in the gateway."""
        stop = asyncio.Event()
        slots = settings.pop("slots", 2)
        more = settings.pop("handlers", {})
        task = asyncio.create_task(
            queue.run(
                {"upscale": sleep_in_one_piece, "calibration": SleepingPairs(stores), **more},
                stop=stop,
                concurrency={"upscale": slots, "calibration": slots},
                **settings,
            )
        )
        try:
            yield
        finally:
            stop.set()
            await task


def memory_place(folder: Path) -> Place:
    return Place(f"memory://{uuid4().hex}", "sqlite:///", folder)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        yield memory_place(tmp_path)
    else:
        yield from redis_places(request, tmp_path)


@pytest.fixture
def redis_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from redis_places(request, tmp_path)


def redis_places(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    url = request.getfixturevalue("redis_url")
    place = Place(url, url, folder)
    yield place
    for process in place.processes:
        process.kill()


@pytest.fixture
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """The stores of the place that the test uses."""
    name = "place" if "place" in request.fixturenames else "redis_place"
    opened = request.getfixturevalue(name).stores()
    yield opened
    await opened.close()


@pytest.fixture
async def working(place: Place, stores: Stores) -> AsyncIterator[JobQueue]:
    """A queue whose jobs are run."""
    async with place.queue(stores) as queue, place.working(queue, stores):
        yield queue


async def ended(stores: Stores, job_id: str, within_s: float = 90.0) -> JobStatus:
    """The job after its end."""
    async with asyncio.timeout(within_s):
        async for job in stores.jobs.watch(job_id):
            last = job
    return last
