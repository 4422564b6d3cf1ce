"""Jobs in SQLite: the default, for everything on one machine.

How the file is opened, locked and migrated is `app/stores/database.py`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from app.errors import NotFound
from app.stores.base import Job, JobKind, JobState, Progress, given_up
from app.stores.database import Database, as_text

# Another process may change a job, and SQLite has no notification: a watcher looks again after
# this time. Reading one row by its key takes tens of microseconds.
WATCH_INTERVAL_S: Final = 0.2

# Checkpoints are kilobytes each; this many are in memory at a time.
RECORDS_AT_ONCE: Final = 64


class SqliteJobs:
    """`JobStore` in the tables `jobs` and `units`.

    `starts` counts the attempts since the last new checkpoint, `revision` the changes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: Job) -> Job:
        row = (
            job.id,
            job.kind,
            job.state,
            job.progress.model_dump_json(),
            as_text(job.created_at),
            job.started_at and as_text(job.started_at),
            job.finished_at and as_text(job.finished_at),
            job.attempt,
            job.cancel_requested,
            json.dumps(job.request),
            job.result,
            job.error and json.dumps(job.error),
            job.trace,
        )

        def insert(c: sqlite3.Connection) -> Job:
            c.execute(
                f"INSERT OR IGNORE INTO jobs ({_COLUMNS}) "  # noqa: S608 - fixed columns
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            return _select(c, job.id)

        return await self._database.write(insert)

    async def get(self, job: str) -> Job:
        return await self._database.read(lambda c: _select(c, job))

    async def unfinished(self) -> list[Job]:
        rows = await self._database.read(
            lambda c: c.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE state IN ('queued', 'running') "  # noqa: S608
                "ORDER BY created_at, id"
            ).fetchall()
        )
        return [_job(row) for row in rows]

    async def pending(self, kind: JobKind) -> list[Job]:
        rows = await self._database.read(
            lambda c: c.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE kind = ? AND "  # noqa: S608 - fixed columns
                "state IN ('queued', 'running', 'awaiting_labels') ORDER BY created_at DESC, id",
                (kind,),
            ).fetchall()
        )
        return [_job(row) for row in rows]

    async def begin(self, job: str, *, max_attempts: int = 3, alive_s: float = 0.0) -> Job | None:
        def start(c: sqlite3.Connection) -> Job | None:
            row = c.execute(
                "SELECT cancel_requested, starts FROM jobs WHERE id = ? "
                "AND (state = 'queued' OR (state = 'running' AND beat_at <= ?))",
                (job, time.time() - alive_s),
            ).fetchone()
            if row is None:
                return None
            cancel_requested, starts = row
            if cancel_requested:
                _close(c, job, JobState.CANCELLED)
                return None
            if starts >= max_attempts:
                _close(c, job, JobState.FAILED, given_up(starts, _suspects(c, job)))
                return None
            c.execute(
                "UPDATE jobs SET attempt = attempt + 1, starts = starts + 1, state = 'running', "
                "started_at = coalesce(started_at, ?), beat_at = ?, revision = revision + 1 "
                "WHERE id = ?",
                (as_text(datetime.now(UTC)), time.time(), job),
            )
            return _select(c, job)

        return await self._database.write(start)

    async def beat(self, job: str, attempt: int) -> bool:
        return await self._database.write(
            lambda c: (
                c.execute(
                    "UPDATE jobs SET beat_at = ? "
                    "WHERE id = ? AND attempt = ? AND state = 'running'",
                    (time.time(), job, attempt),
                ).rowcount
                == 1
            ),
            durable=False,
        )

    async def release(self, job: str, attempt: int) -> bool:
        return await self._update(
            job, attempt, "state = 'queued', starts = max(starts - 1, 0)", (), durable=True
        )

    async def resume(self, job: str) -> Job:
        def requeue(c: sqlite3.Connection) -> Job:
            c.execute(
                "UPDATE jobs SET state = 'queued', starts = 0, revision = revision + 1 "
                "WHERE id = ? AND state = 'awaiting_labels'",
                (job,),
            )
            return _select(c, job)

        return await self._database.write(requeue)

    async def start_unit(self, job: str, unit: str) -> int:
        def count(c: sqlite3.Connection) -> int:
            row = c.execute(
                "INSERT INTO units (job, key, starts) SELECT id, ?, 1 FROM jobs "
                "WHERE id = ? AND state = 'running' AND NOT cancel_requested "
                "ON CONFLICT (job, key) DO UPDATE SET starts = starts + 1 WHERE value IS NULL "
                "RETURNING starts",
                (unit, job),
            ).fetchone()
            return int(row[0]) if row else 0

        return await self._database.write(count)

    async def release_unit(self, job: str, unit: str) -> None:
        await self._database.write(
            lambda c: c.execute(
                "UPDATE units SET starts = max(starts - 1, 0) WHERE job = ? AND key = ?",
                (job, unit),
            )
        )

    async def unit_starts(self, job: str, unit: str) -> int:
        row = await self._database.read(
            lambda c: c.execute(
                "SELECT starts FROM units WHERE job = ? AND key = ?", (job, unit)
            ).fetchone()
        )
        return int(row[0]) if row else 0

    async def record(self, job: str, attempt: int, key: str, value: bytes) -> bool:
        def keep(c: sqlite3.Connection) -> bool:
            if not is_latest(c, job, attempt):
                return False
            new = not c.execute(
                "SELECT 1 FROM units WHERE job = ? AND key = ? AND value IS NOT NULL", (job, key)
            ).fetchone()
            c.execute(
                "INSERT INTO units (job, key, value) VALUES (?, ?, ?) "
                "ON CONFLICT (job, key) DO UPDATE SET value = excluded.value",
                (job, key, value),
            )
            if new:
                c.execute("UPDATE jobs SET starts = 1 WHERE id = ?", (job,))
            return True

        return await self._database.write(keep)

    async def recorded(self, job: str) -> set[str]:
        rows = await self._database.read(
            lambda c: c.execute(
                "SELECT key FROM units WHERE job = ? AND value IS NOT NULL", (job,)
            ).fetchall()
        )
        return {row[0] for row in rows}

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        last = ""
        while True:
            rows = await self._database.read(
                lambda c, after=last: c.execute(  # type: ignore[misc]
                    "SELECT key, value FROM units WHERE job = ? AND key > ? "
                    "AND value IS NOT NULL ORDER BY key LIMIT ?",
                    (job, after, RECORDS_AT_ONCE),
                ).fetchall()
            )
            for key, value in rows:
                yield key, bytes(value)
            if len(rows) < RECORDS_AT_ONCE:
                return
            last = rows[-1][0]

    async def progress(self, job: str, attempt: int, progress: Progress) -> bool:
        return await self._update(
            job, attempt, "progress = ?", (progress.model_dump_json(),), durable=False
        )

    async def finish(
        self,
        job: str,
        attempt: int,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        if not state.is_final and state is not JobState.AWAITING_LABELS:
            raise ValueError(f"{state} does not end an attempt")
        finished = as_text(datetime.now(UTC)) if state.is_final else None
        values = (state, result, error and json.dumps(error), finished)
        return await self._update(
            job, attempt, "state = ?, result = ?, error = ?, finished_at = ?", values, durable=True
        )

    async def request_cancel(self, job: str) -> Job:
        def mark(c: sqlite3.Connection) -> Job:
            present = _select(c, job)
            if present.state in {JobState.QUEUED, JobState.AWAITING_LABELS}:
                c.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job,))
                _close(c, job, JobState.CANCELLED)
            elif present.state is JobState.RUNNING and not present.cancel_requested:
                c.execute(
                    "UPDATE jobs SET cancel_requested = 1, revision = revision + 1 WHERE id = ?",
                    (job,),
                )
            return _select(c, job)

        return await self._database.write(mark)

    async def watch(self, job: str) -> AsyncGenerator[Job, None]:
        seen: int | None = None
        while True:
            row = await self._database.read(
                lambda c: c.execute(
                    f"SELECT {_COLUMNS}, revision FROM jobs WHERE id = ?",  # noqa: S608
                    (job,),
                ).fetchone()
            )
            if row is None:
                raise _no_job(job)
            if row[-1] != seen:
                seen = row[-1]
                present = _job(row[:-1])
                yield present
                if present.state.is_final or present.state is JobState.AWAITING_LABELS:
                    return
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def expire(self, before: datetime) -> Sequence[str]:
        rows = await self._database.write(
            lambda c: c.execute(
                "DELETE FROM jobs WHERE state IN ('succeeded', 'failed', 'cancelled') "
                "AND finished_at < ? RETURNING id",
                (as_text(before),),
            ).fetchall()
        )
        return [row[0] for row in rows]

    async def _update(
        self, job: str, attempt: int, change: str, values: tuple[Any, ...], *, durable: bool
    ) -> bool:
        """Change a job if the attempt is the latest and has not ended."""
        return await self._database.write(
            lambda c: (
                c.execute(
                    f"UPDATE jobs SET {change}, revision = revision + 1 "  # noqa: S608 - ours
                    "WHERE id = ? AND attempt = ? AND state = 'running'",
                    (*values, job, attempt),
                ).rowcount
                == 1
            ),
            durable=durable,
        )


_COLUMNS: Final = (
    "id, kind, state, progress, created_at, started_at, finished_at, attempt, cancel_requested, "
    "request, result, error, trace"
)


def _select(c: sqlite3.Connection, job: str) -> Job:
    row = c.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE id = ?",  # noqa: S608 - fixed columns
        (job,),
    ).fetchone()
    if row is None:
        raise _no_job(job)
    return _job(row)


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    for name in ("progress", "request", "error"):
        values[name] = json.loads(values[name]) if values[name] else None
    return Job.model_validate(values)


def is_latest(c: sqlite3.Connection, job: str, attempt: int) -> bool:
    """Whether an attempt is the latest of its job and has not ended."""
    found = c.execute(
        "SELECT 1 FROM jobs WHERE id = ? AND attempt = ? AND state = 'running'", (job, attempt)
    ).fetchone()
    return found is not None


def _close(
    c: sqlite3.Connection, job: str, state: JobState, error: dict[str, Any] | None = None
) -> None:
    c.execute(
        "UPDATE jobs SET state = ?, error = ?, finished_at = ?, revision = revision + 1 "
        "WHERE id = ?",
        (state, error and json.dumps(error), as_text(datetime.now(UTC)), job),
    )


def _suspects(c: sqlite3.Connection, job: str) -> list[str]:
    """The units that were started more than once and never ended, those started most often."""
    rows = c.execute(
        "SELECT key FROM units WHERE job = ?1 AND value IS NULL AND starts > 1 AND starts = "
        "(SELECT max(starts) FROM units WHERE job = ?1 AND value IS NULL) ORDER BY key",
        (job,),
    ).fetchall()
    return [row[0] for row in rows]


def _no_job(job: str) -> NotFound:
    return NotFound(f"There is no job {job}.")
