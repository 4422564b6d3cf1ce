"""Running code that may have to stop: cancelled, over, or because the worker stops.

The store is asked twice a second what has become of the job: this sees a cancellation requested
in any process, and an end that another worker has made, without trusting any message to arrive.
While the store does not answer, the work goes on; a lost connection is no reason to throw away half
an hour.

A process that was stopped for a while (a debugger, a suspended machine) is seen to have slept. Its
calls may have run into their time-outs meanwhile, which is no fault of the work: it is repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from app.jobs.handlers import Interrupted
from app.stores.base import JobStore, StoreUnavailable

Answer = TypeVar("Answer")

# Cancellation must be seen "within seconds", also by jobs in another process.
LOOK_INTERVAL_S: Final = 0.5

# A handler that does not end after being cancelled is left to itself after this time.
STOP_TIMEOUT_S: Final = 10.0

# Waits between tries while the store is away; then every last one, until the patience ends.
RETRY_WAITS_S: Final = (0.1, 0.3, 1.0, 3.0)

log = logging.getLogger(__name__)


class JobCancelled(Exception):
    """Somebody asked for the cancellation of the job."""


class Over(Exception):
    """The job has ended, by another worker that did the same work: there is nothing to do."""


class Supervisor:
    """Watches over running work of one worker process; `interrupt` stops all of it."""

    def __init__(self, jobs: JobStore, *, patience_s: float, lease_s: float) -> None:
        self._jobs = jobs
        self._patience_s = patience_s
        self._lease_s = lease_s
        self._interrupted = asyncio.Event()

    def interrupt(self) -> None:
        """Stop everything that runs, with Interrupted."""
        self._interrupted.set()

    async def insist(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Call the store until it answers, with patience: what was worked for must be kept.

        Every store call may be repeated. Raises StoreUnavailable when the patience ends.
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
                    # With the end of a job its uploads go, which whoever still is at it may miss.
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
        return None if present.goes_on else Over()


async def _stopped(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and wait for its end; true if it ended well nevertheless."""
    task.cancel()
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not task.done():
        log.error("Work does not end after its cancellation; it is left to itself.")
        return False
    return not task.cancelled() and task.exception() is None
