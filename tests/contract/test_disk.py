"""A full disk: calls are refused in words, nothing half is kept, and afterwards all works again."""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.errors import NotFound
from app.stores.base import Stores, StoreUnavailable
from app.stores.open import open_stores
from tests.contract.conftest import head, job


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
    "begin": lambda s: s.jobs.begin("job"),
    "result": lambda s: s.results.put("r", b"{}", {"image.png": bytes(50_000)}),
    "upload": lambda s: s.spool.put("job", "x/1.png", bytes(50_000)),
    "label": lambda s: s.spool.create("job", "x/1.png", bytes(50_000)),
    "check": lambda s: s.check(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_full_disk(tmp_path: Path, write: Callable[[Stores], Awaitable[object]]):
    """A refused write is StoreUnavailable, leaves nothing, and succeeds once there is space."""
    stores = open_stores("sqlite:///", tmp_path, result_ttl_s=60, max_result_bytes=10**9)
    await stores.jobs.create(job())
    with full_disk(), pytest.raises(StoreUnavailable):
        await write(stores)
    assert await stores.calibrations.heads() == []
    assert await stores.jobs.unfinished() == [job()]
    with pytest.raises(NotFound):
        await stores.results.document("r")
    assert await stores.spool.names("job") == []
    assert half_written(tmp_path) == []
    await write(stores)
    await stores.check()
    await stores.close()
