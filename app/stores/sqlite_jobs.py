"""Jobs in SQLite: the default, for everything on one machine.

How the file is opened, locked and laid out is `app/stores/database.py`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final

from app.stores.database import Database
from app.stores.job import Fields, Job, JobKind, JobStatus, as_text, no_job, status_of, stored
from app.stores.jobs import Answer, Attempt, Decide, Draft, JobStore

# Another process may change a job, and SQLite has no notification: a watcher looks again after
# this time. Reading one row by its key takes tens of microseconds.
WATCH_INTERVAL_S: Final = 0.2

_PENDING: Final = "state IN ('queued', 'running', 'awaiting_labels')"


class SqliteJobs(JobStore):
    """`JobStore` in the tables `job`, `job_request`, `job_attempt` and `job_record`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, job: Job) -> None:
        """Store a job anew under its id, as it is given; what was recorded under it is kept."""

        def replace(c: sqlite3.Connection) -> None:
            _insert(c, job)
            _update(c, job)
            c.execute(
                "UPDATE job_request SET request = ? WHERE job = ?",
                (json.dumps(job.request), job.id),
            )

        await self._database.write(replace)

    async def forget(self, job: str) -> None:
        """Remove a job with all that is its own."""
        await self._database.run("DELETE FROM job WHERE id = ?", job)

    async def count_pending(self, kind: JobKind) -> int:
        query = f"SELECT count(*) FROM job WHERE kind = ? AND {_PENDING}"  # noqa: S608 - ours
        return int((await self._database.rows(query, kind))[0][0])

    async def recorded(self, job: str) -> set[str]:
        return {row[0] for row in await self._database.rows(_TASKS, job)}

    async def expire(self, before: datetime) -> Sequence[str]:
        rows = await self._database.write(
            lambda c: c.execute(
                "DELETE FROM job WHERE state IN ('succeeded', 'failed', 'cancelled') "
                "AND finished_at < ? RETURNING id",
                (as_text(before),),
            ).fetchall()
        )
        return [row[0] for row in rows]

    async def _insert(self, job: Job) -> None:
        await self._database.write(lambda c: _insert(c, job))

    async def _fields(self, job: str) -> Fields | None:
        return await self._database.read(lambda c: _fields(c, job))

    async def _open(self) -> Sequence[Fields]:
        query = f"SELECT * FROM job WHERE {_PENDING} ORDER BY created_at, id"  # noqa: S608 - ours
        return await self._database.read(lambda c: _named(c.execute(query)))

    async def _request(self, job: str) -> str | None:
        rows = await self._database.rows("SELECT request FROM job_request WHERE job = ?", job)
        return rows[0][0] if rows else None

    async def _attempts(self, job: str) -> set[Attempt]:
        return await self._database.read(lambda c: _attempts(c, job))

    async def _values(self, job: str, tasks: Sequence[str]) -> Mapping[str, bytes]:
        marks = ", ".join("?" * len(tasks))
        query = f"SELECT task, value FROM job_record WHERE job = ? AND task IN ({marks})"  # noqa: S608
        found = await self._database.rows(query, job, *tasks)
        return {task: bytes(value) for task, value in found}

    async def _change(
        self, job: str, decide: Decide[Answer], task: str | None = None, *, durable: bool = True
    ) -> Answer:
        def change(c: sqlite3.Connection) -> Answer:
            fields = _fields(c, job)
            if fields is None:
                raise no_job(job)
            before, attempts = status_of(fields), _attempts(c, job)
            has_record = (task,) in c.execute(f"{_TASKS} AND task = ?", (job, task))
            draft = Draft(before, frozenset(attempts), has_record)
            answer = decide(draft)
            if draft.status != before:
                _update(c, draft.status)
            c.executemany(
                "DELETE FROM job_attempt WHERE job = ? AND owner = ? AND task = ? AND alone = ?",
                [(job, *one) for one in attempts - draft.attempts],
            )
            c.executemany(
                "INSERT INTO job_attempt (job, owner, task, alone) VALUES (?, ?, ?, ?)",
                [(job, *one) for one in draft.attempts - attempts],
            )
            if draft.value is not None:
                row = (job, task, draft.value)
                c.execute("INSERT OR IGNORE INTO job_record VALUES (?, ?, ?)", row)
            return answer

        return await self._database.write(change, durable=durable)

    @asynccontextmanager
    async def _news(self, job: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:  # noqa: ARG002 - nobody tells
        yield partial(asyncio.sleep, WATCH_INTERVAL_S)


_TASKS: Final = "SELECT task FROM job_record WHERE job = ?"


def _insert(c: sqlite3.Connection, job: Job) -> None:
    fields = stored(job)
    marks = ", ".join("?" * len(fields))
    c.execute(
        f"INSERT OR IGNORE INTO job ({', '.join(fields)}) VALUES ({marks})",  # noqa: S608 - ours
        tuple(fields.values()),
    )
    row = (job.id, json.dumps(job.request))
    c.execute("INSERT OR IGNORE INTO job_request VALUES (?, ?)", row)


def _update(c: sqlite3.Connection, status: JobStatus) -> None:
    fields = stored(status)
    changes = ", ".join(f"{name} = ?" for name in fields)
    c.execute(
        f"UPDATE job SET {changes} WHERE id = ?",  # noqa: S608 - ours
        (*fields.values(), status.id),
    )


def _fields(c: sqlite3.Connection, job: str) -> Fields | None:
    return next(iter(_named(c.execute("SELECT * FROM job WHERE id = ?", (job,)))), None)


def _named(found: sqlite3.Cursor) -> list[Fields]:
    """The rows by the names of their columns."""
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _attempts(c: sqlite3.Connection, job: str) -> set[Attempt]:
    found = c.execute("SELECT owner, task, alone FROM job_attempt WHERE job = ?", (job,))
    return {Attempt(owner, task, bool(alone)) for owner, task, alone in found}


def goes_on(c: sqlite3.Connection, job: str) -> bool:
    """Whether a job neither has ended nor is to be cancelled."""
    fields = _fields(c, job)
    if fields is None:
        return False
    status = status_of(fields)
    return status.goes_on and not status.cancel_requested
