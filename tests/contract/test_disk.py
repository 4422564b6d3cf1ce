"""A full disk: calls are refused in words, nothing half is kept, and afterwards all works again."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import NotFound
from app.stores import folders
from app.stores.base import Stores, StoreUnavailable
from tests.contract.conftest import Opener, head, job


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
    return [path for path in folder.rglob(".tmp-*") if path.is_file()]


WRITES: dict[str, Callable[[Stores], Awaitable[object]]] = {
    "calibration": lambda s: s.calibrations.put(head("a"), bytes(50_000)),
    "job": lambda s: s.jobs.create(job("new")),
    "start": lambda s: s.jobs.start("job", "", "ann"),
    "result": lambda s: s.results.put("r", b"{}", {"image.png": bytes(50_000)}),
    "upload": lambda s: s.spool.put("job", "x/1.png", bytes(50_000)),
    "label": lambda s: s.spool.create("job", "x/1.png", bytes(50_000)),
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
    assert await stores.spool.names("job") == []
    assert half_written(tmp_path) == []
    await write(stores)
    await stores.check()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
async def test_no_hard_links(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, number: int
):
    """On a share without hard links a file is still created once, and nothing half is kept."""

    def refuse(*_: object) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    stores = opened()
    assert await stores.spool.create("job", "x/1.png", b"first")
    assert not await stores.spool.create("job", "x/1.png", b"second")
    assert await stores.spool.get("job", "x/1.png") == b"first"
    write = folders.write_file

    def only_in_place(path: Path, data: bytes, mode: str = "wb", **options: int) -> None:
        path.touch() if mode == "wb" else write(path, data, mode, **options)

    monkeypatch.setattr(folders, "write_file", only_in_place)
    with full_disk(), pytest.raises(StoreUnavailable):
        await stores.spool.create("job", "x/2.png", b"third")
    assert await stores.spool.names("job") == ["x/1.png"]
    assert half_written(tmp_path) == []


async def test_what_the_killed_leave(tmp_path: Path, opened: Opener):
    """What was half written goes after an hour: at a start, or when the spool is looked through."""

    def leave(*folders: str) -> None:
        for folder in folders:
            for name, age_s in ((".tmp-old", 4000), (".tmp-young", 0)):
                (tmp_path / folder).mkdir(exist_ok=True)
                left = tmp_path / folder / name
                left.touch()
                os.utime(left, (time.time() - age_s,) * 2)

    leave(".", "results", "spool")
    stores = opened()
    assert {path.name for path in half_written(tmp_path)} == {".tmp-young"}
    await stores.spool.put("job", "x/1.png", b"1")
    leave("spool", "spool/job")
    assert await stores.spool.untouched(datetime.now(UTC) + timedelta(minutes=1)) == ["job"]
    assert {path.name for path in half_written(tmp_path)} == {".tmp-young"}
    assert await stores.spool.names("job") == ["x/1.png"]


async def test_a_lost_folder(tmp_path: Path, opened: Opener):
    """Where a folder is gone, calls are refused in words; a job may lose its own at any time."""
    stores = opened()
    for name in ("spool", "results"):
        (tmp_path / name).rmdir()
    calls = (
        stores.spool.put("job", "x/1.png", b""),
        stores.spool.create("job", "x/1.png", b""),
        stores.spool.untouched(datetime.now(UTC)),
        stores.results.sweep(),
    )
    for call in calls:
        with pytest.raises(StoreUnavailable, match="No such file or directory"):
            await call


async def test_what_others_leave_in_the_results_folder(tmp_path: Path, opened: Opener):
    """Files and folders that are no results disturb neither storing nor sweeping, and stay."""
    stores = opened(max_result_bytes=2500)
    strangers = [tmp_path / "results" / name for name in (".DS_Store", "notes.txt", "lost+found")]
    for path in strangers[:2]:
        path.write_bytes(b"x" * 5000)
    (strangers[2] / "inner").mkdir(parents=True)
    (tmp_path / "results" / "damaged").mkdir()
    (tmp_path / "results" / "damaged" / "expires").write_text("no number")
    for name in "abc":
        await stores.results.put(name, b"{}", {"image.png": bytes(1000)})
    assert await stores.results.document("c") == b"{}"
    with pytest.raises(NotFound):
        await stores.results.document("a")
    assert all(path.exists() for path in strangers)


async def test_a_sweep_that_fails(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A result that is stored is stored, also if no space could be freed afterwards."""
    stores = opened()

    def fail(_: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("app.stores.files.remove_old_scratch", fail)
    await stores.results.put("r", b"{}", {})
    assert await stores.results.document("r") == b"{}"
    assert "not swept: The results folder cannot be used now: Permission denied" in caplog.text
    with pytest.raises(StoreUnavailable):
        await stores.results.sweep()
