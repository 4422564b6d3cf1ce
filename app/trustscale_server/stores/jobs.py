"""The store of jobs: their state, and its allowed changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar, get_args

from pydantic import ValidationError

from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put, read_folder
from trustscale_server.stores.job_documents import (
    AWAITING,
    PAST,
    Attempt,
    StoredJob,
    job_key,
    open_jobs,
    records_of,
    request_key,
    running_jobs,
    stored,
    stored_anew,
)
from trustscale_server.stores.job_status import Job, JobKind, JobState, JobStatus, Progress

T = TypeVar("T")

# Records, of kilobytes each, in memory at a time.
_RECORDS_AT_ONCE: Final = 64

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Draft:
    """A stored job while a change of it is decided at `now`.

    is_recorded: whether the task has a record. record: what the task gets as its record.
    """

    status: JobStatus
    attempts: frozenset[Attempt]
    now: datetime
    is_recorded: bool
    record: bytes | None = None

    def update(self, **changes: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=changes)

    def forgive(self, task: str) -> None:
        """End all attempts at a task."""
        self.attempts = frozenset(attempt for attempt in self.attempts if attempt.task != task)

    def close(self, state: JobState, **end: Any) -> None:
        """End the job, and all attempts at it."""
        finished = self.now if state.is_final else None
        self.update(state=state, finished_at=finished, **end)
        self.attempts = frozenset()


class Waiting(NamedTuple):
    """Unfinished jobs of a kind; oldest: when the one that is queued longest was created."""

    queued: int
    running: int
    oldest: datetime | None


class JobStore:
    """The truth about jobs; a queue only carries their ids.

    A job is one task (the empty text), or many that are recorded one by one. Workers may run a task
    twice, with the same result: the first record and the first end count.

    An attempt that remains means a worker that died at the task, or still runs it.

    When a job ends, its request goes, unless it is a calibration's, which pages show.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, job: Job) -> JobStatus:
        """Store a new job; if the id exists, return the stored one."""
        status = _status(job)

        def insert(documents: Sequence[Document]) -> tuple[JobStatus, Changes]:
            if documents[0].version:
                return StoredJob.from_document(documents[0]).status, {}
            return status, stored_anew(status, job.request)

        return await self._documents.change([job_key(job.id)], insert)

    async def renew(self, job: Job) -> None:
        """Replace a job under its id; recorded tasks stay."""
        changes = stored_anew(_status(job), job.request)
        await self._documents.change([], lambda _: (None, changes))

    async def get(self, job: str) -> JobStatus:
        """Return a job without its request. Raises NotFound."""
        return (await self._load(job)).status

    async def load(self, job: str) -> Job:
        """Return a job with its request. Raises NotFound."""
        return Job(**(await self.get(job)).model_dump(), request=await self.request(job))

    async def request(self, job: str) -> dict[str, Any]:
        """Return the request of a job, which never changes.

        Raises NotFound, also for an ended job that is no calibration.
        """
        (request,) = await self._documents.read(request_key(job))
        if not request.version:
            raise _unknown(job)
        document: dict[str, Any] = json.loads(request.value)
        return document

    async def unfinished(self) -> list[JobStatus]:
        """List queued or running jobs, oldest first."""
        jobs = [job for kind in get_args(JobKind) for job in await self._open(kind)]
        return sorted((job for job in jobs if job.is_runnable), key=lambda job: job.created_at)

    async def pending(self, kind: JobKind) -> list[JobStatus]:
        """List the jobs of a kind that have not ended, the newest first."""
        # One may have ended since it was listed.
        return [job for job in await self._open(kind) if not job.state.is_final][::-1]

    async def waiting(self, kind: JobKind) -> Waiting:
        """Count the queued and the running jobs of a kind; one job is read, however many wait."""
        names = await self._documents.names(open_jobs(kind))
        running = set(await self._documents.names(running_jobs(kind))).intersection(names)
        labels = set(await self._documents.names(AWAITING))
        queued = [name for name in names if name not in running and name not in labels]
        oldest = None
        for name in queued:
            with suppress(NotFound):  # removed since it was listed
                oldest = (await self.get(name)).created_at
                break
        return Waiting(len(queued), len(running), oldest)

    async def pending_by_client(self, kind: JobKind) -> Counter[str]:
        """Count the jobs that have not ended by client, without reading any."""
        owners = await read_folder(self._documents, open_jobs(kind))
        return Counter(client.decode() for client in owners.values())

    async def start(
        self, job: str, task: str | None, owner: str, *, alone: bool = False
    ) -> JobStatus | None:
        """Start a task: its job is running, and `owner` has an attempt at it.

        None if there is nothing to do: the job is unknown, final, awaiting labels or to be
        cancelled (it then is), or the task is recorded. Without a task the job runs without
        attempts.
        """

        def begin(draft: _Draft) -> JobStatus | None:
            if not draft.status.is_runnable or draft.is_recorded:
                return None
            if draft.status.cancel_requested:
                draft.close(JobState.CANCELLED)
                return None
            since = draft.status.started_at or draft.now
            draft.update(state=JobState.RUNNING, started_at=since)
            if task is not None:
                draft.attempts |= {Attempt(owner, task, alone)}
            return draft.status

        with suppress(NotFound):
            return await self._change(job, begin, task)
        return None

    async def attempts(self, job: str, task: str) -> set[Attempt]:
        """Return the attempts at a task that have not ended."""
        with suppress(NotFound):
            return {attempt for attempt in (await self._load(job)).attempts if attempt.task == task}
        return set()

    async def end(self, job: str, task: str, *, away: bool = False) -> None:
        """End a task without a result; a running job without attempts is queued again.

        away: a dependency of the task is unavailable; the first such time since progress is kept.
        """

        def leave(draft: _Draft) -> None:
            draft.forgive(task)
            if not draft.status.is_runnable:
                return
            if away and draft.status.dependency_down_since is None:
                draft.update(dependency_down_since=draft.now)
            if not draft.attempts:
                draft.update(state=JobState.QUEUED)

        with suppress(NotFound):
            await self._change(job, leave)

    async def record(self, job: str, task: str, value: bytes) -> bool:
        """Store the result of a task unless there is one. False if the job has ended."""

        def keep(draft: _Draft) -> bool:
            if not draft.status.is_runnable:
                return False
            draft.record = value
            draft.forgive(task)
            draft.update(dependency_down_since=None)
            return True

        with suppress(NotFound):
            return await self._change(job, keep, task)
        return False

    async def recorded_tasks(self, job: str) -> set[str]:
        """Return the recorded tasks of a job."""
        return set(await self._documents.names(records_of(job)))

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the recorded tasks with their results, sorted, a few at a time in memory."""
        tasks = sorted(await self.recorded_tasks(job))
        for start in range(0, len(tasks), _RECORDS_AT_ONCE):
            batch = tasks[start : start + _RECORDS_AT_ONCE]
            values = await self._documents.read(*(Key(records_of(job), task) for task in batch))
            for task, document in zip(batch, values, strict=True):
                if document.version:
                    yield task, document.value

    async def progress(self, job: str, progress: Progress) -> None:
        """Store the progress of an unfinished job."""

        def advance(draft: _Draft) -> None:
            if not draft.status.is_runnable:
                return
            if progress.done > draft.status.progress.done:
                draft.update(dependency_down_since=None)
            draft.update(progress=progress)

        with suppress(NotFound):
            await self._change(job, advance, durable=False)

    async def note(self, job: str, **about: Any) -> None:
        """Change fields of what lists show of an unfinished job."""

        def add(draft: _Draft) -> None:
            if draft.status.is_runnable:
                draft.update(about=draft.status.about.model_copy(update=about))

        with suppress(NotFound):
            await self._change(job, add)

    async def finish(
        self,
        job: str,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        """End an unfinished job (a final state, or awaiting_labels), and all attempts at it.

        True if it now has this end, also from an earlier call; False if it is unknown. Raises
        ValueError for a state that is no end.
        """
        if not state.is_final and state is not JobState.AWAITING_LABELS:
            raise ValueError(f"{state} does not end a job")

        def close(draft: _Draft) -> bool:
            if draft.status.is_runnable:
                draft.close(state, result=result, error=error)
            present = draft.status
            return (present.state, present.result, present.error) == (state, result, error)

        with suppress(NotFound):
            return await self._change(job, close)
        return False

    async def resume(self, job: str) -> JobStatus:
        """Queue a job that awaits labels; any other stays as it is. Raises NotFound."""

        def requeue(draft: _Draft) -> JobStatus:
            if draft.status.state is JobState.AWAITING_LABELS:
                draft.update(state=JobState.QUEUED)
            return draft.status

        return await self._change(job, requeue)

    async def request_cancel(self, job: str) -> JobStatus:
        """Cancel a waiting job, mark a running one; a final one stays as it is.

        Raises NotFound.
        """

        def mark(draft: _Draft) -> JobStatus:
            if not draft.status.state.is_final:
                draft.update(cancel_requested=True)
                if draft.status.state is not JobState.RUNNING:
                    draft.close(JobState.CANCELLED)
            return draft.status

        try:
            return await self._change(job, mark)
        except NotFound:
            return await self.get(job)  # of a past job

    async def watch(self, job: str) -> AsyncGenerator[JobStatus, None]:
        """Yield the job now and after every change, up to its end (or awaiting_labels).

        Changes in quick succession may be merged. Raises NotFound.
        """
        seen: JobStatus | None = None
        while True:
            present = await self.get(job)
            if present != seen:
                seen = present
                yield present
                if not present.is_runnable:
                    return
            # Another process may change the job, so this polls; a look takes tens of microseconds.
            await asyncio.sleep(0.2)

    async def now(self) -> datetime:
        """Return the time by the clock of the store, which times of jobs are taken from."""
        return datetime.fromtimestamp(await self._documents.time(), UTC)

    async def _load(self, job: str) -> StoredJob:
        for key in (job_key(job), Key(PAST, job)):
            (document,) = await self._documents.read(key)
            if document.version:
                return StoredJob.from_document(document)
        raise _unknown(job)

    async def _open(self, kind: JobKind) -> list[JobStatus]:
        """A kind's jobs that have not ended, the oldest first; a damaged one is logged."""
        names = await self._documents.names(open_jobs(kind))
        documents = await self._documents.read(*map(job_key, names))
        jobs = []
        for name, document in zip(names, documents, strict=True):
            if not document.version:  # removed since it was listed
                continue
            try:
                jobs.append(StoredJob.from_document(document).status)
            except ValidationError as error:
                log.error("The job %s in the store cannot be read: %s", name, error)  # noqa: TRY400
        return jobs

    async def _change(
        self,
        job: str,
        decide: Callable[[_Draft], T],
        task: str | None = None,
        *,
        durable: bool = True,
    ) -> T:
        """Store what `decide` does to a draft of the job; return its answer. Raises NotFound."""
        record = [] if task is None else [Key(records_of(job), task)]
        now = await self.now()

        def change(documents: Sequence[Document]) -> tuple[T, Changes]:
            document, *records = documents
            if not document.version:
                raise _unknown(job)
            before = StoredJob.from_document(document)
            is_recorded = any(document.version for document in records)
            draft = _Draft(before.status, before.attempts, now, is_recorded)
            answer = decide(draft)
            after = StoredJob(status=draft.status, attempts=draft.attempts)
            changes = {} if after == before else stored(after, now)
            if draft.record is not None and not is_recorded:
                changes[record[0]] = Put(draft.record)
            return answer, changes

        return await self._documents.change([job_key(job), *record], change, durable=durable)


def _status(job: Job) -> JobStatus:
    return JobStatus(**job.model_dump(exclude={"request"}))


def _unknown(job: str) -> NotFound:
    return NotFound(f"There is no job {job}.")
