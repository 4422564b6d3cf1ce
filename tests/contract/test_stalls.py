"""Stores that do not answer: a call ends in time, waits once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from app.stores.base import AuditLog, CalibrationStore, StoreUnavailable
from app.stores.redis import RedisDocuments, connected
from app.stores.redis_client import redis_errors
from app.stores.sqlite import SqliteDocuments


class TestRedis:
    async def test_frozen(self):
        """A server that takes connections and never answers is waited for once, not four times."""
        connections = 0

        async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            with suppress(ConnectionError):
                while await reader.read(1024):
                    pass
            writer.close()

        async with await asyncio.start_server(freeze, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = connected(f"redis://127.0.0.1:{port}", answer_timeout_s=0.2)
            with pytest.raises(StoreUnavailable, match="in time"):
                await CalibrationStore(RedisDocuments(client)).active()
            assert connections <= 1  # 0 if this process stalled while it connected
            await client.aclose()

    async def test_one_deadline(self):
        """Whatever a call waits for, it has one deadline."""
        with pytest.raises(StoreUnavailable, match="in time"):
            async with redis_errors(0.1):
                await asyncio.Event().wait()


class TestSqlite:
    async def test_a_lock_that_stays(self, tmp_path: Path):
        """Writes behind a foreign lock end together, none is done later; then writing goes on."""
        database = SqliteDocuments(tmp_path / "x.sqlite3", patience_s=0.3)
        audit = AuditLog(database)
        with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            loop = asyncio.get_running_loop()
            began = loop.time()
            ended = await asyncio.gather(
                *(audit.append("a", "b", {"k": k}) for k in range(200)), return_exceptions=True
            )
            # One after the other they would take a minute.
            assert loop.time() - began < 30
            assert {type(error) for error in ended} == {StoreUnavailable}
            assert await audit.entries(limit=9) == []  # reading goes on
            other.execute("ROLLBACK")
        await audit.append("a", "b", {"after": True})
        assert [entry.facts for entry in await audit.entries(limit=9)] == [{"after": True}]
        await database.close()
