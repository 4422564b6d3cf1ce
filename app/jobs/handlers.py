"""What the queue asks of the code that does the work of a job, and what it offers to it.

A job is done by a `Handler`: one coroutine. A job of many independent parts (the pairs of a
calibration) is done by a `FanOut`, whose parts are spread over all job workers.

Both may run again from the start after a crash, and two runs may overlap when a worker only slept.
So every effect is the same when it is done twice: a result is stored under the job's id, a part is
recorded under the job and its name, a calibration's id follows from its content, and it is
activated only while its job goes on. Work that blocks (pixels, models) goes through
`asyncio.to_thread`: on the event loop it would hold up the renewal of the lease, and the job would
be started a second time elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from app.stores.base import Job, JobStore, Progress, StoreUnavailable


class Interrupted(Exception):
    """This worker stops, or has slept: the work goes back to the queue.

    It is taken up again after so many seconds.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds


class Later(Interrupted):
    """The work itself wants to be taken up again later."""


class GivenUp(Exception):
    """The job has been tried as often as it may be; the reason in words."""


class JobContext:
    """A job that runs, as its handler sees it."""

    def __init__(self, job: str, store: JobStore) -> None:
        self._job = job
        self._store = store
        self.has_generated = False
        """Whether samples have come: whoever runs the job again has to generate, and pay, again."""

    async def progress(self, done: int, total: int, unit: str = "samples") -> None:
        """Show how far the job is. Cheap, but not free: a few times a second at most.

        Nobody sees it while the store is away; the job goes on.
        """
        self.has_generated |= unit in {"samples", "tiles"} and done > 0
        with suppress(StoreUnavailable):
            await self._store.progress(self._job, Progress(done=done, total=total, unit=unit))

    def records(self) -> AsyncIterator[tuple[str, bytes]]:
        """What is recorded of this job, in the order of the parts."""
        return self._store.records(self._job)


class Handler(Protocol):
    """Does a job in one piece."""

    async def __call__(self, job: Job, context: JobContext) -> str:
        """The link of the result, or `JobState.AWAITING_LABELS` to wait for a person.

        A TrustscaleError fails the job with its problem; StoreUnavailable, UpscalerUnavailable and
        Later send it back to the queue. asyncio.CancelledError arrives within two
        seconds after cancellation was requested in any process.
        """


@runtime_checkable
class FanOut(Protocol):
    """Does a job in parts, each recorded, on all job workers at once."""

    async def tasks(self, job: Job) -> Sequence[str]:
        """The names of all parts, distinct, not empty, the same whenever they are asked for."""

    async def run(self, job: Job, task: str) -> bytes:
        """Do one part; the bytes are recorded.

        Runs on any worker. BadInput, NotFound, UpscalerRejected and the like fail the job at
        once; after an upscaler that is away the part is run again later; after other errors it is
        tried again at once (`RetryPolicy`).
        """

    async def reduce(self, job: Job, context: JobContext) -> str:
        """Put the parts together, which `context.records` holds; as `Handler.__call__`."""
