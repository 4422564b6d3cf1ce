"""Running code that may have to stop: cancelled, overtaken, or because the worker stops.

The store is asked twice a second what has become of the job: this sees a cancellation requested
in any process, and a newer attempt, without trusting any message to arrive. While the store does
not answer, the work goes on; a lost connection is no reason to throw away half an hour.

An attempt at a job also says from time to time that it is alive. A queue under stress delivers
twice; the second delivery then finds that there is nothing to do, instead of overtaking an attempt
that is well, and being overtaken by the third.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from app.jobs.handlers import Interrupted, JobContext, Overtaken
from app.stores.base import Job, JobState, JobStore, StoreUnavailable

Answer = TypeVar("Answer")

# Cancellation must be seen "within seconds", also by jobs in another process.
LOOK_INTERVAL_S: Final = 0.5

# A handler that does not end after being cancelled is left to itself after this time.
STOP_TIMEOUT_S: Final = 10.0

# Waits between tries while the store is away; then every last one, until the patience ends.
RETRY_WAITS_S: Final = (0.1, 0.3, 1.0, 3.0)

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Somebody asked for the cancellation of the job."""


class Supervisor:
    """Watches over running work of one worker process; `interrupt` stops all of it."""

    def __init__(self, jobs: JobStore, *, patience_s: float, beat_s: float = 0.0) -> None:
        self._jobs = jobs
        self._beat_s = beat_s
        self._patience_s = patience_s
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

    async def run(
        self,
        job: Job,
        work: Coroutine[Any, Any, Answer],
        *,
        context: JobContext | None = None,
    ) -> Answer:
        """The answer of the work, or its error.

        Raises Cancelled, Overtaken (with a context: also by a newer attempt) or Interrupted, after
        the work has ended.
        """
        clock = asyncio.get_running_loop().time
        beaten = clock()
        task = asyncio.create_task(work)
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            while True:
                await asyncio.wait(
                    {task, interrupted},
                    timeout=LOOK_INTERVAL_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if task.done():
                    return task.result()
                is_beat = clock() - beaten >= self._beat_s
                if is_beat:
                    beaten = clock()
                reason: Exception | None = Interrupted()
                if not interrupted.done():
                    reason = await self._look(job, context, is_beat=is_beat)
                if reason is not None:
                    if context is not None:
                        context.stop()
                    if await _stopped(task):
                        return task.result()
                    raise reason
        finally:
            interrupted.cancel()
            if not task.done():
                if context is not None:
                    context.stop()
                await _stopped(task)

    async def _look(
        self, job: Job, context: JobContext | None, *, is_beat: bool
    ) -> Exception | None:
        try:
            if is_beat and context is not None:
                await self._jobs.beat(job.id, context.attempt)
            present = await self._jobs.get(job.id)
        except StoreUnavailable:
            return None
        if present.cancel_requested:
            return Cancelled()
        newer = context is not None and present.attempt != context.attempt
        return Overtaken() if newer or present.state is not JobState.RUNNING else None


async def _stopped(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and wait for its end; true if it ended well nevertheless."""
    task.cancel()
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not task.done():
        log.error("Work does not end after its cancellation; it is left to itself.")
        return False
    return not task.cancelled() and task.exception() is None
