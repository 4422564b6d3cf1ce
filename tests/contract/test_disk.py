"""A full disk: calls are refused in words, nothing half is kept, and afterwards all works again."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from app.errors import ConfigError, NotFound
from app.stores.base import Stores, StoreUnavailable
from app.stores.open import open_stores
from tests.contract.conftest import Opener, head, job
from tests.servers import RedisServer
from tests.waiting import PATIENCE_S


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow or be overwritten."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def half_written(folder: Path) -> list[Path]:
    found = [*folder.rglob(".tmp-*"), *folder.rglob("*#*")]
    return [path for path in found if path.is_file()]


WRITES: dict[str, Callable[[Stores], Awaitable[object]]] = {
    "calibration": lambda s: s.calibrations.put(head("a"), bytes(50_000)),
    "job": lambda s: s.jobs.create(job("new")),
    "start": lambda s: s.jobs.start("job", "", "ann"),
    "result": lambda s: s.results.put("r", b"{}", {"image.png": bytes(50_000)}),
    "upload": lambda s: s.blobs.put("job", "x/1.png", bytes(50_000)),
    "label": lambda s: s.blobs.create("job", "x/1.png", bytes(50_000)),
    "check": lambda s: s.check(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_full_disk(
    tmp_path: Path, opened: Opener, write: Callable[[Stores], Awaitable[object]]
):
    """A refused write is StoreUnavailable, leaves nothing, and succeeds once there is space."""
    stores = opened()
    await stores.jobs.create(job())
    with full_disk(), pytest.raises(StoreUnavailable):
        await write(stores)
    assert await stores.calibrations.heads() == []
    assert [await stores.jobs.load(j.id) for j in await stores.jobs.unfinished()] == [job()]
    with pytest.raises(NotFound):
        await stores.results.document("r")
    assert await stores.blobs.names("job") == []
    assert half_written(tmp_path) == []
    await write(stores)
    await stores.check()


@pytest.mark.servers
async def test_a_rewrite_that_fails(tmp_path: Path):
    """Redis that cannot rewrite its append-only file says so until it can again."""
    with RedisServer() as server:
        stores = open_stores(server.url, tmp_path, result_ttl_s=60, max_result_bytes=10**6)
        async with aioredis.Redis.from_url(server.url) as client:
            assert await stores.persists()
            files, away = server.folder / "appendonlydir", server.folder / "away"
            files.rename(away)
            files.touch()
            with suppress(RedisError):
                await client.bgrewriteaof()
            await _settled(stores, persists=False)
            files.unlink()
            away.rename(files)
            await client.bgrewriteaof()
            await _settled(stores, persists=True)
        await stores.close()


async def _settled(stores: Stores, *, persists: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await stores.persists() is not persists:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


def test_no_hard_links(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch):
    """Where no file can be created exactly once, the start ends in one line."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(ConfigError, match=r"no hard links .* object store"):
        opened()
    assert half_written(tmp_path) == []


async def test_what_the_killed_leave(tmp_path: Path, opened: Opener):
    """What was half written goes after an hour: at a start, or when all blobs are listed."""

    def leave(folder: str, prefix: str) -> None:
        for name, age_s in ((f"{prefix}1", 4000), (f"{prefix}2", 0)):
            left = tmp_path / folder / name
            left.parent.mkdir(exist_ok=True)
            left.touch()
            os.utime(left, (time.time() - age_s,) * 2)

    leave(".", ".tmp-")
    stores = opened()
    assert {path.name for path in half_written(tmp_path)} == {".tmp-2"}
    await stores.blobs.put("job", "image#1", b"1")
    leave("blobs/job", "image#")
    assert await stores.blobs.untouched(datetime.now(UTC) + timedelta(minutes=1)) == ["job"]
    assert {path.name for path in (tmp_path / "blobs/job").iterdir()} == {"image%231", "image#2"}
    assert await stores.blobs.names("job") == ["image#1"]


async def test_a_lost_folder(tmp_path: Path, opened: Opener):
    """Where no folder can be made any more, calls are refused in words."""
    stores = opened()
    shutil.rmtree(tmp_path / "blobs")
    (tmp_path / "blobs").touch()
    for call in (
        stores.blobs.put("job", "x/1.png", b""),
        stores.blobs.create("job", "x/1.png", b""),
        stores.results.put("r", b"{}", {"image.png": b""}),
    ):
        with pytest.raises(StoreUnavailable, match=r"blobs cannot be used now: Not a directory"):
            await call


async def test_what_others_leave_among_the_blobs(tmp_path: Path, opened: Opener):
    """Files and folders of others disturb neither storing nor sweeping, and stay."""
    strangers = [tmp_path / "blobs" / name for name in (".DS_Store", "lost+found/inner")]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
    stores = opened(max_result_bytes=2500)
    for name in "abc":
        await stores.results.put(name, b"{}", {"image.png": bytes(1000)})
    assert [await stores.results.has(name) for name in "abc"] == [False, True, True]
    assert "job-x" not in await stores.blobs.untouched(datetime.now(UTC))
    assert all(path.exists() for path in strangers)


async def test_no_room_made(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A result that is stored is stored, also if no space could be freed afterwards."""
    stores = opened(max_result_bytes=1)

    async def fail(_: str) -> None:
        raise StoreUnavailable("The disk is on fire.")

    await stores.results.put("old", b"{}", {})
    monkeypatch.setattr(stores.blobs, "delete", fail)
    await stores.results.put("r", b"{}", {})
    assert await stores.results.document("r") == b"{}"
    assert "No room was made for results: The disk is on fire." in caplog.text
