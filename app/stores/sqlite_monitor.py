"""What the monitor knows, in SQLite: the tables `monitor`, `monitor_points`, `monitor_labels`.

A state is replaced with every few requests. It may be undone by a power cut, which forgets the last
of them and changes no promise; a label that was acknowledged is on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from app.stores.database import Database
from app.stores.monitor import MOST_POINTS, Label, Snapshot


class SqliteMonitor:
    """`MonitorStore` in SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, calibration: str) -> Snapshot | None:
        rows = await self._database.rows(
            "SELECT version, state FROM monitor WHERE calibration = ?", calibration
        )
        return Snapshot(rows[0][0], bytes(rows[0][1])) if rows else None

    async def save(
        self,
        calibration: str,
        state: bytes,
        *,
        expected: int,
        points: Sequence[bytes] = (),
        label: Label | None = None,
    ) -> bool:
        def replace(c: sqlite3.Connection) -> bool:
            found = c.execute(
                "SELECT version FROM monitor WHERE calibration = ?", (calibration,)
            ).fetchone()
            if (found[0] if found else 0) != expected:
                return False
            if label is not None:
                added = c.execute(
                    "INSERT OR IGNORE INTO monitor_labels (calibration, result, digest, record) "
                    "VALUES (?, ?, ?, ?)",
                    (calibration, *label),
                )
                if not added.rowcount:
                    return False
            c.execute(
                "INSERT OR REPLACE INTO monitor VALUES (?, ?, ?)",
                (calibration, expected + 1, state),
            )
            if points:
                c.executemany(
                    "INSERT INTO monitor_points (calibration, point) VALUES (?, ?)",
                    [(calibration, point) for point in points],
                )
                c.execute(
                    "DELETE FROM monitor_points WHERE calibration = ?1 AND id <= (SELECT id FROM "
                    "monitor_points WHERE calibration = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                    (calibration, MOST_POINTS),
                )
            return True

        return await self._database.write(replace, durable=label is not None)

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


def _label(row: tuple[Any, ...]) -> Label:
    return Label(row[0], row[1], bytes(row[2]))
