"""What does jobs: one coroutine (`Handler`), or tasks on all job workers at once (`FanOut`).

Both may run again from the start after a crash, and two runs may overlap after a worker was
suspended. So every effect is idempotent: a result is stored under the job's id, a task is recorded
under job and name, a calibration's id follows from its content. Blocking work runs in
`asyncio.to_thread`: it would delay the renewal of the lease.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from trustscale_server.jobs.supervisor import Interrupted
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import Job, Progress
from trustscale_server.stores.jobs import JobStore


class RetryLater(Interrupted):
    """The work asks to be run again later."""


class RetriesExhausted(Exception):
    """The job has used all its attempts; the text is the reason."""


class JobContext:
    """A running job, as its handler sees it."""

    def __init__(self, job: str, store: JobStore) -> None:
        self._job = job
        self._store = store
        self.has_generated = False
        """Whether there were samples, which another run pays for again."""
        self.attributes: dict[str, Any] = {}
        """What the log line of its end says beside the rest."""

    async def progress(self, done: int, total: int, unit: str = "samples") -> None:
        """Store the progress, a few times a second at most.

        While the store is unavailable, nothing is stored and the job continues.
        """
        self.has_generated |= unit in {"samples", "tiles"} and done > 0
        with suppress(StoreUnavailable):
            await self._store.progress(self._job, Progress(done=done, total=total, unit=unit))

    async def note(self, **about: Any) -> None:
        """Change fields of what lists show of the job (`JobAbout`); as `progress`."""
        with suppress(StoreUnavailable):
            await self._store.note(self._job, **about)

    def records(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the recorded tasks of this job with their results, sorted."""
        return self._store.records(self._job)


class Handler(Protocol):
    """Does a whole job."""

    async def __call__(self, job: Job, context: JobContext) -> str:
        """The link of the result, or `JobState.AWAITING_LABELS`.

        A TrustscaleError fails the job with its problem; StoreUnavailable, UpscalerUnavailable and
        RetryLater requeue it. asyncio.CancelledError arrives within two seconds after a
        cancellation in any process.
        """


@runtime_checkable
class FanOut(Protocol):
    """Does a job in tasks, on all job workers at once."""

    async def tasks(self, job: Job) -> Sequence[str]:
        """Return the names of all tasks: distinct, not empty, the same at every call."""

    async def run(self, job: Job, task: str) -> bytes:
        """Do one task, on any worker; the bytes are recorded.

        Errors that would recur (BadInput, …) fail the job at once; without its upscaler the task
        runs later; others are retried at once (`TaskRetryPolicy`).
        """

    async def after_recording(self, job: Job, task: str) -> None:
        """Delete what `run` kept for a second run, once the task's bytes are stored.

        Raises nothing.
        """

    async def reduce(self, job: Job, context: JobContext) -> str:
        """Combine the tasks' results in `context.records`; returns like `Handler.__call__`."""
