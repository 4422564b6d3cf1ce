"""Running code that may have to stop: cancelled, ended elsewhere, or because the worker stops.

The job's state is polled twice a second, so changes by another process are seen without a message.
A suspended process repeats its work: its calls may have timed out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from app.jobs.handlers import Interrupted
from app.stores.base import JobStore, StoreUnavailable

Answer = TypeVar("Answer")

LOOK_INTERVAL_S: Final = 0.5

# A cancelled handler that does not end is abandoned after this time.
STOP_TIMEOUT_S: Final = 10.0

# Between tries while the store is unavailable; the last one repeats.
RETRY_WAITS_S: Final = (0.1, 0.3, 1.0, 3.0)

log = logging.getLogger(__name__)


class JobCancelled(Exception):
    """The job is to be cancelled."""


class Over(Exception):
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
        """Repeat a store call until it succeeds or the patience ends: finished work must be stored.

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
                log.warning("The store is away, trying again: %s", error.detail)
                await asyncio.sleep(next(waits, RETRY_WAITS_S[-1]))

    async def run(self, job: str, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer of the work on a job, or its error.

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
        return None if present.is_runnable else Over()


async def _stopped(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and wait for its end; true if it still succeeded."""
    task.cancel()
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not task.done():
        log.error("Work does not end after its cancellation; it is left to itself.")
        return False
    return not task.cancelled() and task.exception() is None
