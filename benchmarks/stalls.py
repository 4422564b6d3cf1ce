"""Whether anything innocent is given up: `python -m benchmarks.stalls [--only NAME …] [--lease S]`.

Queue, stores and workers are real, the work sleeps. Each row says how many jobs ended well, and how
often a task was started again.

- one, two workers stalled: 8 times for 6 s (SIGSTOP), in turn, during a calibration of 4 pairs of
60 s.
- gateway killed: the only process (memory:// and SQLite), 12 times, 2 to 5 s after it has begun to
work, with 24 upscalings of 1 s and 3 calibrations of 12 pairs of 1 s.
- worker killed: the same with two workers on Redis, one of which is killed every 2 to 5 s, 14
times.
- poison: a pair that kills its worker, among 12; given up after which death, and whether it is
named.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.crash import Bench
from benchmarks.table import print_table
from harness.servers import RedisServer
from harness.work import new_job, starts
from trustscale_server.stores.job_status import JobState, JobStatus

STALLS, STALL_S, LONG_PAIR_S = 8, 6.0, 60.0
UPSCALES, CALIBRATIONS, PAIRS, WORK_S = 24, 3, 12, 1.0
KILLED_AFTER_S = (2.0, 5.0)

Row = list[str]


class Watched(Bench):
    """A bench whose workers write what they start into a file."""

    async def accepted(
        self, upscales: int, calibrations: int, pairs: int, seconds: float, kill: str = ""
    ) -> None:
        """Submit jobs, and wait until something is started; `kill` names a poison pair."""
        for k in range(upscales):
            job = new_job(f"u{k}", "upscale", self.folder / f"u{k}.starts", seconds=seconds)
            await self.queue.submit(job)
        for k in range(calibrations):
            asked = {"pairs": pairs, "seconds": seconds, "kill": kill}
            log = self.folder / f"c{k}.starts"
            await self.queue.submit(new_job(f"c{k}", "calibration", log, **asked))
        while not list(self.folder.glob("*.starts")):  # noqa: ASYNC110 - others write them
            await asyncio.sleep(0.05)

    async def jobs(self, names: list[str]) -> list[JobStatus]:
        return [await self._ended(name) for name in names]

    async def is_done(self) -> bool:
        return not await self.stores.jobs.unfinished()

    def begun(self) -> int:
        return sum(starts(log).total() for log in self.folder.glob("*.starts"))

    def again(self) -> int:
        """How many starts were not the first one of their task."""
        logs = (starts(log) for log in self.folder.glob("*.starts"))
        begun = (item for log in logs for item in log.items())
        return sum(n - 1 for what, n in begun if what != "reduce" and "-" not in what)


async def stalled(workers: int, lease_s: float) -> Row:
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        bench = Watched(Path(folder), server.url, server.url, lease_s)
        async with bench.ready(workers=workers):
            await bench.accepted(0, 1, 4, LONG_PAIR_S)
            for number in range(STALLS):
                worker = bench.workers[number % workers]
                worker.send(signal.SIGSTOP)
                await asyncio.sleep(STALL_S)
                worker.send(signal.SIGCONT)
                await asyncio.sleep(1.0)
            (job,) = await bench.jobs(["c0"])
            return [f"{int(job.state is JobState.SUCCEEDED)} of 1", str(bench.again())]


async def killed(kills: int, lease_s: float, *, on_redis: bool) -> Row:
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        urls = (server.url, server.url) if on_redis else ("sqlite:///", "memory://trustscale")
        bench = Watched(Path(folder), *urls, lease_s)
        async with bench.ready(workers=2 if on_redis else 1):
            await bench.accepted(UPSCALES, CALIBRATIONS, PAIRS, WORK_S)
            last_kill = time.monotonic()
            for _ in range(kills):
                begun = bench.begun()
                if not on_redis:  # the time that it takes to start is not the time of its work
                    while bench.begun() == begun and not await bench.is_done():  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                await asyncio.sleep(random.uniform(*KILLED_AFTER_S))
                bench.workers.pop(0).kill()
                last_kill = time.monotonic()
                bench.start_worker()
            names = [*(f"u{k}" for k in range(UPSCALES)), *(f"c{k}" for k in range(CALIBRATIONS))]
            jobs = await bench.jobs(names)
            good = [job.state is JobState.SUCCEEDED for job in jobs]
            done = f"{sum(good[:UPSCALES])} of {UPSCALES}, {sum(good[UPSCALES:])} of {CALIBRATIONS}"
            seconds = f"{time.monotonic() - last_kill:.0f} s after the last kill"
            return [f"{done}; {seconds}", str(bench.again())]


async def poison(lease_s: float) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        bench = Watched(Path(folder), "sqlite:///", "memory://trustscale", lease_s)
        async with bench.ready(workers=1):
            await bench.accepted(4, 1, PAIRS, 0.2, kill="pair0003")
            deaths = 0
            while (job := await bench.stores.jobs.get("c0")).state is not JobState.FAILED:
                if not bench.workers[0].is_alive:
                    deaths += 1
                    bench.workers.pop(0)
                    bench.start_worker()
                await asyncio.sleep(0.05)
            named = [item["name"] for item in (job.error or {}).get("items", [])]
            others = await bench.jobs([f"u{k}" for k in range(4)])
            good = sum(other.state is JobState.SUCCEEDED for other in others)
            return [f"{good} of 4; {named} after death {deaths}", str(bench.again())]


ROWS: dict[str, Callable[[float], Awaitable[Row]]] = {
    "one worker stalled 8 times": lambda lease_s: stalled(1, lease_s),
    "two workers stalled 8 times": lambda lease_s: stalled(2, lease_s),
    "gateway killed 12 times": lambda lease_s: killed(12, lease_s, on_redis=False),
    "worker killed 14 times": lambda lease_s: killed(14, lease_s, on_redis=True),
    "poison": poison,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--lease", type=float, default=3.0, metavar="SECONDS")
    asked = parser.parse_args()
    rows = []
    for what in asked.only:
        rows.append([what, *asyncio.run(ROWS[what](asked.lease))])
        print(*rows[-1], sep="  ", flush=True)
    print_table(["what", "jobs that ended well", "tasks started again"], rows)


if __name__ == "__main__":
    main()
