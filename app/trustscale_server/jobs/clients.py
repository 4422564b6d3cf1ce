"""Which job's turn it is, where several clients have jobs.

The queue gives jobs out in the order in which they came. One whose client has more running than
another client with a job that waits goes back for a moment, so the other one comes to the head of
the queue; where both have equally many, it is the turn of the client that was served longer ago. So
nobody waits for all jobs of a stranger, and one client alone has every slot.

Each process decides from a look at the list of jobs, which may be half a second old. No job goes
back for ever, since the one that it waits for may itself wait for an upscaler that is away.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trustscale_server.stores.job_status import JobState, JobStatus

BACK_S: Final = 0.5
"""Seconds for which a job goes back to the queue."""

LOOK_S: Final = 0.5
"""How long a look at the list of jobs is used."""

MAX_PASSES: Final = 60
"""How often a job goes back before it is run all the same."""


class ClientTurns:
    """Lets jobs of one kind pass others.

    pending: returns the jobs of the kind that have not ended.
    """

    def __init__(
        self, pending: Callable[[], Awaitable[Sequence[JobStatus]]], clock: Callable[[], float]
    ) -> None:
        self._pending = pending
        self._clock = clock
        self._jobs: dict[str, JobStatus] = {}
        self._looked_at = -math.inf
        self._served: dict[str, float] = {}  # when a job of a client began here
        self._passed: Counter[str] = Counter()  # by job

    async def lets_pass(self, job_id: str) -> bool:
        """Return whether a job must go back to the queue; if not, it counts as running from now."""
        now = self._clock()
        if now - self._looked_at >= LOOK_S or job_id not in self._jobs:
            self._jobs = {job.id: job for job in await self._pending()}
            self._looked_at = now
            self._passed = Counter({job: n for job, n in self._passed.items() if job in self._jobs})
            present = {job.about.client for job in self._jobs.values()}
            self._served = {client: at for client, at in self._served.items() if client in present}
        job = self._jobs.get(job_id)
        if job is None:
            return False
        if self._is_passed(job) and self._passed[job_id] < MAX_PASSES:
            self._passed[job_id] += 1
            return True
        self._jobs[job_id] = job.model_copy(update={"state": JobState.RUNNING})
        self._served[job.about.client] = now
        return False

    def _is_passed(self, job: JobStatus) -> bool:
        running = Counter(
            other.about.client
            for other in self._jobs.values()
            if other.state is JobState.RUNNING and other.id != job.id
        )
        waiting = {
            other.about.client
            for other in self._jobs.values()
            if other.state is JobState.QUEUED and other.dependency_down_since is None
        }

        def had(client: str) -> tuple[int, float]:
            return running[client], self._served.get(client, -math.inf)

        return any(had(client) < had(job.about.client) for client in waiting)
