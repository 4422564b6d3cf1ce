"""Looks after a job that runs: is it cancelled, did it end elsewhere, does the process stop?

`Supervisor` polls the job's state twice a second, so changes by another process are seen without a
message. A suspended process repeats its work: its calls may have timed out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from trustscale_server.platform.retry import retried
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.jobs import JobStore

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """This worker stops or was suspended; the task is requeued after `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds


T = TypeVar("T")

# Between tries while the store is unavailable; the last one repeats.
_RETRY_WAITS_S: Final = (0.1, 0.3, 1.0, 3.0)


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

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a store call until it succeeds or patience ends; finished work must be stored.

        Raises StoreUnavailable.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience_s

        def pause(_: StoreUnavailable, calls: int) -> float | None:
            if clock() > deadline or self._interrupted.is_set():
                return None
            return _RETRY_WAITS_S[min(calls, len(_RETRY_WAITS_S)) - 1]

        return await retried(
            call,
            StoreUnavailable,
            pause,
            before_pause=lambda error, _: log.warning(
                "The store is unavailable; trying again: %s", error.detail
            ),
        )

    async def run(self, job: str, work: Coroutine[Any, Any, T]) -> T:
        """Return the answer of the work on a job, or its error.

        Raises JobCancelled, JobEndedElsewhere or Interrupted, after the work has ended.
        """
        clock = asyncio.get_running_loop().time
        looked, has_slept = clock(), False
        task = asyncio.create_task(work)
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            while True:
                await asyncio.wait(
                    {task, interrupted},
                    timeout=0.5,
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
    """Cancel a task and wait for its end; true if it still succeeded.

    It is abandoned after ten seconds.
    """
    task.cancel()
    await asyncio.wait({task}, timeout=10.0)
    if not task.done():
        log.error("Cancelled work does not end; this process no longer waits for it.")
        return False
    return not task.cancelled() and task.exception() is None
