"""Calibrations, index of results, audit log, claims and monitor in SQLite: for one machine.

How the file is opened, locked and laid out is `app/stores/database.py`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app.stores.base import (
    MOST_POINTS,
    Activation,
    AuditEntry,
    CalibrationHead,
    Label,
    Snapshot,
    Update,
    activated,
    no_calibration,
    over,
    still_active,
)
from app.stores.database import Database
from app.stores.job import as_text
from app.stores.results import StoredResult
from app.stores.sqlite_jobs import goes_on


class SqliteCalibrations:
    """`CalibrationStore` in the tables `calibrations` and `active`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, head: CalibrationHead, blob: bytes) -> None:
        row = (head.id, head.upscaler, as_text(head.created_at), head.model_dump_json(), blob)
        await self._database.run("INSERT OR IGNORE INTO calibrations VALUES (?, ?, ?, ?, ?)", *row)

    async def get(self, calibration: str) -> bytes:
        rows = await self._database.rows("SELECT blob FROM calibrations WHERE id = ?", calibration)
        if not rows:
            raise no_calibration(calibration)
        return bytes(rows[0][0])

    async def heads(self, upscaler: str | None = None) -> list[CalibrationHead]:
        rows = await self._database.rows(
            "SELECT head FROM calibrations WHERE ?1 IS NULL OR upscaler = ?1 "
            "ORDER BY created_at DESC, id DESC",
            upscaler,
        )
        return [CalibrationHead.model_validate_json(row[0]) for row in rows]

    async def activate(
        self, calibration: str, *, job: str | None = None, without: Collection[str] | None = ()
    ) -> Activation:
        def switch(c: sqlite3.Connection) -> Activation:
            if job is not None and not goes_on(c, job):
                raise over(job)
            found = c.execute(
                "SELECT upscaler FROM calibrations WHERE id = ?", (calibration,)
            ).fetchone()
            if found is None:
                raise no_calibration(calibration)
            made = activated(_present(c, found[0]), found[0], calibration, without)
            row = (made.upscaler, made.model_dump_json())
            c.execute("INSERT OR REPLACE INTO active VALUES (?, ?)", row)
            return made

        return await self._database.write(switch)

    async def active(self) -> Mapping[str, Activation]:
        rows = await self._database.rows("SELECT upscaler, activation FROM active")
        return {row[0]: Activation.model_validate_json(row[1]) for row in rows}

    async def delete(self, calibration: str) -> None:
        def remove(c: sqlite3.Connection) -> None:
            found = c.execute(
                "DELETE FROM calibrations WHERE id = ? RETURNING upscaler", (calibration,)
            ).fetchone()
            if found is None:
                raise no_calibration(calibration)
            present = _present(c, found[0])
            if present is not None and calibration in present.calibrations:
                raise still_active(calibration)

        await self._database.write(remove)


class SqliteResults:
    """`ResultIndex` in the table `result`."""

    _ROW: Final = "SELECT id, folder, size, stored, expires FROM result"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: StoredResult) -> bool:
        def keep(c: sqlite3.Connection) -> bool:
            c.execute("INSERT OR IGNORE INTO result VALUES (?, ?, ?, ?, ?, ?)", row)
            found = c.execute("SELECT folder FROM result WHERE id = ?", (row.id,)).fetchone()
            return bool(found == (row.folder,))

        return await self._database.write(keep)

    async def get(self, result: str) -> StoredResult | None:
        rows = await self._database.rows("SELECT * FROM result WHERE id = ?", result)
        return StoredResult(*rows[0]) if rows else None

    async def remove(self, row: StoredResult) -> bool:
        def forget(c: sqlite3.Connection) -> bool:
            where = (row.id, row.folder)
            return c.execute("DELETE FROM result WHERE id = ? AND folder = ?", where).rowcount > 0

        return await self._database.write(forget)

    async def expired(self, at: float) -> list[StoredResult]:
        rows = await self._database.rows(f"{self._ROW} WHERE expires <= ?", at)
        return [StoredResult(*row) for row in rows]

    async def oldest(self, limit: int) -> list[StoredResult]:
        rows = await self._database.rows(f"{self._ROW} ORDER BY stored, id LIMIT ?", limit)
        return [StoredResult(*row) for row in rows]

    async def total(self) -> int:
        rows = await self._database.rows("SELECT coalesce(sum(size), 0) FROM result")
        return int(rows[0][0])


class SqliteAudit:
    """`AuditLog` in the table `audit`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, action: str, actor: str, facts: dict[str, Any]) -> None:
        row = (as_text(datetime.now(UTC)), action, actor, json.dumps(facts))
        await self._database.run(
            "INSERT INTO audit (at, action, actor, facts) VALUES (?, ?, ?, ?)", *row
        )

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        rows = await self._database.rows(
            "SELECT id, at, action, actor, facts FROM audit "
            "WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
            *(before, limit),
        )
        return [
            AuditEntry(id=id_, at=at, action=action, actor=actor, facts=json.loads(facts))
            for id_, at, action, actor, facts in rows
        ]


class SqliteClaims:
    """`ClaimStore` in the table `claim`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        def keep(c: sqlite3.Connection) -> bytes:
            now = time.time()
            c.execute("DELETE FROM claim WHERE expires <= ?", (now,))
            row = (name, value, now + seconds)
            c.execute("INSERT OR IGNORE INTO claim VALUES (?, ?, ?)", row)
            found = c.execute("SELECT value FROM claim WHERE name = ?", (name,)).fetchone()
            return bytes(found[0])

        return await self._database.write(keep)

    async def get(self, name: str) -> bytes | None:
        rows = await self._database.rows(
            "SELECT value FROM claim WHERE name = ? AND expires > ?", name, time.time()
        )
        return bytes(rows[0][0]) if rows else None

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        if new is None:
            await self._database.run("DELETE FROM claim WHERE name = ? AND value = ?", name, old)
            return
        await self._database.run(
            "UPDATE claim SET value = ?3, expires = ?4 WHERE name = ?1 AND value = ?2",
            *(name, old, new, time.time() + seconds),
        )


class SqliteCalls:
    """`CallStore` in the table `call`. A power cut may undo the last of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, upscaler: str, most: int, *, seconds: float) -> float:
        def taken(c: sqlite3.Connection) -> float:
            now = time.time()
            c.execute("DELETE FROM call WHERE upscaler = ? AND at <= ?", (upscaler, now - seconds))
            in_the_way = c.execute(
                "SELECT at FROM call WHERE upscaler = ? ORDER BY at DESC LIMIT 1 OFFSET ?",
                (upscaler, most - 1),
            ).fetchone()
            if in_the_way:
                return float(in_the_way[0] + seconds - now)
            c.execute("INSERT INTO call VALUES (?, ?)", (upscaler, now))
            return 0.0

        return await self._database.write(taken, durable=False)

    async def count(self, upscaler: str, *, seconds: float) -> int:
        rows = await self._database.rows(
            "SELECT count(*) FROM call WHERE upscaler = ? AND at > ?",
            *(upscaler, time.time() - seconds),
        )
        return int(rows[0][0])


class SqliteMonitor:
    """`MonitorStore` in the tables `monitor`, `monitor_points` and `monitor_labels`.

    A state is replaced with every few requests. It may be undone by a power cut, which forgets the
    last of them and changes no promise; a label that was acknowledged is on the disk.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, calibration: str) -> Snapshot | None:
        rows = await self._database.rows(
            "SELECT version, state FROM monitor WHERE calibration = ?", calibration
        )
        return Snapshot(rows[0][0], bytes(rows[0][1])) if rows else None

    async def save(self, calibration: str, update: Update, *, expected: int) -> bool:
        def replace(c: sqlite3.Connection) -> bool:
            found = c.execute(
                "SELECT version FROM monitor WHERE calibration = ?", (calibration,)
            ).fetchone()
            if (found[0] if found else 0) != expected:
                return False
            if update.label is not None:
                added = c.execute(
                    "INSERT OR IGNORE INTO monitor_labels (calibration, result, digest, record) "
                    "VALUES (?, ?, ?, ?)",
                    (calibration, *update.label),
                )
                if not added.rowcount:
                    return False
            c.execute(
                "INSERT OR REPLACE INTO monitor VALUES (?, ?, ?)",
                (calibration, expected + 1, update.state),
            )
            if update.points:
                c.executemany(
                    "INSERT INTO monitor_points (calibration, point) VALUES (?, ?)",
                    [(calibration, point) for point in update.points],
                )
                c.execute(
                    "DELETE FROM monitor_points WHERE calibration = ?1 AND id <= (SELECT id FROM "
                    "monitor_points WHERE calibration = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                    (calibration, MOST_POINTS),
                )
            return True

        return await self._database.write(replace, durable=update.label is not None)

    async def points(self, calibration: str) -> list[bytes]:
        rows = await self._database.rows(
            "SELECT point FROM monitor_points WHERE calibration = ? ORDER BY id", calibration
        )
        return [bytes(row[0]) for row in rows]

    async def label(self, calibration: str, result: str) -> Label | None:
        rows = await self._database.rows(
            "SELECT result, digest, record FROM monitor_labels "
            "WHERE calibration = ? AND result = ?",
            *(calibration, result),
        )
        return _label(rows[0]) if rows else None

    async def labels(self, calibration: str, *, limit: int) -> list[Label]:
        rows = await self._database.rows(
            "SELECT result, digest, record FROM monitor_labels WHERE calibration = ? "
            "ORDER BY id DESC LIMIT ?",
            *(calibration, limit),
        )
        return [_label(row) for row in reversed(rows)]

    async def forget(self, calibration: str) -> None:
        def remove(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM monitor WHERE calibration = ?", (calibration,))
            c.execute("DELETE FROM monitor_points WHERE calibration = ?", (calibration,))
            c.execute("DELETE FROM monitor_labels WHERE calibration = ?", (calibration,))

        await self._database.write(remove)


def _present(c: sqlite3.Connection, upscaler: str) -> Activation | None:
    row = c.execute("SELECT activation FROM active WHERE upscaler = ?", (upscaler,)).fetchone()
    return None if row is None else Activation.model_validate_json(row[0])


def _label(row: tuple[Any, ...]) -> Label:
    return Label(row[0], row[1], bytes(row[2]))
