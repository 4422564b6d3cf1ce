"""Coordinates jobs of many tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trustscale_server.jobs.handler import FanOut, JobContext
from trustscale_server.jobs.supervisor import Supervisor
from trustscale_server.jobs.tasks import TaskRunner
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import Job

# Tasks of one job in the queue or running: more than a fleet runs at once, few enough to be fair to
# another calibration.
WINDOW: Final = 64

_Send = Callable[[str, Sequence[str]], Awaitable[None]]
"""Sends tasks of a job to the queue; known ones change nothing."""


class Coordinator:
    """Sends the tasks of a job, some at a time, and combines them when all are recorded.

    It only waits, so two may coordinate the same job. A task not recorded after `resend_s` is sent
    again; a queue that has it ignores that.
    """

    def __init__(
        self, runner: TaskRunner, supervisor: Supervisor, send: _Send, *, resend_s: float
    ) -> None:
        self._runner = runner
        self._supervisor = supervisor
        self._send = send
        self._resend_s = resend_s

    async def run(self, job_id: str, fan_out: FanOut) -> float | None:
        """Coordinate a job to its end, and return as `TaskRunner.run_job`.

        Raises StoreUnavailable.
        """
        job = await self._runner.begin(job_id, None)
        if job is None:
            return None
        try:
            await self._supervisor.run(job_id, self._until_recorded(job, fan_out))
        except Exception as error:  # noqa: BLE001 - a request that cannot be read ends its job
            return (await self._runner.without_result(job, error)).again_s

        async def reduce(job: Job, context: JobContext) -> str:
            with span("reduce"):
                return await fan_out.reduce(job, context)

        return await self._runner.run_job(job_id, reduce)

    async def _until_recorded(self, job: Job, fan_out: FanOut) -> None:
        context = JobContext(job.id, self._runner.jobs)
        tasks = await fan_out.tasks(job)
        clock = asyncio.get_running_loop().time
        sent: dict[str, float] = {}
        reported = -1
        while True:
            looked = clock()
            recorded = await self._recorded(job.id)
            missing = [task for task in tasks if task not in recorded]
            done = len(tasks) - len(missing)
            if done != reported:
                await context.progress(done, len(tasks), "pairs")
                reported = done
            if not missing:
                return
            due = clock() - self._resend_s
            unsent = [task for task in missing[:WINDOW] if sent.get(task, due) <= due]
            if unsent:
                await self._send(job.id, unsent)
                sent.update(dict.fromkeys(unsent, clock()))
            # Reading may take a twentieth of the time, except of a store that was frozen.
            await asyncio.sleep(min(max(0.2, 20 * (clock() - looked)), 2.0))

    async def _recorded(self, job_id: str) -> set[str]:
        """What is recorded; waits for an unavailable store."""
        while True:
            try:
                return await self._runner.jobs.recorded_tasks(job_id)
            except StoreUnavailable:
                await asyncio.sleep(1.0)
