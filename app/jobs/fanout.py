"""Spreading the parts of one job over all job workers.

Somebody coordinates: asks for the units, keeps a bounded number of them in the queue, sees in the
store which are recorded, and puts them together when all are. This is no work of its own, so any
worker has room for many, and it does no harm if two do it. Units are messages like jobs (job and
unit, nothing more), keyed by both, so sending one again while the queue knows it does nothing.

Bounding the units in the queue (`WINDOW`) keeps two calibrations side by side fair to each other,
and makes a cancelled one leave nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.jobs.acts import Acts
from app.jobs.handlers import FanOut, Interrupted, JobContext
from app.jobs.supervision import Supervisor
from app.stores.base import Job, StoreUnavailable
from app.telemetry.tracing import span

# Units of one job in the queue or running at a time: above the units that all workers of a fleet
# run at once, or they would wait for the coordinator.
WINDOW: Final = 64

# How often the coordinator looks at the store, and which part of its time that may take.
TICK_S: Final = 0.2
_SHARE: Final = 0.05
_LONGEST_TICK_S: Final = 2.0  # a store that was frozen does not make it wait on

# Sends units of a job to the queue; those that it knows already are left alone.
Send = Callable[[str, Sequence[str]], Awaitable[None]]


class Coordinator:
    """Has the units of jobs done.

    Units that are not recorded `resend_s` after they were sent are sent again: the queue may have
    lost them, and if it has not, nothing happens.
    """

    def __init__(self, acts: Acts, supervisor: Supervisor, send: Send, *, resend_s: float) -> None:
        self._acts = acts
        self._supervisor = supervisor
        self._send = send
        self._resend_s = resend_s

    async def run(self, job_id: str, fan_out: FanOut) -> float | None:
        """Coordinate a job to its end, as `Acts.whole`. Raises StoreUnavailable."""
        if await self._acts.begin(job_id, None) is None:
            return None
        job = await self._acts.load(job_id)
        try:
            await self._supervisor.run(job_id, self._until_recorded(job, fan_out))
        except Exception as error:  # noqa: BLE001 - a request that cannot be read ends its job
            await self._acts.without_result(job, error)
            return error.seconds if isinstance(error, Interrupted) else None

        async def reduce(job: Job, context: JobContext) -> str:
            with span("reduce"):
                return await fan_out.reduce(job, context)

        return await self._acts.whole(job_id, reduce)

    async def _until_recorded(self, job: Job, fan_out: FanOut) -> None:
        context = JobContext(job.id, self._acts.jobs)
        units = await fan_out.units(job)
        clock = asyncio.get_running_loop().time
        sent: dict[str, float] = {}
        shown = -1
        while True:
            looked = clock()
            recorded = await self._recorded(job.id)
            missing = [unit for unit in units if unit not in recorded]
            done = len(units) - len(missing)
            if done != shown:
                await context.progress(done, len(units), "pairs")
                shown = done
            if not missing:
                return
            due = clock() - self._resend_s
            unsent = [unit for unit in missing[:WINDOW] if sent.get(unit, due) <= due]
            if unsent:
                await self._send(job.id, unsent)
                sent.update(dict.fromkeys(unsent, clock()))
            await asyncio.sleep(min(max(TICK_S, (clock() - looked) / _SHARE), _LONGEST_TICK_S))

    async def _recorded(self, job_id: str) -> set[str]:
        """What is recorded; waits for a store away, because nothing is lost by waiting."""
        while True:
            try:
                return await self._acts.jobs.recorded(job_id)
            except StoreUnavailable:
                await asyncio.sleep(1.0)
