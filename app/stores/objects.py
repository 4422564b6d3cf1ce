"""The spool in an object store (or anything else that fsspec opens): `s3://bucket/prefix`.

Needs the optional extra `objects` (fsspec and the package of the protocol, such as s3fs). Object
stores put an object whole or not at all, which is the promise of `Spool.put`; a protocol of plain
remote files (`sftp://`) does not, and a file half written there is only ever read by a job that is
created after all its uploads are stored.

`create` is one conditional write where fsspec has that for the protocol, as for S3. Elsewhere it
looks before it writes, and two writers within that moment may both be told that they were first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from app.errors import ConfigError, NotFound, TrustscaleError
from app.stores.base import StoreUnavailable
from app.stores.folders import component, in_thread, named


class ObjectSpool:
    """`Spool` under a URL. Raises ConfigError; neither errors nor logs hold the URL's secrets."""

    def __init__(self, url: str) -> None:
        scheme = urlsplit(url).scheme
        try:
            from fsspec.core import (  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional extra
                url_to_fs,
            )
        except ImportError as error:
            raise ConfigError(
                f"A spool at {scheme}:// needs fsspec: pip install 'trustscale[objects]'."
            ) from error
        try:
            self._files, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ConfigError(f"A spool at {scheme}:// needs one more package: {error}.") from error
        except Exception as error:
            # The message of a foreign library may quote the URL with its credentials.
            raise ConfigError(
                f"The spool URL ({scheme}://…) cannot be opened: {type(error).__name__}."
            ) from error
        self._scheme = scheme
        self._root = root.rstrip("/")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TrustscaleError:
            raise
        except Exception as error:
            # Whatever the protocol's library raises; its text may quote credentials.
            raise StoreUnavailable(
                f"The spool ({self._scheme}://…) cannot be used now: {type(error).__name__}."
            ) from error

    @in_thread(_errors)
    def put(self, job: str, name: str, data: bytes) -> None:
        self._files.makedirs(self._path(job), exist_ok=True)
        self._files.pipe_file(self._path(job, name), data)

    @in_thread(_errors)
    def create(self, job: str, name: str, data: bytes) -> bool:
        self._files.makedirs(self._path(job), exist_ok=True)
        try:
            self._files.pipe_file(self._path(job, name), data, mode="create")
        except FileExistsError:
            return False
        return True

    @in_thread(_errors)
    def get(self, job: str, name: str) -> bytes:
        try:
            return bytes(self._files.cat_file(self._path(job, name)))
        except FileNotFoundError:
            raise NotFound(f"There is no file {name!r} of job {job}.") from None

    @in_thread(_errors)
    def names(self, job: str) -> list[str]:
        try:
            paths = self._files.ls(self._path(job), detail=False)
        except FileNotFoundError:
            return []
        return sorted(named(path.rstrip("/").rpartition("/")[2]) for path in paths)

    @in_thread(_errors)
    def delete(self, job: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm(self._path(job), recursive=True)

    @in_thread(_errors)
    def untouched(self, before: datetime) -> list[str]:
        newest: dict[str, datetime] = {}
        try:
            found = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return []
        for path, info in found.items():
            job = named(path.rpartition("/")[0].rpartition("/")[2])
            stored = _time_of(info)
            newest[job] = max(newest.get(job, stored), stored)
        return sorted(job for job, stored in newest.items() if stored < before)

    def _path(self, *names: str) -> str:
        return "/".join([self._root, *map(component, names)])


def _time_of(info: Mapping[str, Any]) -> datetime:
    """When a file was stored; now, so that it counts as young, where the protocol does not say."""
    # S3 and most others say LastModified or mtime; a local folder says mtime in seconds.
    found = info.get("LastModified") or info.get("mtime") or info.get("created")
    if isinstance(found, int | float):
        return datetime.fromtimestamp(found, UTC)
    if isinstance(found, datetime):
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.now(UTC)
