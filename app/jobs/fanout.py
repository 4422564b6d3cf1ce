"""Coordinates a job of many parts: sends its tasks, sees which are recorded, puts them together.

Coordinating is no work of its own, so any worker has room for many, and it does no harm if two do
it. Sending a task again while the queue knows it does nothing. The number of tasks in the queue is
bounded (`WINDOW`): two calibrations side by side are fair to each other, and a cancelled one leaves
nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.jobs.handlers import FanOut, JobContext
from app.jobs.runner import TaskRunner
from app.jobs.supervision import Supervisor
from app.stores.base import Job, StoreUnavailable
from app.telemetry.tracing import span

# Tasks of one job in the queue or running at a time: more than all workers of a fleet run at once,
# or they would wait for the coordinator.
WINDOW: Final = 64

# How often the coordinator looks at the store, and which part of its time that may take.
TICK_S: Final = 0.2
_SHARE: Final = 0.05
_LONGEST_TICK_S: Final = 2.0  # a store that was frozen does not make it wait on

# Sends tasks of a job to the queue; those that it knows already are left alone.
Send = Callable[[str, Sequence[str]], Awaitable[None]]


class Coordinator:
    """Has the tasks of jobs done.

    Tasks that are not recorded `resend_s` after they were sent are sent again: the queue may have
    lost them, and if it has not, nothing happens.
    """

    def __init__(
        self, runner: TaskRunner, supervisor: Supervisor, send: Send, *, resend_s: float
    ) -> None:
        self._runner = runner
        self._supervisor = supervisor
        self._send = send
        self._resend_s = resend_s

    async def run(self, job_id: str, fan_out: FanOut) -> float | None:
        """Coordinate a job to its end, as `TaskRunner.whole`. Raises StoreUnavailable."""
        job = await self._runner.begin(job_id, None)
        if job is None:
            return None
        try:
            await self._supervisor.run(job_id, self._until_recorded(job, fan_out))
        except Exception as error:  # noqa: BLE001 - a request that cannot be read ends its job
            return (await self._runner.without_result(job, error))[1]

        async def reduce(job: Job, context: JobContext) -> str:
            with span("reduce"):
                return await fan_out.reduce(job, context)

        return await self._runner.whole(job_id, reduce)

    async def _until_recorded(self, job: Job, fan_out: FanOut) -> None:
        context = JobContext(job.id, self._runner.jobs)
        tasks = await fan_out.tasks(job)
        clock = asyncio.get_running_loop().time
        sent: dict[str, float] = {}
        shown = -1
        while True:
            looked = clock()
            recorded = await self._recorded(job.id)
            missing = [task for task in tasks if task not in recorded]
            done = len(tasks) - len(missing)
            if done != shown:
                await context.progress(done, len(tasks), "pairs")
                shown = done
            if not missing:
                return
            due = clock() - self._resend_s
            unsent = [task for task in missing[:WINDOW] if sent.get(task, due) <= due]
            if unsent:
                await self._send(job.id, unsent)
                sent.update(dict.fromkeys(unsent, clock()))
            await asyncio.sleep(min(max(TICK_S, (clock() - looked) / _SHARE), _LONGEST_TICK_S))

    async def _recorded(self, job_id: str) -> set[str]:
        """What is recorded; waits for a store away, because nothing is lost by waiting."""
        while True:
            try:
                return await self._runner.jobs.recorded(job_id)
            except StoreUnavailable:
                await asyncio.sleep(1.0)
