"""What may become of jobs, whatever store keeps them.

It is decided here, on a `Draft` of the job. A backend (`sqlite_jobs.py`,
`redis_jobs.py`) reads and writes the fields of jobs, and lets nothing happen in between.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from pydantic import ValidationError

from app.errors import NotFound
from app.stores.job import (
    Fields,
    Job,
    JobKind,
    JobState,
    JobStatus,
    Progress,
    no_job,
    status_of,
)

Answer = TypeVar("Answer")

# Records are kilobytes each; this many are in memory at a time.
RECORDS_AT_ONCE: Final = 64

log = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """Somebody runs a task of a job; the empty text is the whole job.

    alone: whether nothing else ran in its process.
    """

    owner: str
    task: str
    alone: bool = False


@dataclass(slots=True)
class Draft:
    """A job while it is decided what becomes of it; `has_record` and `value` are of one task."""

    status: JobStatus
    attempts: frozenset[Attempt]
    has_record: bool
    value: bytes | None = None

    def update(self, **changes: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=changes)

    def forgive(self, task: str) -> None:
        """End all attempts at a task."""
        self.attempts = frozenset(one for one in self.attempts if one.task != task)

    def close(self, state: JobState, **end: Any) -> None:
        """End the job, and all attempts at it."""
        finished = datetime.now(UTC) if state.is_final else None
        self.update(state=state, finished_at=finished, **end)
        self.attempts = frozenset()


Decide: TypeAlias = Callable[[Draft], Answer]
"""Changes a draft; what it answers is told to whoever asked for the change."""


class JobStore(ABC):
    """The truth about jobs; a queue only carries their ids.

    Tasks: a job is one task (the empty text), or many that are recorded one by one (the pairs of a
    calibration). A task may be done twice, by workers that do not know of each other, and is the
    same whoever does it: the first record and the first end count, and every call may be repeated.

    Attempts: whoever starts a task leaves its name, and any end of the task removes all names. A
    name that stays is of one who died at it, or who still is at it.
    """

    async def create(self, job: Job) -> JobStatus:
        """Store a new job; if the id exists, return the stored one unchanged."""
        await self._insert(job)
        return await self.get(job.id)

    async def get(self, job: str) -> JobStatus:
        """Raises NotFound."""
        fields = await self._fields(job)
        if fields is None:
            raise no_job(job)
        return status_of(fields)

    async def load(self, job: str) -> Job:
        """The job with its request. Raises NotFound."""
        return Job(**(await self.get(job)).model_dump(), request=await self.request(job))

    async def request(self, job: str) -> dict[str, Any]:
        """The request, which never changes. Raises NotFound."""
        request = await self._request(job)
        if request is None:
            raise no_job(job)
        found: dict[str, Any] = json.loads(request)
        return found

    async def unfinished(self) -> list[JobStatus]:
        """Jobs that are queued or running, the oldest first: what a restart must submit again."""
        return [job for job in _readable(await self._open()) if job.goes_on]

    async def pending(self, kind: JobKind) -> list[JobStatus]:
        """Jobs of a kind that are queued, running or awaiting labels, the newest first."""
        found = _readable(reversed(await self._open()))
        # One may have ended since it was listed.
        return [job for job in found if job.kind == kind and not job.state.is_final]

    @abstractmethod
    async def count_pending(self, kind: JobKind) -> int:
        """How many there are of these; no job is read."""

    async def start(
        self, job: str, task: str | None, owner: str, *, alone: bool = False
    ) -> JobStatus | None:
        """Start a task: the job runs, and the owner is at it. None if there is nothing to do.

        There is nothing to do when the job is unknown, final or awaiting labels, its cancellation
        was requested (it is then cancelled), or the task is recorded. Without a task the job runs,
        and nobody is at one.
        """

        def begin(draft: Draft) -> JobStatus | None:
            if not draft.status.goes_on or draft.has_record:
                return None
            if draft.status.cancel_requested:
                draft.close(JobState.CANCELLED)
                return None
            since = draft.status.started_at or datetime.now(UTC)
            draft.update(state=JobState.RUNNING, started_at=since)
            if task is not None:
                draft.attempts |= {Attempt(owner, task, alone)}
            return draft.status

        with suppress(NotFound):
            return await self._change(job, begin, task)
        return None

    async def attempts(self, job: str, task: str) -> set[Attempt]:
        """The attempts at a task that were started and have not ended."""
        return {one for one in await self._attempts(job) if one.task == task}

    async def end(self, job: str, task: str, *, away: bool = False) -> None:
        """A task ended without a result; a running job without any attempt is queued again.

        away: something that the task needs is away; the time of the first such end since there was
        progress is kept.
        """

        def leave(draft: Draft) -> None:
            draft.forgive(task)
            if not draft.status.goes_on:
                return
            if away and draft.status.away_since is None:
                draft.update(away_since=datetime.now(UTC))
            if not draft.attempts:
                draft.update(state=JobState.QUEUED)

        with suppress(NotFound):
            await self._change(job, leave)

    async def record(self, job: str, task: str, value: bytes) -> bool:
        """Keep the result of a task, unless there is one. False if the job does not go on."""

        def keep(draft: Draft) -> bool:
            if not draft.status.goes_on:
                return False
            draft.value = value
            draft.forgive(task)
            draft.update(away_since=None)
            return True

        with suppress(NotFound):
            return await self._change(job, keep, task)
        return False

    @abstractmethod
    async def recorded(self, job: str) -> set[str]:
        """The tasks of a job that are recorded."""

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        """All recorded tasks of a job, in their order, a few at a time in memory."""
        tasks = sorted(await self.recorded(job))
        for start in range(0, len(tasks), RECORDS_AT_ONCE):
            some = tasks[start : start + RECORDS_AT_ONCE]
            values = await self._values(job, some)
            for task in some:
                if task in values:  # else it was removed meanwhile
                    yield task, values[task]

    async def progress(self, job: str, progress: Progress) -> None:
        """Show how far a job is, if it goes on."""

        def show(draft: Draft) -> None:
            if not draft.status.goes_on:
                return
            if progress.done > draft.status.progress.done:
                draft.update(away_since=None)
            draft.update(progress=progress)

        with suppress(NotFound):
            await self._change(job, show, durable=False)

    async def finish(
        self,
        job: str,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        """End a job that goes on (a final state, or awaiting_labels), and all attempts at it.

        True if this is the end that it has, also when it was told before; False if it is unknown.
        Raises ValueError for a state that ends nothing.
        """
        if not state.is_final and state is not JobState.AWAITING_LABELS:
            raise ValueError(f"{state} does not end a job")

        def close(draft: Draft) -> bool:
            if draft.status.goes_on:
                draft.close(state, result=result, error=error)
            present = draft.status
            return (present.state, present.result, present.error) == (state, result, error)

        with suppress(NotFound):
            return await self._change(job, close)
        return False

    async def resume(self, job: str) -> JobStatus:
        """Queue a job that awaits labels again; any other job is returned unchanged.

        Raises NotFound.
        """

        def requeue(draft: Draft) -> JobStatus:
            if draft.status.state is JobState.AWAITING_LABELS:
                draft.update(state=JobState.QUEUED)
            return draft.status

        return await self._change(job, requeue)

    async def request_cancel(self, job: str) -> JobStatus:
        """Ask for cancellation: a waiting job becomes cancelled at once, a running one is marked.

        Raises NotFound. A final job is returned unchanged.
        """

        def mark(draft: Draft) -> JobStatus:
            if not draft.status.state.is_final:
                draft.update(cancel_requested=True)
                if draft.status.state is not JobState.RUNNING:
                    draft.close(JobState.CANCELLED)
            return draft.status

        return await self._change(job, mark)

    async def watch(self, job: str) -> AsyncGenerator[JobStatus, None]:
        """The job now and after every change, ending with a final state (or awaiting_labels).

        Changes in quick succession may be merged. Raises NotFound.
        """
        seen: JobStatus | None = None
        async with self._news(job) as wait:
            while True:
                present = await self.get(job)
                if present != seen:
                    seen = present
                    yield present
                    if not present.goes_on:
                        return
                await wait()

    @abstractmethod
    async def expire(self, before: datetime) -> Sequence[str]:
        """Remove final jobs that finished before a time, with all that is theirs; their ids."""

    @abstractmethod
    async def _insert(self, job: Job) -> None:
        """Store a job, unless there is one of its id."""

    @abstractmethod
    async def _fields(self, job: str) -> Fields | None:
        """The stored fields; None if there is no such job."""

    @abstractmethod
    async def _open(self) -> Sequence[Fields]:
        """The fields of all jobs that are not final, the oldest first."""

    @abstractmethod
    async def _request(self, job: str) -> str | bytes | None:
        """The request, as JSON."""

    @abstractmethod
    async def _attempts(self, job: str) -> set[Attempt]:
        """All attempts at a job."""

    @abstractmethod
    async def _values(self, job: str, tasks: Sequence[str]) -> Mapping[str, bytes]:
        """What is recorded of these tasks."""

    @abstractmethod
    async def _change(
        self, job: str, decide: Decide[Answer], task: str | None = None, *, durable: bool = True
    ) -> Answer:
        """Store what is decided about a job and perhaps one task, with nothing in between.

        The decision may be asked for again. A value is stored unless the task has one. Not
        `durable`: a power cut may undo it. Raises NotFound.
        """

    @abstractmethod
    def _news(self, job: str) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """What waits for the next change, or for a moment after which it is time to look."""


def _readable(found: Iterable[Fields]) -> Iterable[JobStatus]:
    """The jobs; one that is damaged is logged, and keeps no other from being run."""
    for fields in found:
        try:
            yield status_of(fields)
        except (ValidationError, ValueError) as error:
            log.error("The job %s in the store cannot be read: %s", fields["id"], error)  # noqa: TRY400
