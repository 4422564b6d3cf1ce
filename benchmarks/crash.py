"""What is lost when something dies: `python -m benchmarks.crash [--runs 5] [--only NAME …]`.

Each run is one calibration of 40 sleeping pairs that is disturbed once, at a random moment. Queue
and stores are real; Redis runs with AOF everysec. A run is good if the job succeeds, its
calibration holds every pair once, and it replaced exactly the calibration of the run before.

- worker killed: kill -9 of one of two job workers; the lease is 5 s.
- Redis killed: kill -9, started again after 1 s.
- Redis frozen: SIGSTOP for 20 s. Lease 60 s.
- network cut: connections are closed and refused for 20 s. Lease 60 s.
- gateway killed: kill -9 of the only process (memory:// and SQLite), started again at once.
- disk full: for 5 s the only process cannot write a byte (RLIMIT_FSIZE).
- cancelled: by the client; the seconds count from then. Good if no pair is started afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.table import print_table
from harness.servers import ProcessGroup, RedisServer, free_port
from harness.work import new_job
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.stores.job_status import Job, JobState
from trustscale_server.stores.opened import Stores, open_stores

PAIRS = 40
PAIR_S = 0.2
SLOTS = 2
CUT_S = 20.0
DISK_FULL_S = 5.0


class Run(NamedTuple):
    """How one disturbed calibration went."""

    seconds: float
    good: bool
    repeated: int


class Log:
    """What the workers start, read from a named pipe: it also works while no disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Open for both, so that the pipe does not end with its last writer.
        self._pipe = os.fdopen(os.open(path, os.O_RDWR))
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._pipe:
            self.lines.append(line)


class Bench:
    """Stores, queue, job workers, and what can happen to them."""

    def __init__(self, folder: Path, store: str, queue: str, lease_s: float) -> None:
        # These are the URLs of the workers; `ready` may be given others for the bench itself.
        self.folder, self.store, self.queue_url, self.lease_s = folder, store, queue, lease_s
        self.log = Log(folder / "log")
        self.workers: list[ProcessGroup] = []
        self.stores: Stores
        self.queue: JobQueue
        self.count = self.cancelled = 0

    def start_worker(self) -> None:
        parts = (self.queue_url, self.store, str(self.folder / "data"), str(self.lease_s))
        command = [sys.executable, "-m", "harness.work", *parts, str(SLOTS)]
        self.workers.append(ProcessGroup(command, log=self.folder / "worker.log"))

    @asynccontextmanager
    async def ready(self, workers: int, own_url: str | None = None) -> AsyncIterator[Bench]:
        limits = {"result_ttl_s": 600.0, "max_result_bytes": 10**9}
        self.stores = open_stores(own_url or self.store, self.folder / "data", **limits)
        self.queue = JobQueue(own_url or self.queue_url, self.stores.jobs, lease_s=self.lease_s)
        async with self.queue:
            for _ in range(workers):
                self.start_worker()
            yield self
        for worker in self.workers:
            worker.kill()
        await self.stores.close()

    async def calibrate(self, disturb: Callable[[], Awaitable[None]] | None) -> Run:
        name, before = f"c{self.count}", f"c{self.count - 1}" if self.count else None
        self.count += 1
        await self._begin(name)
        began = time.monotonic()
        if disturb is not None:
            await self._some_time()
            await disturb()
        job = await self._ended(name)
        seconds = time.monotonic() - began
        starts = Counter(line.split()[0] for line in self.log.lines)
        repeated = sum(n - 1 for what, n in starts.items() if what.startswith("pair"))
        good = job.state is JobState.SUCCEEDED
        if good:
            pairs = (await self.stores.calibrations.get(name)).decode().split()
            active = (await self.stores.calibrations.active())["span"]
            good = pairs == [f"pair{i:04}" for i in range(PAIRS)]
            good = good and (active.calibration, active.previous) == (name, before)
        else:
            print(name, job.state, job.error)
        return Run(seconds, good, repeated)

    async def cancel(self) -> Run:
        self.cancelled += 1
        name = f"cancelled{self.cancelled}"
        await self._begin(name)
        await self._some_time()
        began = time.monotonic()
        await self.queue.cancel(name)
        job = await self._ended(name)
        seconds = time.monotonic() - began
        await asyncio.sleep(2 * PAIR_S)  # what was in flight has been reported
        started = len(self.log.lines)
        await asyncio.sleep(5 * PAIR_S)
        good = job.state is JobState.CANCELLED and len(self.log.lines) == started
        return Run(seconds, good, 0)

    async def _begin(self, name: str) -> None:
        self.log.lines.clear()
        job = new_job(name, "calibration", self.log.path, pairs=PAIRS, seconds=PAIR_S)
        await self.queue.submit(job)
        while not self.log.lines:  # noqa: ASYNC110 - other processes write them
            await asyncio.sleep(0.01)

    async def _some_time(self) -> None:
        await asyncio.sleep(random.uniform(0, 0.8 * PAIRS * PAIR_S / 4))

    async def _ended(self, name: str) -> Job:
        while True:
            job = await self.stores.jobs.get(name)
            if job.state.is_final:
                return job
            await asyncio.sleep(0.05)


class Proxy:
    """TCP to Redis through here, so that the network can be cut."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, up_writer}

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))
        self._writers -= {writer, up_writer}


async def on_redis(what: str, runs: int) -> list[Run]:
    lease_s = 60.0 if what in {"Redis frozen", "network cut"} else 5.0
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        proxy = Proxy(server.port)
        await proxy.open()
        # The workers go through the proxy; the bench itself goes straight.
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        bench = Bench(Path(folder), url, url, lease_s)

        async def disturb() -> None:
            if what == "worker killed":
                bench.workers.pop(0).kill()
            elif what == "Redis killed":
                server.kill()
                await asyncio.sleep(1)
                await asyncio.to_thread(server.start)
            elif what == "Redis frozen":
                server.pause()
                await asyncio.sleep(CUT_S)
                server.unpause()
            else:
                await proxy.cut()
                await asyncio.sleep(CUT_S)
                await proxy.open()

        async with bench.ready(workers=2, own_url=server.url):
            await bench.calibrate(None)
            done = []
            for _ in range(runs):
                if what == "cancelled":
                    done.append(await bench.cancel())
                    continue
                done.append(await bench.calibrate(None if what == "undisturbed" else disturb))
                if what == "worker killed":
                    bench.start_worker()
                    await asyncio.sleep(2)
            await proxy.cut()
            return done


async def embedded(what: str, runs: int) -> list[Run]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), "sqlite:///", "memory://trustscale", 5.0)

        async def disturb() -> None:
            if what == "gateway killed":
                bench.workers.pop(0).kill()
                bench.start_worker()
                return
            pid = bench.workers[0].process.pid
            old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, old[1]))
            await asyncio.sleep(DISK_FULL_S)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, old)

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(bench.ready(workers=1))
            await bench.calibrate(None)
            if what.startswith("cancelled"):
                return [await bench.cancel() for _ in range(runs)]
            return [
                await bench.calibrate(None if what.startswith("undisturbed") else disturb)
                for _ in range(runs)
            ]


SCENARIOS = {
    "undisturbed": on_redis,
    "worker killed": on_redis,
    "Redis killed": on_redis,
    "Redis frozen": on_redis,
    "network cut": on_redis,
    "cancelled": on_redis,
    "undisturbed, embedded": embedded,
    "gateway killed": embedded,
    "disk full": embedded,
    "cancelled, embedded": embedded,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(SCENARIOS), choices=list(SCENARIOS))
    arguments = parser.parse_args()
    rows = []
    for what in arguments.only:
        done = asyncio.run(SCENARIOS[what](what, arguments.runs))
        seconds = [run.seconds for run in done]
        rows.append(
            [
                what,
                f"{sum(run.good for run in done)} of {len(done)}",
                f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
                f"{max(run.repeated for run in done)}",
            ]
        )
        print(*rows[-1], sep="  ", flush=True)
    print(f"\n{PAIRS} pairs of {PAIR_S} s; {SLOTS} in flight per worker.\n")
    print_table(
        ["what", "good", "seconds to the end (median, range)", "pairs repeated, most"], rows
    )


if __name__ == "__main__":
    main()
