"""Handlers for tests, told by the request what to do, and a worker process that runs them.

Every start of a piece of work is one line of the file `log` in the request: what, and by whom.
As a program: `python -m harness.work QUEUE_URL STORE_URL DATA_DIR LEASE_S SLOTS`.
"""

import asyncio
import logging
import os
import signal
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from harness.documents import head
from harness.waiting import PATIENCE_S
from trustscale_server.jobs.queue import JobQueue, run_until_signalled
from trustscale_server.platform.errors import BadPairs
from trustscale_server.stores.job_status import Job
from trustscale_server.stores.opened import open_stores
from trustscale_server.upscalers.failures import BadCredentials, QuotaSpent


def new_job(name, kind, log, **request):
    return Job(
        id=name, kind=kind, created_at=datetime.now(UTC), request={"log": str(log), **request}
    )


def starts(log):
    return Counter(line.split()[0] for line in lines(log))


def workers(log):
    return {line.split()[1] for line in lines(log)}


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def note(job, what):
    with Path(job.request["log"]).open("a") as log:
        log.write(f"{what} {os.getpid()}\n")


async def pass_gate(job):
    """Wait, if the job is told to, until somebody in any process makes the file `gate`."""
    gate = job.request.get("gate")
    while gate and not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240, PTH110 - a look at a file
        await asyncio.sleep(0.02)


async def sleep_in_one_piece(job, context):
    """An upscale: `seconds` long, then as the gate says; `kill` kills its worker, `fail` raises."""
    note(job, job.id)
    if job.request.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.request.get("fail"):
        raise RuntimeError("the inside")
    if job.request.get("bad"):
        raise BadPairs("These pairs cannot be used.")
    await context.progress(0, 1)
    await asyncio.sleep(job.request.get("seconds", 0))
    await pass_gate(job)
    note(job, f"{job.id}-ended")
    return f"/v1/results/{job.id}"


class SleepingPairs:
    """A calibration of `pairs` pairs, `seconds` each.

    `kill`, `bad`, `refused` or `unpaid` names a pair. With a gate the pairs wait for it, or, if
    `reduces_behind_gate`, the reduction.
    """

    def __init__(self, stores):
        self.stores = stores

    async def tasks(self, job):
        return [f"pair{i:04}" for i in range(job.request["pairs"])]

    async def run(self, job, task):
        note(job, task)
        if job.request.get("kill") == task:
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        if job.request.get("bad") == task:
            raise BadPairs("The sizes differ.")
        if job.request.get("refused") == task:
            raise BadCredentials("The token is wrong.")
        if job.request.get("unpaid") == task:
            raise QuotaSpent("No credit is left.")
        try:
            await asyncio.sleep(job.request.get("seconds", 0))
            if not job.request.get("reduces_behind_gate"):
                await pass_gate(job)
        except asyncio.CancelledError:
            note(job, f"{task}-stopped")
            raise
        return task.encode()

    async def after_recording(self, job, task): ...

    async def reduce(self, job, context):
        note(job, "reduce")
        kept = [key async for key, value in context.records() if value == key.encode()]
        assert kept == list(await self.tasks(job))
        if job.request.get("reduces_behind_gate"):
            await pass_gate(job)
        await self.stores.calibrations.put(head(job.id), "\n".join(kept).encode())
        await self.stores.calibrations.activate(job.id, job=job.id)
        return f"/v1/admin/calibrations/{job.id}"


async def work(queue_url, store_url, data_dir, lease_s, slots):
    stores = open_stores(store_url, Path(data_dir), result_ttl_s=600, max_result_bytes=10**9)
    try:
        async with JobQueue(
            queue_url, stores.jobs, lease_s=float(lease_s), answer_s=PATIENCE_S
        ) as queue:
            await run_until_signalled(
                queue,
                {"upscale": sleep_in_one_piece, "calibration": SleepingPairs(stores)},
                concurrency={"upscale": int(slots), "calibration": int(slots)},
                drain_s=2.0,
            )
    finally:
        await stores.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(work(*sys.argv[1:]))
