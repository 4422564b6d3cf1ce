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


class Act(NamedTuple):
    """Somebody is doing a unit of a job; the empty text is the job in one piece."""

    owner: str
    unit: str


@dataclass(slots=True)
class Draft:
    """A job while it is decided what becomes of it; `has_record` and `value` are of one unit."""

    status: JobStatus
    acts: frozenset[Act]
    has_record: bool
    value: bytes | None = None

    def update(self, **changes: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=changes)

    def close(self, state: JobState, **end: Any) -> None:
        """End the job, and all acts at it."""
        finished = datetime.now(UTC) if state.is_final else None
        self.update(state=state, finished_at=finished, **end)
        self.acts = frozenset()


Decide: TypeAlias = Callable[[Draft], Answer]
"""Changes a draft; what it answers is told to whoever asked for the change."""


class JobStore(ABC):
    """The truth about jobs; a queue only carries their ids.

    Pieces: a job is done in one piece (its unit is then the empty text), or in units that are
    recorded one by one (the pairs of a calibration). A piece may be done twice, by workers that do
    not know of each other, and is the same whoever does it: the first record and the first end
    count, and every write may be repeated.

    Acts: whoever begins a piece leaves its name, and takes it back when the piece ends, well or
    not. A name that stays is of one who died in the act, or who still is in it.
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
        status = await self.get(job)
        request = await self._request(job)
        if request is None:
            raise no_job(job)
        return Job(**status.model_dump(), request=json.loads(request))

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

    async def start(self, job: str, unit: str | None, owner: str) -> JobStatus | None:
        """Begin a piece: the job runs, and the owner is in the act. None if there is nothing to do.

        There is nothing to do when the job is unknown, final or awaiting labels, its cancellation
        was requested (it is then cancelled), or the unit is recorded. Without a unit the job runs,
        and nobody is in an act.
        """

        def begin(draft: Draft) -> JobStatus | None:
            if not draft.status.goes_on or draft.has_record:
                return None
            if draft.status.cancel_requested:
                draft.close(JobState.CANCELLED)
                return None
            since = draft.status.started_at or datetime.now(UTC)
            draft.update(state=JobState.RUNNING, started_at=since)
            if unit is not None:
                draft.acts |= {Act(owner, unit)}
            return draft.status

        with suppress(NotFound):
            return await self._change(job, begin, unit)
        return None

    async def acts(self, job: str, unit: str | None = None) -> set[str]:
        """The owners that have begun a piece and not said that it ended; None: any of the job."""
        return {act.owner for act in await self._acts(job) if unit in {act.unit, None}}

    async def end(self, job: str, unit: str, owner: str) -> None:
        """An act ended without a result; a running job without any act is queued again."""

        def leave(draft: Draft) -> None:
            draft.acts -= {Act(owner, unit)}
            if draft.status.state is JobState.RUNNING and not draft.acts:
                draft.update(state=JobState.QUEUED)

        with suppress(NotFound):
            await self._change(job, leave)

    async def record(self, job: str, unit: str, value: bytes) -> bool:
        """Keep the result of a unit, unless there is one; all acts at it are over and forgiven.

        False if the job does not go on.
        """

        def keep(draft: Draft) -> bool:
            if not draft.status.goes_on:
                return False
            draft.value = value
            draft.acts = frozenset(act for act in draft.acts if act.unit != unit)
            return True

        with suppress(NotFound):
            return await self._change(job, keep, unit)
        return False

    @abstractmethod
    async def recorded(self, job: str) -> set[str]:
        """The units of a job that are recorded."""

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        """All recorded units of a job, in their order, a few at a time in memory."""
        units = sorted(await self.recorded(job))
        for start in range(0, len(units), RECORDS_AT_ONCE):
            some = units[start : start + RECORDS_AT_ONCE]
            values = await self._values(job, some)
            for unit in some:
                if unit in values:  # else it was removed meanwhile
                    yield unit, values[unit]

    async def progress(self, job: str, progress: Progress) -> None:
        """Show how far a job is, if it goes on."""

        def show(draft: Draft) -> None:
            if draft.status.goes_on:
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
        """End a job that goes on (a final state, or awaiting_labels), and all acts at it.

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
    async def _acts(self, job: str) -> set[Act]:
        """All acts at a job."""

    @abstractmethod
    async def _values(self, job: str, units: Sequence[str]) -> Mapping[str, bytes]:
        """What is recorded of these units."""

    @abstractmethod
    async def _change(
        self, job: str, decide: Decide[Answer], unit: str | None = None, *, durable: bool = True
    ) -> Answer:
        """Store what is decided about a job and perhaps one unit, with nothing in between.

        The decision may be asked for again. A value is stored unless the unit has one. Not
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
