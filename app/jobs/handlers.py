"""What the queue asks of the code that does the work of a job, and what it offers to it.

A job is done by a `Handler`: one coroutine. A job of many independent parts (the pairs of a
calibration) is done by a `FanOut`, whose parts are spread over all job workers.

Both may run again from the start after a crash, and two runs may overlap for a moment when a
worker was only believed dead. So every effect is either the same when done twice (results and
calibrations named after the job), or guarded by `JobContext.fence`. Work that blocks (pixels,
models) goes through `asyncio.to_thread`: on the event loop it would hold up the renewal of the
lease, and the job would be started a second time elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from app.stores.base import Fence, Job, JobStore, Progress, StoreUnavailable

# Calls the store until it answers.
Insist = Callable[[Callable[[], Awaitable[bool]]], Awaitable[bool]]


class Overtaken(Exception):
    """This attempt is not the latest any more, or its job has ended: stop, publish nothing."""


class Interrupted(Exception):
    """This worker stops: the job goes back to the queue, and the attempt is not counted."""


async def _once(call: Callable[[], Awaitable[bool]]) -> bool:
    return await call()


class JobContext:
    """One attempt at one job, as its handler sees it.

    `record` and `progress` raise Overtaken once the attempt was overtaken; a handler lets it pass.
    """

    def __init__(self, job: Job, store: JobStore, *, insist: Insist = _once) -> None:
        self._job = job
        self._insist = insist
        self._store = store
        self._stopping = False

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        return self._job.attempt

    @property
    def fence(self) -> Fence:
        """Guards an activation: `CalibrationStore.activate(…, fence=context.fence)`."""
        return Fence(self._job.id, self._job.attempt)

    def cancelled(self) -> bool:
        """Whether to stop; for code in threads, which asyncio cannot interrupt."""
        return self._stopping

    def stop(self) -> None:
        """Make `cancelled` true. The queue calls it together with cancelling the handler."""
        self._stopping = True

    async def progress(self, done: int, total: int, unit: str = "samples") -> None:
        """Show how far the job is. Cheap, but not free: a few times a second at most.

        Nobody sees it while the store is away; the job goes on.
        """
        told = Progress(done=done, total=total, unit=unit)
        with suppress(StoreUnavailable):
            if not await self._store.progress(self._job.id, self.attempt, told):
                raise Overtaken

    async def record(self, key: str, value: bytes) -> None:
        """Keep a checkpoint that later attempts find in `records`; waits for a store away."""
        if not await self._insist(
            lambda: self._store.record(self._job.id, self.attempt, key, value)
        ):
            raise Overtaken

    async def recorded(self) -> set[str]:
        """The keys of all checkpoints of this job, of all attempts."""
        return await self._store.recorded(self._job.id)

    def records(self) -> AsyncIterator[tuple[str, bytes]]:
        """All checkpoints of this job, of all attempts, in the order of their keys."""
        return self._store.records(self._job.id)


class Handler(Protocol):
    """Does a job in one piece."""

    async def __call__(self, job: Job, context: JobContext) -> str:
        """The link of the result, or `JobState.AWAITING_LABELS` to wait for a person.

        A TrustscaleError fails the job with its problem; StoreUnavailable is no fault of the job
        and sends it back to the queue. asyncio.CancelledError arrives within two seconds after
        cancellation was requested in any process.
        """
        ...


@runtime_checkable
class FanOut(Protocol):
    """Does a job in parts, each checkpointed, on all job workers at once."""

    async def units(self, job: Job) -> Sequence[str]:
        """The names of all parts, distinct, the same at every attempt."""
        ...

    async def unit(self, job: Job, unit: str) -> bytes:
        """Do one part; the bytes are its checkpoint.

        Runs on any worker. BadInput, NotFound, UpscalerRejected and the like fail the job at
        once; after other errors the part is tried again, three times in all.
        """
        ...

    async def reduce(self, job: Job, context: JobContext) -> str:
        """Put the parts together, which `context.records` holds; as `Handler.__call__`."""
        ...
