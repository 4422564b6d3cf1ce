"""Documents in SQLite: for one machine.

One file in WAL mode, shared by all processes. Each process has two connections, each on its own
thread: one writes, because SQLite has one writer at a time and a queue is fairer than its busy
loop; one reads, because a WAL reader never waits for a writer.

Every write is one transaction that takes the write lock first (`BEGIN IMMEDIATE`), so its reads
stay valid. `durable` ones are on the disk before the call returns (`synchronous=FULL`); a power cut
may undo the others.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar

from trustscale_server.platform.errors import ConfigError
from trustscale_server.stores.documents import (
    ABSENT,
    Decide,
    Document,
    Key,
    Put,
    Space,
    StoreUnavailable,
)
from trustscale_server.stores.files import PRIVATE

T = TypeVar("T")
_Work = Callable[[sqlite3.Connection], T]

# A database too large for this time is checked in part.
_CHECK_S = 5.0

SCHEMA_VERSION: Final = 10

_SCHEMA: Final = """
CREATE TABLE document (
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    sort REAL NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (folder, name)
);
CREATE INDEX document_by_order ON document (folder, sort, name)
"""

MIGRATIONS: Final[dict[int, str]] = {}
"""SQL that makes of a schema the next one: an older database is taken over at the start."""

_PUT: Final = """
INSERT INTO document (folder, name, version, sort, value) VALUES (?, ?, 1, ?, ?)
ON CONFLICT DO UPDATE SET version = version + 1, sort = excluded.sort, value = excluded.value
"""

_CHECK: Final = Key("check", "written")

log = logging.getLogger(__name__)


class SqliteDocuments:
    """`Documents` in a file. Raises ConfigError for one that cannot be used.

    patience_s: how long a write may wait, in the queue of this process and for the write lock;
    transactions take milliseconds.
    """

    def __init__(self, path: Path, *, patience_s: float = 10.0) -> None:
        self.path = path
        self._patience_s = patience_s
        try:
            path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            # SQLite gives its log and index the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(self._connect()) as connection:
                self._prepare(connection)
            self._writer = _Lane(self._connect(), "trustscale-store-write")
            self._reader = _Lane(self._connect(), "trustscale-store-read")
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"The database {path} cannot be used: {error}.") from error
        except OSError as error:
            raise ConfigError(
                f"The folder of the database {path} cannot be used: {error.strerror}."
            ) from error

    async def read(self, *keys: Key) -> list[Document]:
        def snapshot(connection: sqlite3.Connection) -> list[Document]:
            connection.execute("BEGIN")
            try:
                return _read(connection, keys)
            finally:
                connection.rollback()

        return await self._call(self._reader, snapshot)

    async def names(
        self, folder: str, *, most: float = inf, limit: int | None = None, newest: bool = False
    ) -> list[str]:
        way = "DESC" if newest else "ASC"
        rows = await self._rows(
            "SELECT name FROM document WHERE folder = ? AND sort <= ? "  # noqa: S608 - our words
            f"ORDER BY sort {way}, name {way} LIMIT ?",
            folder,
            most,
            -1 if limit is None else limit,
        )
        return [name for (name,) in rows]

    async def change(self, keys: Sequence[Key], decide: Decide[T], *, durable: bool = True) -> T:
        def work(connection: sqlite3.Connection) -> T:
            answer, changes = decide(_read(connection, keys))
            for key, put in changes.items():
                if put is None:
                    connection.execute("DELETE FROM document WHERE folder = ? AND name = ?", key)
                else:
                    connection.execute(_PUT, (*key, put.order, put.value))
            return answer

        return await self._write(work, durable=durable)

    async def page(self, after: Key, most: int, most_bytes: int) -> list[tuple[Key, Put]]:
        """Return the documents behind a key: some, in the order of keys, or none at the end."""
        rows = await self._rows(
            "SELECT folder, name, value, sort FROM document WHERE (folder, name) > (?, ?) "
            "AND folder != ? ORDER BY folder, name LIMIT ?",
            *after,
            _CHECK.folder,
            most,
        )
        page: list[tuple[Key, Put]] = []
        size = 0
        for folder, name, value, sort in rows:
            page.append((Key(folder, name), Put(bytes(value), sort)))
            size += len(value)
            if size >= most_bytes:
                break
        return page

    async def newest(self) -> int:
        """Return the largest version of all documents."""
        return int((await self._rows("SELECT coalesce(max(version), 0) FROM document"))[0][0])

    async def changed(self) -> int:
        """Return a number that differs as soon as another connection has written something."""
        return int((await self._rows("PRAGMA data_version"))[0][0])

    async def drop(self, *folders: str) -> None:
        rows = [(folder,) for folder in folders]
        await self._write(
            lambda connection: connection.executemany("DELETE FROM document WHERE folder = ?", rows)
        )

    async def time(self) -> float:
        return time.time()

    async def space(self) -> Space:
        """The limit is what the disk can hold."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        try:
            used = sum(file.stat().st_size for file in files if file.exists())
            free = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise StoreUnavailable(
                f"The database {self.path.name} cannot be used now: {error.strerror}."
            ) from error
        return Space(used, used + free)

    async def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._call(
            self._reader, lambda connection: connection.execute(query, values).fetchall()
        )

    async def _write(self, work: _Work[T], *, durable: bool = True) -> T:
        deadline = time.monotonic() + self._patience_s

        def write(connection: sqlite3.Connection) -> T:
            # The time in the queue counts.
            left_ms = max(0, round(1e3 * (deadline - time.monotonic())))
            connection.execute(f"PRAGMA busy_timeout={left_ms}")
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with _transaction(connection):
                return work(connection)

        return await self._call(self._writer, write)

    async def probe(self) -> None:
        """Raise StoreUnavailable unless a row can be written and read."""
        await self.change([_CHECK], lambda _: (None, {_CHECK: Put()}), durable=False)
        await self.read(_CHECK)

    async def close(self) -> None:
        """Let running calls end, then close; a second call does nothing."""
        for lane in (self._reader, self._writer):
            await asyncio.to_thread(lane.close)

    async def _call(self, lane: _Lane, work: _Work[T]) -> T:
        try:
            return await asyncio.wrap_future(lane.submit(work))
        except sqlite3.Error as error:
            raise StoreUnavailable(
                f"The database {self.path.name} cannot be used now: {error}."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=self._patience_s, isolation_level=None, check_same_thread=False
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Before the first write: the database may be of another release.
        self._schema(connection)
        self._check_pages(connection)
        if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
            raise ConfigError(
                f"The folder of {self.path} does not support SQLite's write-ahead log; "
                "choose a folder on a local disk."
            )
        with _transaction(connection):
            version = self._schema(connection)
            if version == SCHEMA_VERSION:
                return
            steps = (
                [MIGRATIONS[step] for step in range(version, SCHEMA_VERSION)]
                if version
                else [_SCHEMA]
            )
            for statement in ";".join(steps).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _check_pages(self, connection: sqlite3.Connection) -> None:
        """Raise ConfigError for damage that a walk through the pages finds in time."""
        end = time.monotonic() + _CHECK_S
        connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_INTERRUPT":
                raise
            log.warning("%s is large: it was checked for damage for %g s.", self.path, _CHECK_S)
            return
        finally:
            connection.set_progress_handler(None, 0)
        if verdict != "ok":
            reason = " ".join(str(verdict).split())
            raise ConfigError(
                f"The database {self.path} is damaged: {reason}. Restore it from a backup, or move "
                "it away and begin anew."
            )

    def _schema(self, connection: sqlite3.Connection) -> int:
        """The schema of the data, 0 without any. Raises ConfigError for an unknown one."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, *MIGRATIONS, SCHEMA_VERSION}:
            raise ConfigError(
                f"The database {self.path} was written by another release "
                f"(schema {version}, this release has {SCHEMA_VERSION}). Upgrade one release after "
                "another, or choose another data folder (TRUSTSCALE_DATA_DIR)."
            )
        return version


# Far below the limit of parameters in a query.
_READ_AT_ONCE: Final = 1000


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the write lock; store what the block wrote, or none of it after an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.commit()  # a full disk often shows here, and leaves the transaction open
    except BaseException:
        connection.rollback()
        raise


def _read(connection: sqlite3.Connection, keys: Sequence[Key]) -> list[Document]:
    documents: dict[tuple[str, str], Document] = {}
    for start in range(0, len(keys), _READ_AT_ONCE):
        batch = keys[start : start + _READ_AT_ONCE]
        rows = connection.execute(
            "SELECT folder, name, version, value FROM document WHERE (folder, name) IN "  # noqa: S608 - our words
            f"(VALUES {', '.join(['(?, ?)'] * len(batch))})",
            [name for key in batch for name in key],
        )
        for folder, name, version, value in rows:
            documents[folder, name] = Document(version, bytes(value))
    return [documents.get(key, ABSENT) for key in keys]


class _Lane:
    """A connection with a thread of its own."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def submit(self, work: _Work[T]) -> Future[T]:
        try:
            return self._thread.submit(work, self._connection)
        except RuntimeError as error:
            raise StoreUnavailable("The database is closed.") from error

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._connection.close()
