"""The interface between the queue and the code that does the work of a job.

A `Handler`, one coroutine, does a whole job; a `FanOut` does a job of many independent tasks,
spread over all job workers.

Both may run again from the start after a crash, and two runs may overlap after a worker was
suspended. So every effect is idempotent: a result is stored under the job's id, a task is recorded
under job and name, a calibration's id follows from its content. Blocking work runs in
`asyncio.to_thread`: it would delay the renewal of the lease.

`Supervisor` runs that code, which may have to stop: cancelled, ended elsewhere, or because the
worker stops. It polls the job's state twice a second, so changes by another process are seen
without a message. A suspended process repeats its work: its calls may have timed out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from trustscale_server.stores.base import Job, JobStore, Progress, StoreUnavailable


class Interrupted(Exception):
    """This worker stops or was suspended; the task is requeued after so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds


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

    async def progress(self, done: int, total: int, unit: str = "samples") -> None:
        """Store the progress, a few times a second at most.

        While the store is unavailable, nothing is stored and the job continues.
        """
        self.has_generated |= unit in {"samples", "tiles"} and done > 0
        with suppress(StoreUnavailable):
            await self._store.progress(self._job, Progress(done=done, total=total, unit=unit))

    async def note(self, name: str, value: str) -> None:
        """Store a fact that lists show of the job, at the pace of `progress`."""
        with suppress(StoreUnavailable):
            await self._store.note(self._job, name, value)

    def records(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the recorded tasks of this job with their results, sorted."""
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
        """Return the names of all tasks: distinct, not empty, the same at every call."""

    async def run(self, job: Job, task: str) -> bytes:
        """Do one task, on any worker; the bytes are recorded.

        Errors that would recur (BadInput, …) fail the job at once; without its upscaler the task
        runs later; others are retried at once (`TaskRetryPolicy`).
        """

    async def recorded(self, job: Job, task: str) -> None:
        """Delete what `run` kept for a second run, once the task's bytes are stored.

        Raises nothing.
        """

    async def reduce(self, job: Job, context: JobContext) -> str:
        """Combine the tasks' results in `context.records`; returns like `Handler.__call__`."""


Answer = TypeVar("Answer")

LOOK_INTERVAL_S: Final = 0.5

# A cancelled handler that does not end is abandoned after this time.
STOP_TIMEOUT_S: Final = 10.0

# Between tries while the store is unavailable; the last one repeats.
RETRY_WAITS_S: Final = (0.1, 0.3, 1.0, 3.0)

log = logging.getLogger(__name__)


class JobCancelled(Exception):
    """Somebody asked to cancel the job."""


class JobEndedElsewhere(Exception):
    """Another worker has ended the job."""


class Supervisor:
    """Supervises the running work of one process."""

    def __init__(self, jobs: JobStore, *, patience_s: float, lease_s: float) -> None:
        self._jobs = jobs
        self._patience_s = patience_s
        self._lease_s = lease_s
        self._interrupted = asyncio.Event()

    def interrupt(self) -> None:
        """Stop everything that runs, with Interrupted."""
        self._interrupted.set()

    async def insist(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Repeat a store call until it succeeds or patience ends; finished work must be stored.

        Raises StoreUnavailable.
        """
        deadline = asyncio.get_running_loop().time() + self._patience_s
        waits = iter(RETRY_WAITS_S)
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                if asyncio.get_running_loop().time() > deadline or self._interrupted.is_set():
                    raise
                log.warning("The store is unavailable; trying again: %s", error.detail)
                await asyncio.sleep(next(waits, RETRY_WAITS_S[-1]))

    async def run(self, job: str, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Return the answer of the work on a job, or its error.

        Raises JobCancelled, Over or Interrupted, after the work has ended.
        """
        clock = asyncio.get_running_loop().time
        looked, has_slept = clock(), False
        task = asyncio.create_task(work)
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            while True:
                await asyncio.wait(
                    {task, interrupted},
                    timeout=LOOK_INTERVAL_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                has_slept |= clock() - looked > self._lease_s
                looked = clock()
                if task.done():
                    error = task.exception()
                    if isinstance(error, Exception) and has_slept:
                        raise Interrupted from error
                    # A job's uploads go with its end, so a task still running may miss them.
                    if isinstance(error, Exception) and (over := await self._look(job)):
                        raise over from error
                    return task.result()
                reason = Interrupted() if interrupted.done() else await self._look(job)
                if reason is not None:
                    if await _stopped(task):
                        return task.result()
                    raise reason
        finally:
            interrupted.cancel()
            if not task.done():
                await _stopped(task)

    async def _look(self, job: str) -> Exception | None:
        try:
            present = await self._jobs.get(job)
        except StoreUnavailable:
            return None
        if present.cancel_requested:
            return JobCancelled()
        return None if present.is_runnable else JobEndedElsewhere()


async def _stopped(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and wait for its end; true if it still succeeded."""
    task.cancel()
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not task.done():
        log.error("Cancelled work does not end; this process no longer waits for it.")
        return False
    return not task.cancelled() and task.exception() is None
