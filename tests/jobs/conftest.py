"""A queue with its stores: in memory beside SQLite, and both on one Redis."""

import asyncio
import re
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from docket import Docket

from harness.servers import ProcessGroup
from harness.waiting import PATIENCE_S, until
from harness.work import SleepingPairs, new_job, sleep_in_one_piece, starts
from trustscale_server.jobs.dockets import QUEUES
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.jobs.tasks import TaskRetryPolicy
from trustscale_server.stores.opened import open_stores

# Longer than any stall of the machine: an attempt that is well is never taken for a dead one.
LEASE_S = 60.0

# What is away is asked again at once, and for long.
EAGER = TaskRetryPolicy(away_s=PATIENCE_S, first_s=0.0, max_pause_s=0.1, errors_s=())


@dataclass
class Place:
    """Where jobs are kept and queued; makes queues, in-process workers and worker processes."""

    queue_url: str
    store_url: str
    folder: Path
    lease_s: float = LEASE_S
    processes: list[ProcessGroup] = field(default_factory=list)

    @property
    def log(self):
        return self.folder / "work.log"

    @property
    def gate(self):
        """A file for which jobs can be told to wait."""
        return self.folder / "gate"

    def stores(self):
        return open_stores(
            self.store_url, self.folder / "data", result_ttl_s=600, max_result_bytes=10**9
        )

    def job(self, name, *, waits=False, **request):
        """A job that is logged: a calibration if it has pairs; `waits`: for the gate."""
        kind = "calibration" if "pairs" in request else "upscale"
        gate = {"gate": str(self.gate)} if waits else {}
        return new_job(name, kind, self.log, **gate, **request)

    def starts(self):
        return starts(self.log)

    def start_worker(self, *, slots=2):
        parts = (self.queue_url, self.store_url, str(self.folder / "data"), str(self.lease_s))
        command = [sys.executable, "-m", "harness.work", *parts, str(slots)]
        log = self.folder / f"worker{len(self.processes)}.log"
        self.processes.append(ProcessGroup(command, log=log))
        return self.processes[-1]

    def kill(self, worker):
        """Kill -9 a worker process, or bury one that has died: its leases on Redis run out now."""
        worker.kill()
        with redis.Redis.from_url(self.queue_url) as client:
            for name in QUEUES:
                for stream, owner, message in self._leases(client, name):
                    if f"#{worker.process.pid}#" in owner:
                        of, ids = (*stream, owner), [message["message_id"]]
                        client.xclaim(*of, 0, ids, idle=3_600_000, justid=True)

    def idle_s(self, name):
        """How long ago the lease of the only message of a queue was renewed."""
        with redis.Redis.from_url(self.queue_url) as client:
            ((_, _, message),) = self._leases(client, name)
            return message["time_since_delivered"] / 1e3

    def _leases(self, client, name):
        """The messages of a queue that somebody works on: its stream and group, who, and what."""
        docket = Docket(f"trustscale:queue:{name}", self.queue_url)
        stream = (docket.stream_key, docket.worker_group_name)
        taken = client.xpending_range(*stream, "-", "+", 100) if client.exists(stream[0]) else []
        for message in taken:
            yield stream, message["consumer"].decode(), message

    async def work_until_dead(self, stores, *, slots=2):
        """A worker process that is expected to die, until all know it."""
        worker = self.start_worker(slots=slots)
        await until(lambda: not worker.is_alive)
        self.kill(worker)
        async with asyncio.timeout(PATIENCE_S), self.queue(stores) as queue:
            while await queue.living() != set():  # noqa: ASYNC110 - its name goes with time
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def queue(self, stores, **settings):
        # Who asks for the living is answered, however the machine stalls.
        settings = {"lease_s": self.lease_s, "answer_s": PATIENCE_S, **settings}
        async with JobQueue(self.queue_url, stores.jobs, **settings) as queue:
            yield queue

    @asynccontextmanager
    async def worker(self, queue, stores, *, slots=2, drain_s=20.0, **more):
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
    async def working(self, stores, *, settings=None, **worker):
        async with (
            self.queue(stores, **(settings or {})) as queue,
            self.worker(queue, stores, **worker),
        ):
            yield queue


def memory_place(folder):
    return Place(f"memory://{uuid4().hex}", "sqlite:///", folder)


@pytest.fixture
def redis_place(request, tmp_path):
    url = request.getfixturevalue("redis_url")
    place = Place(url, url, tmp_path)
    yield place
    for process in place.processes:
        process.kill()
    assert leaks(url) == set()


def leaks(url):
    """Keys that stay in Redis for ever, and would be more with every job.

    Documents of jobs are removed with them (`JobStore.expire`). What a queue keeps of a job must be
    gone, or go by itself, when that has ended and no message waits.
    """
    known = re.compile(r"trustscale:((documents|order):.+|schema|changes|blobs|written)")
    with redis.Redis.from_url(url) as client:
        over = {job.decode() for job in client.zrange("trustscale:order:jobs-ended", 0, -1)}
        lasting = {key.decode() for key in client.scan_iter() if client.ttl(key) == -1}
        left = {key for key in lasting if not known.fullmatch(key)}
        for name in QUEUES:
            prefix = f"trustscale:queue:{name}:"
            mine = {key for key in left if key.startswith(prefix)}
            left -= mine
            waits = client.xlen(f"{prefix}stream") or client.zcard(f"{prefix}queue")
            left |= {key for key in mine if over & set(key.split(":")) and not waits}
    return left


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.servers)])
def place(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("redis_place")
    return memory_place(tmp_path)


@pytest.fixture
async def stores(request, tmp_path):
    """The stores of the place that the test uses, or of one in memory."""
    used = [name for name in ("place", "redis_place") if name in request.fixturenames]
    place = request.getfixturevalue(used[0]) if used else memory_place(tmp_path)
    opened = place.stores()
    yield opened
    await opened.close()


@pytest.fixture
async def working(place, stores):
    async with place.working(stores) as queue:
        yield queue


async def ended(stores, job_id):
    async with asyncio.timeout(PATIENCE_S):
        async for job in stores.jobs.watch(job_id):
            last = job
    return last
