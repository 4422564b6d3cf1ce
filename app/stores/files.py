"""Results and uploads as files in the data folder: the default of `ResultStore` and `Spool`.

A result is a folder `results/<id>/` with `document.json`, `expires` and `blobs/<name>`. It is
written under a scratch name, put on the disk, and renamed: a reader sees all of it or nothing,
and so does the next start after kill -9 or a power cut. Expiry is decided by the time written
in the folder, at every read; sweeping only frees the space.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from app.errors import ConfigError, NotFound
from app.stores.base import Blobs, StoreUnavailable
from app.stores.folders import (
    SCRATCH,
    component,
    create_file,
    file_errors,
    in_thread,
    named,
    remove_folder,
    remove_old_scratch,
    replace_file,
    sync_folder,
    usable_folder,
    write_file,
)

DOCUMENT = "document.json"
EXPIRES = "expires"
BLOBS = "blobs"

log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """One stored result as the sweep sees it."""

    expires: float
    size: int
    folder: Path


_in_results = in_thread(lambda _: file_errors("The results folder"))


class FileResults:
    """`ResultStore` in a folder; several processes may share it.

    `max_bytes` bounds the sum of all files: it is enforced by `sweep`, and by `put` once the
    results known to this process pass it. Raises ConfigError for a folder that cannot be used.
    """

    def __init__(self, folder: Path, *, ttl_s: float, max_bytes: int) -> None:
        self._folder = usable_folder(folder)
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        # Bytes stored, as of the last sweep and the puts of this process since; unknown at first.
        self._bytes: int | None = None

    async def put(
        self, result: str, document: bytes, blobs: Blobs, *, ttl_s: float | None = None
    ) -> None:
        expires = time.time() + (self._ttl_s if ttl_s is None else ttl_s)
        await self._put(result, document, blobs, expires)
        size = len(document) + sum(map(len, blobs.values()))
        if self._bytes is not None:
            self._bytes += size
        if self._bytes is None or self._bytes > self._max_bytes:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                # The result is stored; space is freed by a later sweep.
                log.warning("The results folder was not swept: %s", error.detail)

    async def document(self, result: str) -> bytes:
        return await self._read(result, DOCUMENT)

    async def blob(self, result: str, name: str) -> bytes:
        return await self._read(result, f"{BLOBS}/{component(name)}")

    async def sweep(self) -> int:
        removed, self._bytes = await self._sweep()
        return removed

    async def check(self) -> None:
        """Return if the folder can be written. Raises StoreUnavailable."""
        try:
            await asyncio.to_thread(usable_folder, self._folder)
        except ConfigError as error:
            raise StoreUnavailable(error.detail) from error

    @_in_results
    def _put(self, result: str, document: bytes, blobs: Blobs, expires: float) -> None:
        target = self._folder / component(result)
        scratch = self._folder / f"{SCRATCH}{uuid4().hex}"
        if self._expired(target):
            remove_folder(target)
        try:
            (scratch / BLOBS).mkdir(parents=True)
            for name, data in blobs.items():
                write_file(scratch / BLOBS / component(name), data)
            write_file(scratch / DOCUMENT, document)
            write_file(scratch / EXPIRES, repr(expires).encode())
            sync_folder(scratch / BLOBS)
            sync_folder(scratch)
            try:
                scratch.rename(target)
            except OSError as error:
                # A folder that holds files is never replaced: the first result stays.
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
            sync_folder(self._folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @_in_results
    def _read(self, result: str, path: str) -> bytes:
        folder = self._folder / component(result)
        missing = NotFound(f"There is no result {result!r}, or no longer.")
        if self._expired(folder):
            raise missing
        try:
            return (folder / path).read_bytes()
        except FileNotFoundError:
            raise missing from None

    def _expired(self, folder: Path) -> bool:
        """Whether the result is over; false if there is none."""
        try:
            return float((folder / EXPIRES).read_text()) <= time.time()
        except FileNotFoundError:
            return False

    @_in_results
    def _sweep(self) -> tuple[int, int]:
        now = time.time()
        removed = 0
        remove_old_scratch(self._folder)
        kept = sorted(self._kept())
        total = sum(entry.size for entry in kept)
        for entry in kept:
            is_newest = entry is kept[-1]
            if entry.expires <= now or (total > self._max_bytes and not is_newest):
                removed += remove_folder(entry.folder)
                total -= entry.size
        return removed, total

    def _kept(self) -> list[_Kept]:
        kept = []
        for folder in self._folder.iterdir():
            # Others leave files and folders here too: `.DS_Store`, `lost+found`.
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            # Removed by another process meanwhile, or no result of ours.
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
                size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
                kept.append(_Kept(float((folder / EXPIRES).read_text()), size, folder))
        return kept


_in_spool = in_thread(lambda _: file_errors("The spool folder"))


class FileSpool:
    """`Spool` in a folder `spool/<job>/`, which all job workers must be able to read.

    Names that differ only in case need a file system that tells them apart.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = usable_folder(folder)

    @_in_spool
    def put(self, job: str, name: str, data: bytes) -> None:
        replace_file(self._of(job) / component(name), data)

    @_in_spool
    def create(self, job: str, name: str, data: bytes) -> bool:
        return create_file(self._of(job) / component(name), data)

    @_in_spool
    def get(self, job: str, name: str) -> bytes:
        try:
            return (self._folder / component(job) / component(name)).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"There is no file {name!r} of job {job}.") from None

    @_in_spool
    def names(self, job: str) -> list[str]:
        try:
            entries = list((self._folder / component(job)).iterdir())
        except FileNotFoundError:
            return []
        return sorted(named(e.name) for e in entries if not e.name.startswith(SCRATCH))

    @_in_spool
    def delete(self, job: str) -> None:
        remove_folder(self._folder / component(job))

    @_in_spool
    def untouched(self, before: datetime) -> list[str]:
        remove_old_scratch(self._folder)
        old = []
        for folder in self._folder.iterdir():
            if folder.name.startswith(SCRATCH):
                continue
            # Removed by another process meanwhile, or no folder of ours.
            with suppress(FileNotFoundError, NotADirectoryError):
                # Whatever is stored is renamed into the folder, which tells the time.
                is_old = folder.stat().st_mtime < before.timestamp()
                remove_old_scratch(folder)
                if is_old:
                    old.append(named(folder.name))
        return sorted(old)

    def _of(self, job: str) -> Path:
        """The folder of a job, made if missing."""
        folder = self._folder / component(job)
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync_folder(self._folder)
        return folder
