"""Jobs: their state, and its allowed changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.documents import (
    Changes,
    Document,
    Documents,
    Key,
    Put,
    read_folder,
)
from trustscale_server.stores.usage import CALLS_OF_JOBS

T = TypeVar("T")

JOB_PREFIX: Final = "job-"
"""How the ids of jobs begin; those of the command line's own runs begin otherwise."""

# Records, of kilobytes each, in memory at a time.
_RECORDS_AT_ONCE: Final = 64

# What a past job keeps of `about`: who may see it, and whether somebody must look at its picture.
_KEPT_ABOUT: Final = frozenset({"client", "key", "needs_review"})

# Watchers poll, since another process may change a job; a look takes some tens of microseconds.
_WATCH_INTERVAL_S: Final = 0.2

_ENDED: Final = "jobs-ended"
_PAST: Final = "jobs-past"
_AWAITING: Final = "jobs-awaiting-labels"

_EPOCH: Final = datetime.fromtimestamp(0, UTC)

log = logging.getLogger(__name__)


class JobState(StrEnum):
    """The state of a job; `awaiting_labels` waits for a person, not for a worker.

    `expired` is not stored: it is shown for a succeeded job without its result.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    AWAITING_LABELS = "awaiting_labels"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class Progress(BaseModel):
    """`done` of `total` units."""

    done: int = 0
    total: int = 0
    unit: str = "samples"


JobKind = Literal["upscale", "calibration", "webhook"]


class VisibleJob(BaseModel):
    """What is stored of a job and shown to its client as it is."""

    id: str
    kind: JobKind
    state: JobState = JobState.QUEUED
    progress: Progress = Progress()
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: str | None = None
    dependency_down_since: datetime | None = Field(
        None,
        description="Since when a dependency has been unavailable, which is retried; null "
        "if all are available.",
    )


class JobStatus(VisibleJob):
    """A job without its request, small enough to be read again and again.

    about: what lists show of the request, and its client. dependency_down_since: when a dependency
    was first found unavailable since there was progress. trace: of the submitting request
    (`platform/telemetry/otel.py`).
    """

    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    trace: str | None = None
    about: dict[str, str | None] = {}

    @property
    def needs_review(self) -> bool | None:
        """Whether somebody must look at its picture; None is not known."""
        noted = self.about.get("needs_review")
        return None if noted is None else noted == "yes"

    @property
    def is_runnable(self) -> bool:
        """Whether workers have something to do."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}


class Job(JobStatus):
    """A job with its request: all that it needs to run, again and again, from the start."""

    request: dict[str, Any]


class Attempt(NamedTuple):
    """A worker runs a task of a job; the empty text is the whole job.

    alone: nothing else ran in its process.
    """

    owner: str
    task: str
    alone: bool = False


class MutableJob(BaseModel):
    """A job as stored, while a change is decided at `now`.

    has_record, value: of one task.
    """

    status: JobStatus
    attempts: frozenset[Attempt] = frozenset()
    now: datetime = Field(default=_EPOCH, exclude=True)
    has_record: bool = Field(default=False, exclude=True)
    value: bytes | None = Field(default=None, exclude=True)

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


_ChangeJob: TypeAlias = Callable[[MutableJob], T]
"""Changes a draft; returns the answer to the caller."""


class JobStore:
    """The truth about jobs; a queue only carries their ids.

    A job is one task (the empty text), or many that are recorded one by one. Workers may run a task
    twice, with the same result: the first record and the first end count.

    An attempt that remains means a worker that died at the task, or still runs it.

    An ended job gets smaller: its request goes at once, unless it is a calibration's, which pages
    show; after a while `archive` leaves a small record, which `expire` removes.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, job: Job) -> JobStatus:
        """Store a new job; if the id exists, return the stored one."""

        def insert(documents: Sequence[Document]) -> tuple[JobStatus, Changes]:
            if documents[0].version:
                return _draft(documents[0]).status, {}
            draft = MutableJob(status=_status(job))
            return draft.status, _stored(draft) | {_request(job.id): _texted(job.request)}

        return await self._documents.change([job_key(job.id)], insert)

    async def renew(self, job: Job) -> None:
        """Replace a job under its id; recorded tasks stay."""
        changes = _stored(MutableJob(status=_status(job))) | {
            _request(job.id): _texted(job.request)
        }
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
        (request,) = await self._documents.read(_request(job))
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
        names = await self._documents.names(_open(kind))
        running = set(await self._documents.names(_running(kind))).intersection(names)
        labels = set(await self._documents.names(_AWAITING))
        queued = [name for name in names if name not in running and name not in labels]
        oldest = None
        for name in queued:
            with suppress(NotFound):  # removed since it was listed
                oldest = (await self.get(name)).created_at
                break
        return Waiting(len(queued), len(running), oldest)

    async def pending_by_client(self, kind: JobKind) -> Counter[str]:
        """Count the jobs that have not ended by client, without reading any."""
        owners = await read_folder(self._documents, _open(kind))
        return Counter(client.decode() for client in owners.values())

    async def start(
        self, job: str, task: str | None, owner: str, *, alone: bool = False
    ) -> JobStatus | None:
        """Start a task: its job is running, and `owner` has an attempt at it.

        None if there is nothing to do.

        None: the job is unknown, final, awaiting labels or to be cancelled (it then is), or the
        task is recorded. Without a task the job runs without attempts.
        """

        def begin(draft: MutableJob) -> JobStatus | None:
            if not draft.status.is_runnable or draft.has_record:
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

        def leave(draft: MutableJob) -> None:
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

        def keep(draft: MutableJob) -> bool:
            if not draft.status.is_runnable:
                return False
            draft.value = value
            draft.forgive(task)
            draft.update(dependency_down_since=None)
            return True

        with suppress(NotFound):
            return await self._change(job, keep, task)
        return False

    async def recorded_tasks(self, job: str) -> set[str]:
        """Return the recorded tasks of a job."""
        return set(await self._documents.names(_records(job)))

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the recorded tasks with their results, sorted, a few at a time in memory."""
        tasks = sorted(await self.recorded_tasks(job))
        for start in range(0, len(tasks), _RECORDS_AT_ONCE):
            batch = tasks[start : start + _RECORDS_AT_ONCE]
            values = await self._documents.read(*(Key(_records(job), task) for task in batch))
            for task, document in zip(batch, values, strict=True):
                if document.version:
                    yield task, document.value

    async def progress(self, job: str, progress: Progress) -> None:
        """Store the progress of an unfinished job."""

        def show(draft: MutableJob) -> None:
            if not draft.status.is_runnable:
                return
            if progress.done > draft.status.progress.done:
                draft.update(dependency_down_since=None)
            draft.update(progress=progress)

        with suppress(NotFound):
            await self._change(job, show, durable=False)

    async def note(self, job: str, name: str, value: str) -> None:
        """Store a fact that lists show of an unfinished job."""

        def show(draft: MutableJob) -> None:
            if draft.status.is_runnable:
                draft.update(about={**draft.status.about, name: value})

        with suppress(NotFound):
            await self._change(job, show)

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

        def close(draft: MutableJob) -> bool:
            if draft.status.is_runnable:
                draft.close(state, result=result, error=error)
            present = draft.status
            return (present.state, present.result, present.error) == (state, result, error)

        with suppress(NotFound):
            return await self._change(job, close)
        return False

    async def resume(self, job: str) -> JobStatus:
        """Queue a job that awaits labels; any other stays as it is. Raises NotFound."""

        def requeue(draft: MutableJob) -> JobStatus:
            if draft.status.state is JobState.AWAITING_LABELS:
                draft.update(state=JobState.QUEUED)
            return draft.status

        return await self._change(job, requeue)

    async def request_cancel(self, job: str) -> JobStatus:
        """Cancel a waiting job, mark a running one; a final one stays as it is.

        Raises NotFound.
        """

        def mark(draft: MutableJob) -> JobStatus:
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
            await asyncio.sleep(_WATCH_INTERVAL_S)

    async def now(self) -> datetime:
        """Return the time by the clock of the store, which times of jobs are taken from."""
        return datetime.fromtimestamp(await self._documents.time(), UTC)

    async def archive(self, *, older_s: float) -> Sequence[str]:
        """Leave small records of jobs that finished so long ago, and none of webhooks.

        Calibrations stay whole. Returns the ids.
        """
        most = await self._documents.time() - older_s
        ended = await read_folder(self._documents, _ENDED, most=most)
        return [job for job, kind in ended.items() if await self._archive(job, kind.decode())]

    async def _archive(self, job: str, kind: str) -> bool:
        if kind == "calibration":
            return False

        def shrink(documents: Sequence[Document]) -> tuple[bool, Changes]:
            if not documents[0].version:
                return False, {}
            status = _draft(documents[0]).status
            if status.kind == "calibration" or status.finished_at is None:
                return False, {}
            small = None if status.kind == "webhook" else Put(_small(status), _when(status))
            return True, {**_gone(status), Key(_PAST, job): small}

        return await self._documents.change([job_key(job)], shrink)

    async def expire(self, *, older_s: float) -> Sequence[str]:
        """Remove jobs that finished, or got their last label, so long ago; return their ids."""
        most = await self._documents.time() - older_s
        over = [
            job
            for folder in (_ENDED, _AWAITING, _PAST)
            for job in await self._documents.names(folder, most=most)
        ]
        return [job for job in over if await self.forget(job)]

    async def touch(self, job: str) -> None:
        """Note that a job got a label, so that it does not expire while it waits for others."""
        key = Key(_AWAITING, job)
        changes = {key: Put(order=await self._documents.time())}
        await self._documents.change(
            [key], lambda documents: (None, changes if documents[0].version else {})
        )

    async def forget(self, job: str) -> bool:
        """Remove a job with all that belongs to it; return whether there was one."""
        past = Key(_PAST, job)

        def remove(documents: Sequence[Document]) -> tuple[bool, Changes]:
            whole, small = documents
            gone: Changes = {past: None} if small.version else {}
            if whole.version:
                gone = {**gone, **_gone(_draft(whole).status)}
            return bool(gone), {**gone, Key(CALLS_OF_JOBS, job): None}

        await self._documents.drop(_records(job))  # first: nobody would look for them later
        return await self._documents.change([job_key(job), past], remove)

    async def _load(self, job: str) -> MutableJob:
        for key in (job_key(job), Key(_PAST, job)):
            (document,) = await self._documents.read(key)
            if document.version:
                return _draft(document)
        raise _unknown(job)

    async def _open(self, kind: JobKind) -> list[JobStatus]:
        """A kind's jobs that have not ended, the oldest first; a damaged one is logged."""
        names = await self._documents.names(_open(kind))
        documents = await self._documents.read(*map(job_key, names)) if names else []
        jobs = []
        for name, document in zip(names, documents, strict=True):
            try:
                jobs += [_draft(document).status] if document.version else []
            except ValidationError as error:
                log.error("The job %s in the store cannot be read: %s", name, error)  # noqa: TRY400
        return jobs

    async def _change(
        self, job: str, decide: _ChangeJob[T], task: str | None = None, *, durable: bool = True
    ) -> T:
        keys = [job_key(job), *([] if task is None else [Key(_records(job), task)])]
        now = await self.now()

        def change(documents: Sequence[Document]) -> tuple[T, Changes]:
            if not documents[0].version:
                raise _unknown(job)
            before = _draft(documents[0])
            has_record = any(document.version for document in documents[1:])
            draft = before.model_copy(update={"has_record": has_record, "now": now})
            answer = decide(draft)
            is_new = (draft.status, draft.attempts) != (before.status, before.attempts)
            changes = _stored(draft) if is_new else {}
            if draft.value is not None and not has_record:
                changes[keys[1]] = Put(draft.value)
            return answer, changes

        return await self._documents.change(keys, change, durable=durable)


def job_key(job: str) -> Key:
    """Return the key of a job's document."""
    return Key("jobs", job)


def accepts_work(document: Document) -> bool:
    """Return whether a stored job has neither ended nor is to be cancelled."""
    if not document.version:
        return False
    status = _draft(document).status
    return status.is_runnable and not status.cancel_requested


def _request(job: str) -> Key:
    return Key("job-requests", job)


def _records(job: str) -> str:
    return f"job-records:{job}"


def _open(kind: JobKind) -> str:
    return f"jobs-open:{kind}"


def _running(kind: JobKind) -> str:
    return f"jobs-running:{kind}"


def _status(job: Job) -> JobStatus:
    return JobStatus(**job.model_dump(exclude={"request"}))


def _draft(document: Document) -> MutableJob:
    return MutableJob.model_validate_json(document.value)


def _texted(request: Mapping[str, Any]) -> Put:
    return Put(json.dumps(request).encode())


def _stored(draft: MutableJob) -> dict[Key, Put | None]:
    """A job, and its places in the lists."""
    status = draft.status
    kind = status.kind.encode()
    ended = None if status.finished_at is None else Put(kind, _when(status))
    client = (status.about.get("client") or "").encode()
    waiting = Put(client, status.created_at.timestamp()) if ended is None else None
    is_awaiting = status.state is JobState.AWAITING_LABELS
    lists: dict[Key, Put | None] = {
        job_key(status.id): Put(_packed(draft)),
        Key(_open(status.kind), status.id): waiting,
        Key(_running(status.kind), status.id): Put() if status.state is JobState.RUNNING else None,
        Key(_ENDED, status.id): ended,
        Key(_AWAITING, status.id): Put(order=draft.now.timestamp()) if is_awaiting else None,
    }
    # Nobody runs it again, and it holds more than the rest.
    return (
        lists
        if ended is None or status.kind == "calibration"
        else {**lists, _request(status.id): None}
    )


def _gone(status: JobStatus) -> dict[Key, Put | None]:
    """What removes a job, and its places in the lists."""
    lists = (_open(status.kind), _running(status.kind), _ENDED, _AWAITING)
    return dict.fromkeys(
        (job_key(status.id), _request(status.id), *(Key(folder, status.id) for folder in lists))
    )


def _packed(draft: MutableJob) -> bytes:
    return draft.model_dump_json(exclude_defaults=True).encode()


def _small(status: JobStatus) -> bytes:
    """What remains of a job that ended long ago."""
    about = {name: value for name, value in status.about.items() if name in _KEPT_ABOUT and value}
    forgotten = {"about": about, "trace": None, "progress": Progress(), "started_at": None}
    return _packed(MutableJob(status=status.model_copy(update=forgotten)))


def _when(status: JobStatus) -> float:
    """When a job ended."""
    return 0.0 if status.finished_at is None else status.finished_at.timestamp()


def _unknown(job: str) -> NotFound:
    return NotFound(f"There is no job {job}.")
