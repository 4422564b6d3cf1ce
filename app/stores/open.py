"""One URL chooses the database: `sqlite:///…` for one machine, `redis://…` for several.

Another, `blobs`, chooses the place of bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import ConfigError
from app.stores.audit import AuditLog
from app.stores.base import Stores
from app.stores.blobs import open_blobs
from app.stores.calibrations import CalibrationStore
from app.stores.claims import CallStore, ClaimStore
from app.stores.documents import Documents
from app.stores.folders import PRIVATE, usable_folder
from app.stores.jobs import JobStore
from app.stores.monitor import MonitorStore
from app.stores.results import Removed, ResultStore
from app.stores.sqlite import SqliteDocuments

DATABASE_NAME = "trustscale.sqlite3"


def open_stores(
    url: str,
    data_dir: Path,
    *,
    result_ttl_s: float,
    max_result_bytes: int,
    blobs_url: str | None = None,
    removed: Removed = lambda _: None,
) -> Stores:
    """The stores behind two URLs.

    `sqlite:///PATH` is a file, relative to the data folder (empty: `trustscale.sqlite3`). The first
    `check` connects to `redis://` and `rediss://`. `removed` gets the reason of each removal.

    Raises ConfigError without passwords.
    """
    check_store_url(url, data_dir)
    documents: Documents
    checks: list[Callable[[], Awaitable[None]]]
    close: Callable[[], Awaitable[None]]
    persists: Callable[[], Awaitable[bool]]
    if urlsplit(url).scheme in {"redis", "rediss"}:
        from app.stores import redis  # noqa: PLC0415 - only where Redis is used

        blobs = open_blobs(blobs_url, data_dir)
        client = redis.connected(url)
        documents = redis.RedisDocuments(client)
        checks = [partial(redis.check, client), partial(redis.check_blobs, client, blobs)]
        close, persists = client.aclose, partial(redis.persists, client)
    else:
        path = _sqlite_path(url, data_dir)
        usable_folder(data_dir, mode=PRIVATE)
        blobs = open_blobs(blobs_url, data_dir)
        documents = database = SqliteDocuments(path)
        checks, close, persists = [database.check, blobs.check], database.close, _always
    results = ResultStore(
        documents, blobs, ttl_s=result_ttl_s, max_bytes=max_result_bytes, removed=removed
    )
    return Stores(
        calibrations=CalibrationStore(documents),
        jobs=JobStore(documents),
        results=results,
        blobs=blobs,
        audit=AuditLog(documents),
        monitor=MonitorStore(documents),
        claims=ClaimStore(documents),
        calls=CallStore(documents),
        checks=checks,
        close=close,
        persists=persists,
    )


async def _always() -> bool:
    return True


def check_store_url(url: str, data_dir: Path) -> None:
    """Return if the URL can be that of a store; opens nothing. Raises ConfigError."""
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        _sqlite_path(url, data_dir)
    elif scheme in {"redis", "rediss"}:
        from app.stores.redis import check_url  # noqa: PLC0415 - as above

        check_url(url, "store")
    else:
        raise ConfigError(
            f"A store URL starts with sqlite:/// or redis:// or rediss://, not {scheme!r}."
        )


def _sqlite_path(url: str, data_dir: Path) -> Path:
    rest = url.removeprefix("sqlite:")
    if rest not in {"", "//"} and not rest.startswith("///"):
        raise ConfigError("A SQLite store URL has three slashes: sqlite:///PATH.")
    if "?" in rest or "#" in rest:
        raise ConfigError("A SQLite store URL takes no parameters.")
    path = unquote(rest.removeprefix("///").removeprefix("//"))
    return data_dir / (path or DATABASE_NAME)
