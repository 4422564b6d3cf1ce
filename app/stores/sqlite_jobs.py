"""Jobs in SQLite: the default, for everything on one machine.

How the file is opened, locked and migrated is `app/stores/database.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from app.errors import NotFound
from app.stores.base import Job, JobKind, JobState, JobStatus, Progress, check_end
from app.stores.database import Database, as_text

# Another process may change a job, and SQLite has no notification: a watcher looks again after
# this time. Reading one row by its key takes tens of microseconds.
WATCH_INTERVAL_S: Final = 0.2

# Records are kilobytes each; this many are in memory at a time.
RECORDS_AT_ONCE: Final = 64

log = logging.getLogger(__name__)


class SqliteJobs:
    """`JobStore` in the tables `job`, `job_request`, `job_act` and `job_record`.

    `revision` counts the changes of a job.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: Job) -> JobStatus:
        return await self._database.write(lambda c: _insert(c, job))

    async def renew(self, job: Job) -> JobStatus:
        """Store a job anew under its id, as it is given; what was recorded under it is kept."""

        def store(c: sqlite3.Connection) -> JobStatus:
            kept = c.execute(
                "SELECT job, unit, value FROM job_record WHERE job = ?", (job.id,)
            ).fetchall()
            acts = c.execute("SELECT * FROM job_act WHERE job = ?", (job.id,)).fetchall()
            c.execute("DELETE FROM job WHERE id = ?", (job.id,))
            status = _insert(c, job)
            c.executemany("INSERT INTO job_record VALUES (?, ?, ?)", kept)
            c.executemany("INSERT INTO job_act VALUES (?, ?, ?)", acts)
            return status

        return await self._database.write(store)

    async def forget(self, job: str) -> None:
        """Remove a job with all that is its own."""
        await self._database.write(lambda c: c.execute("DELETE FROM job WHERE id = ?", (job,)))

    async def get(self, job: str) -> JobStatus:
        return await self._database.read(lambda c: _select(c, job))

    async def load(self, job: str) -> Job:
        def read(c: sqlite3.Connection) -> Job:
            status = _select(c, job)
            row = c.execute("SELECT request FROM job_request WHERE job = ?", (job,)).fetchone()
            if row is None:
                raise _no_job(job)
            return Job(**status.model_dump(), request=json.loads(row[0]))

        return await self._database.read(read)

    async def unfinished(self) -> list[JobStatus]:
        return await self._list("state IN ('queued', 'running') ORDER BY created_at, id")

    async def pending(self, kind: JobKind) -> list[JobStatus]:
        return await self._list(f"kind = ? AND {_PENDING} ORDER BY created_at DESC, id", kind)

    async def count_pending(self, kind: JobKind) -> int:
        row = await self._database.read(
            lambda c: c.execute(
                f"SELECT count(*) FROM job WHERE kind = ? AND {_PENDING}",  # noqa: S608 - fixed
                (kind,),
            ).fetchone()
        )
        return int(row[0])

    async def start(self, job: str, unit: str | None, owner: str) -> JobStatus | None:
        def begin(c: sqlite3.Connection) -> JobStatus | None:
            row = c.execute(
                f"SELECT cancel_requested, state FROM job WHERE id = ? AND {_GOES_ON}",  # noqa: S608
                (job,),
            ).fetchone()
            if row is None or (unit is not None and _is_recorded(c, job, unit)):
                return None
            if row[0]:
                _close(c, job, JobState.CANCELLED)
                return None
            if row[1] != JobState.RUNNING:
                c.execute(
                    "UPDATE job SET state = 'running', started_at = coalesce(started_at, ?), "
                    "revision = revision + 1 WHERE id = ?",
                    (as_text(datetime.now(UTC)), job),
                )
            if unit is not None:
                c.execute("INSERT OR IGNORE INTO job_act VALUES (?, ?, ?)", (job, unit, owner))
            return _select(c, job)

        return await self._database.write(begin)

    async def acts(self, job: str, unit: str) -> set[str]:
        rows = await self._database.read(
            lambda c: c.execute(
                "SELECT owner FROM job_act WHERE job = ? AND unit = ?", (job, unit)
            ).fetchall()
        )
        return {row[0] for row in rows}

    async def end(self, job: str, unit: str, owner: str) -> None:
        def close(c: sqlite3.Connection) -> None:
            c.execute(
                "DELETE FROM job_act WHERE job = ? AND unit = ? AND owner = ?", (job, unit, owner)
            )
            c.execute(
                "UPDATE job SET state = 'queued', revision = revision + 1 WHERE id = ?1 "
                "AND state = 'running' AND NOT EXISTS (SELECT 1 FROM job_act WHERE job = ?1)",
                (job,),
            )

        await self._database.write(close)

    async def record(self, job: str, unit: str, value: bytes) -> bool:
        def keep(c: sqlite3.Connection) -> bool:
            there = c.execute(
                f"SELECT 1 FROM job WHERE id = ? AND {_GOES_ON}",  # noqa: S608 - fixed text
                (job,),
            ).fetchone()
            if there is None:
                return False
            c.execute("INSERT OR IGNORE INTO job_record VALUES (?, ?, ?)", (job, unit, value))
            c.execute("DELETE FROM job_act WHERE job = ? AND unit = ?", (job, unit))
            return True

        return await self._database.write(keep)

    async def recorded(self, job: str) -> set[str]:
        rows = await self._database.read(
            lambda c: c.execute("SELECT unit FROM job_record WHERE job = ?", (job,)).fetchall()
        )
        return {row[0] for row in rows}

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        last = ""
        while True:
            rows = await self._database.read(
                lambda c, after=last: c.execute(  # type: ignore[misc]
                    "SELECT unit, value FROM job_record WHERE job = ? AND unit > ? "
                    "ORDER BY unit LIMIT ?",
                    (job, after, RECORDS_AT_ONCE),
                ).fetchall()
            )
            for unit, value in rows:
                yield unit, bytes(value)
            if len(rows) < RECORDS_AT_ONCE:
                return
            last = rows[-1][0]

    async def progress(self, job: str, progress: Progress) -> None:
        await self._update(job, "progress = ?", (progress.model_dump_json(),), durable=False)

    async def finish(
        self,
        job: str,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        check_end(state)

        def close(c: sqlite3.Connection) -> bool:
            present = _select(c, job)
            if not present.goes_on:
                return (present.state, present.result, present.error) == (state, result, error)
            _close(c, job, state, result, error)
            return True

        return await self._database.write(close)

    async def resume(self, job: str) -> JobStatus:
        def requeue(c: sqlite3.Connection) -> JobStatus:
            c.execute(
                "UPDATE job SET state = 'queued', revision = revision + 1 "
                "WHERE id = ? AND state = 'awaiting_labels'",
                (job,),
            )
            return _select(c, job)

        return await self._database.write(requeue)

    async def request_cancel(self, job: str) -> JobStatus:
        def mark(c: sqlite3.Connection) -> JobStatus:
            present = _select(c, job)
            if not present.state.is_final and not present.cancel_requested:
                c.execute(
                    "UPDATE job SET cancel_requested = 1, revision = revision + 1 WHERE id = ?",
                    (job,),
                )
            if present.state in {JobState.QUEUED, JobState.AWAITING_LABELS}:
                _close(c, job, JobState.CANCELLED)
            return _select(c, job)

        return await self._database.write(mark)

    async def watch(self, job: str) -> AsyncGenerator[JobStatus, None]:
        seen: int | None = None
        while True:
            row = await self._database.read(
                lambda c: c.execute(
                    f"SELECT {_COLUMNS}, revision FROM job WHERE id = ?",  # noqa: S608
                    (job,),
                ).fetchone()
            )
            if row is None:
                raise _no_job(job)
            if row[-1] != seen:
                seen = row[-1]
                present = _status(row[:-1])
                yield present
                if present.state.is_final or present.state is JobState.AWAITING_LABELS:
                    return
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def expire(self, before: datetime) -> Sequence[str]:
        rows = await self._database.write(
            lambda c: c.execute(
                "DELETE FROM job WHERE state IN ('succeeded', 'failed', 'cancelled') "
                "AND finished_at < ? RETURNING id",
                (as_text(before),),
            ).fetchall()
        )
        return [row[0] for row in rows]

    async def _list(self, condition: str, *values: str) -> list[JobStatus]:
        rows = await self._database.read(
            lambda c: c.execute(
                f"SELECT {_COLUMNS} FROM job WHERE {condition}",  # noqa: S608 - fixed texts
                values,
            ).fetchall()
        )
        return list(_readable(rows))

    async def _update(
        self, job: str, change: str, values: tuple[Any, ...], *, durable: bool
    ) -> None:
        """Change a job that goes on."""
        await self._database.write(
            lambda c: c.execute(
                f"UPDATE job SET {change}, revision = revision + 1 "  # noqa: S608 - ours
                f"WHERE id = ? AND {_GOES_ON}",
                (*values, job),
            ),
            durable=durable,
        )


_GOES_ON: Final = "state IN ('queued', 'running')"
_PENDING: Final = "state IN ('queued', 'running', 'awaiting_labels')"
_COLUMNS: Final = (
    "id, kind, state, progress, created_at, started_at, finished_at, cancel_requested, "
    "result, error, trace, about"
)


def _insert(c: sqlite3.Connection, job: Job) -> JobStatus:
    row = (
        job.id,
        job.kind,
        job.state,
        job.progress.model_dump_json(),
        as_text(job.created_at),
        job.started_at and as_text(job.started_at),
        job.finished_at and as_text(job.finished_at),
        job.cancel_requested,
        job.result,
        job.error and json.dumps(job.error),
        job.trace,
        json.dumps(job.about),
    )
    marks = ", ".join("?" * len(row))
    c.execute(f"INSERT OR IGNORE INTO job ({_COLUMNS}) VALUES ({marks})", row)  # noqa: S608
    request = (job.id, json.dumps(job.request))
    c.execute("INSERT OR IGNORE INTO job_request VALUES (?, ?)", request)
    return _select(c, job.id)


def _select(c: sqlite3.Connection, job: str) -> JobStatus:
    row = c.execute(
        f"SELECT {_COLUMNS} FROM job WHERE id = ?",  # noqa: S608 - fixed columns
        (job,),
    ).fetchone()
    if row is None:
        raise _no_job(job)
    return _status(row)


def _status(row: tuple[Any, ...]) -> JobStatus:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    for name in ("progress", "error", "about"):
        values[name] = json.loads(values[name]) if values[name] else None
    return JobStatus.model_validate(values)


def _readable(rows: Iterable[tuple[Any, ...]]) -> Iterable[JobStatus]:
    """The jobs of the rows; one that is damaged is logged, and keeps no other from being run."""
    for row in rows:
        try:
            yield _status(row)
        except (ValidationError, ValueError) as error:
            log.error("The job %s in the database cannot be read: %s", row[0], error)  # noqa: TRY400


def _is_recorded(c: sqlite3.Connection, job: str, unit: str) -> bool:
    found = c.execute("SELECT 1 FROM job_record WHERE job = ? AND unit = ?", (job, unit)).fetchone()
    return found is not None


def _close(
    c: sqlite3.Connection,
    job: str,
    state: JobState,
    result: str | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    finished = as_text(datetime.now(UTC)) if state.is_final else None
    c.execute(
        "UPDATE job SET state = ?, result = ?, error = ?, finished_at = ?, "
        "revision = revision + 1 WHERE id = ?",
        (state, result, error and json.dumps(error), finished, job),
    )
    c.execute("DELETE FROM job_act WHERE job = ?", (job,))


def goes_on(c: sqlite3.Connection, job: str) -> bool:
    """Whether a job neither has ended nor is to be cancelled."""
    found = c.execute(
        f"SELECT 1 FROM job WHERE id = ? AND {_GOES_ON} AND NOT cancel_requested",  # noqa: S608
        (job,),
    ).fetchone()
    return found is not None


def _no_job(job: str) -> NotFound:
    return NotFound(f"There is no job {job}.")
