"""All stores in one bundle, behind two URLs.

`sqlite:///…` for one machine or `redis://…` for several chooses the database, `blobs` the place of
bytes. Every method is safe to call from several processes at once; none blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trustscale_server.platform.errors import ConfigError
from trustscale_server.stores.blobs import Blobs, open_blobs
from trustscale_server.stores.calibrations import CalibrationStore
from trustscale_server.stores.calls import CallStore
from trustscale_server.stores.canary_states import CanaryStates
from trustscale_server.stores.claims import ClaimStore
from trustscale_server.stores.documents import Documents, Space
from trustscale_server.stores.files import PRIVATE, usable_folder
from trustscale_server.stores.job_retention import JobRetention
from trustscale_server.stores.jobs import JobStore
from trustscale_server.stores.results import Removed, ResultStore
from trustscale_server.stores.sqlite import SqliteDocuments


@dataclass(frozen=True, kw_only=True)
class Stores:
    """The stores behind one URL.

    space: of the database.
    weakness: why what is stored may be lost, if it may; raises StoreUnavailable.
    close: lets running calls end; again it does nothing.
    """

    calibrations: CalibrationStore
    jobs: JobStore
    job_retention: JobRetention
    results: ResultStore
    blobs: Blobs
    canary_states: CanaryStates
    claims: ClaimStore
    calls: CallStore
    probes: Sequence[Callable[[], Awaitable[None]]]
    close: Callable[[], Awaitable[None]]
    weakness: Callable[[], Awaitable[str | None]]
    space: Callable[[], Awaitable[Space]]

    async def probe(self) -> None:
        """Raise StoreUnavailable unless reads and writes work.

        Raises ConfigError for data that another release wrote.
        """
        for probe in self.probes:
            await probe()


def open_stores(
    url: str,
    data_dir: Path,
    *,
    result_ttl_s: float,
    max_result_bytes: int,
    blobs_url: str | None = None,
    removed: Removed = lambda _: None,
) -> Stores:
    """Return the stores behind two URLs.

    `sqlite:///PATH` is a file, relative to the data folder (empty: `trustscale.sqlite3`). The first
    `probe` connects to `redis://` and `rediss://`. `removed` gets the reason of each removal.

    Raises ConfigError without passwords.
    """
    check_store_url(url, data_dir)
    documents: Documents
    probes: list[Callable[[], Awaitable[None]]]
    close: Callable[[], Awaitable[None]]
    weakness: Callable[[], Awaitable[str | None]]
    if urlsplit(url).scheme in {"redis", "rediss"}:
        from trustscale_server.stores import redis, redis_documents  # noqa: PLC0415 - only with Redis

        blobs = open_blobs(blobs_url, data_dir)
        client = redis.redis_client(url)
        documents = redis_documents.RedisDocuments(client)
        probes = [
            partial(redis.check_redis, client),
            documents.probe,
            partial(redis.check_blobs, client, blobs),
        ]
        close, weakness = client.aclose, partial(redis.weakness, client)
    else:
        path = sqlite_path(url, data_dir)
        usable_folder(data_dir, mode=PRIVATE)
        blobs = open_blobs(blobs_url, data_dir)
        documents = database = SqliteDocuments(path)
        probes, close, weakness = [documents.probe, blobs.probe], database.close, _none
    results = ResultStore(
        documents,
        blobs,
        result_ttl_s=result_ttl_s,
        max_result_bytes=max_result_bytes,
        removed=removed,
    )
    return Stores(
        calibrations=CalibrationStore(documents),
        jobs=JobStore(documents),
        job_retention=JobRetention(documents),
        results=results,
        blobs=blobs,
        canary_states=CanaryStates(documents),
        claims=ClaimStore(documents),
        calls=CallStore(documents),
        probes=probes,
        close=close,
        weakness=weakness,
        space=documents.space,
    )


async def _none() -> None:
    """SQLite knows no reason why it may lose data."""


def check_store_url(url: str, data_dir: Path) -> None:
    """Raise ConfigError if the URL cannot be that of a store; opens nothing."""
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        sqlite_path(url, data_dir)
    elif scheme in {"redis", "rediss"}:
        from trustscale_server.stores import redis  # noqa: PLC0415 - as above

        redis.check_url(url, "store")
    else:
        raise ConfigError(
            f"A store URL starts with sqlite:/// or redis:// or rediss://, not {scheme!r}."
        )


def sqlite_path(url: str, data_dir: Path) -> Path:
    """Return the file of a SQLite store. Raises ConfigError."""
    rest = url.removeprefix("sqlite:")
    if rest not in {"", "//"} and not rest.startswith("///"):
        raise ConfigError("A SQLite store URL has three slashes: sqlite:///PATH.")
    if "?" in rest or "#" in rest:
        raise ConfigError("A SQLite store URL takes no parameters.")
    path = unquote(rest.removeprefix("///").removeprefix("//"))
    return data_dir / (path or "trustscale.sqlite3")
