"""The interface between the queue and the code that does the work of a job.

A `Handler`, one coroutine, does a whole job; a `FanOut` does a job of many independent tasks,
spread over all job workers.

Both may run again from the start after a crash, and two runs may overlap after a worker was
suspended. So every effect is idempotent: a result is stored under the job's id, a task is recorded
under job and name, a calibration's id follows from its content. Blocking work runs in
`asyncio.to_thread`: it would delay the renewal of the lease.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from app.stores.base import Job, JobStore, Progress, StoreUnavailable


class Interrupted(Exception):
    """This worker stops, or was suspended: the task is requeued after this many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds


class Later(Interrupted):
    """The work asks to run again later."""


class GivenUp(Exception):
    """The job has used all its attempts; the reason as text."""


class JobContext:
    """A running job, as its handler sees it."""

    def __init__(self, job: str, store: JobStore) -> None:
        self._job = job
        self._store = store
        self.has_generated = False
        """Whether there were samples, which another run pays for again."""

    async def progress(self, done: int, total: int, unit: str = "samples") -> None:
        """Store the progress, a few times a second at most.

        While the store is unavailable, nothing is stored and the job continues.
        """
        self.has_generated |= unit in {"samples", "tiles"} and done > 0
        with suppress(StoreUnavailable):
            await self._store.progress(self._job, Progress(done=done, total=total, unit=unit))

    def records(self) -> AsyncIterator[tuple[str, bytes]]:
        """The recorded tasks of this job with their results, sorted."""
        return self._store.records(self._job)


class Handler(Protocol):
    """Does a whole job."""

    async def __call__(self, job: Job, context: JobContext) -> str:
        """The link of the result, or `JobState.AWAITING_LABELS`.

        A TrustscaleError fails the job with its problem; StoreUnavailable, UpscalerUnavailable and
        Later requeue it. asyncio.CancelledError arrives within two seconds after a cancellation in
        any process.
        """


@runtime_checkable
class FanOut(Protocol):
    """Does a job in tasks, on all job workers at once."""

    async def tasks(self, job: Job) -> Sequence[str]:
        """The names of all tasks: distinct, not empty, the same at every call."""

    async def run(self, job: Job, task: str) -> bytes:
        """Do one task, on any worker; the bytes are recorded.

        Errors that would recur (BadInput, …) fail the job at once; without its upscaler the task
        runs later; others are retried at once (`RetryPolicy`).
        """

    async def reduce(self, job: Job, context: JobContext) -> str:
        """Combine the tasks' results in `context.records`; as `Handler.__call__`."""
