"""One URL chooses all stores: `sqlite:///…` for one machine, `redis://…` for several."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import ConfigError
from app.stores.base import Spool, Stores
from app.stores.database import Database
from app.stores.files import FileResults, FileSpool
from app.stores.folders import PRIVATE, usable_folder
from app.stores.sqlite import SqliteAudit, SqliteCalibrations, SqliteClaims, SqliteMonitor
from app.stores.sqlite_jobs import SqliteJobs

DATABASE_NAME = "trustscale.sqlite3"


def open_stores(
    url: str,
    data_dir: Path,
    *,
    result_ttl_s: float,
    max_result_bytes: int,
    spool_url: str | None = None,
) -> Stores:
    """The stores behind a URL.

    `sqlite:///PATH` keeps calibrations and jobs in that file (nothing: `trustscale.sqlite3` in the
    data folder; a relative path is relative to the data folder, because a service has no working
    folder that means something) and results in the data folder. `redis://` and `rediss://` keep
    all three in Redis; the server is first asked by `check`. Uploads are spooled in the data
    folder, or under `spool_url` (`file:///…`, or any URL that fsspec opens, such as `s3://…`),
    which every job worker must reach.

    Raises ConfigError, in one line and without passwords.
    """
    check_store_url(url, data_dir)
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        from app.stores import redis  # noqa: PLC0415 - only where Redis is used
        from app.stores.redis_jobs import RedisJobs  # noqa: PLC0415 - the same
        from app.stores.redis_monitor import RedisMonitor  # noqa: PLC0415 - the same

        spool = open_spool(spool_url, data_dir)
        client = redis.connected(url)
        return Stores(
            redis.RedisCalibrations(client),
            RedisJobs(client),
            redis.RedisResults(client, ttl_s=result_ttl_s, max_bytes=max_result_bytes),
            spool,
            redis.RedisAudit(client),
            RedisMonitor(client),
            redis.RedisClaims(client),
            [partial(redis.check, client)],
            [client.aclose],
        )
    path = _sqlite_path(url, data_dir)
    usable_folder(data_dir, mode=PRIVATE)
    spool = open_spool(spool_url, data_dir)
    results = FileResults(data_dir / "results", ttl_s=result_ttl_s, max_bytes=max_result_bytes)
    database = Database(path)
    return Stores(
        SqliteCalibrations(database),
        SqliteJobs(database),
        results,
        spool,
        SqliteAudit(database),
        SqliteMonitor(database),
        SqliteClaims(database),
        [database.check, results.check],
        [database.close],
    )


def check_store_url(url: str, data_dir: Path) -> None:
    """Return if the URL can be that of a store; nothing is opened. Raises ConfigError."""
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        _sqlite_path(url, data_dir)
    elif scheme in {"redis", "rediss"}:
        from app.stores.redis_client import check_url  # noqa: PLC0415 - as above

        check_url(url, "store")
    else:
        raise ConfigError(
            f"A store URL starts with sqlite:/// or redis:// or rediss://, not {scheme!r}."
        )


def open_spool(url: str | None, data_dir: Path) -> Spool:
    """The spool behind a URL, or in the data folder. Raises ConfigError."""
    if url is None:
        return FileSpool(usable_folder(data_dir, mode=PRIVATE) / "spool")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError("The spool URL cannot be read.") from error
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise ConfigError("A spool folder's URL has three slashes: file:///PATH.")
        if parts.query or parts.fragment:
            raise ConfigError("A spool folder's URL takes no parameters.")
        return FileSpool(Path(unquote(parts.path)))
    if "://" not in url or parts.scheme in {"", "http", "https"}:
        # fsspec would take them for a local folder, or for a server that nothing can be put on.
        raise ConfigError(
            "A spool is file:///PATH or the URL of an object store, such as s3://bucket/prefix."
        )
    from app.stores.objects import ObjectSpool  # noqa: PLC0415 - an optional extra

    return ObjectSpool(url)


def _sqlite_path(url: str, data_dir: Path) -> Path:
    rest = url.removeprefix("sqlite:")
    if rest not in {"", "//"} and not rest.startswith("///"):
        raise ConfigError("A SQLite store URL has three slashes: sqlite:///PATH.")
    if "?" in rest or "#" in rest:
        raise ConfigError("A SQLite store URL takes no parameters.")
    path = unquote(rest.removeprefix("///").removeprefix("//"))
    return data_dir / (path or DATABASE_NAME)
