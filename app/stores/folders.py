"""How names become paths, and how files become whole or absent.

Names (of results, jobs, uploads) come from outside. They are never joined to a path as they are:
each is percent-encoded into one path component, so that no name can leave its folder, hide, or
mean something to the file system. Encoded names of more than `COMPONENT_BYTES` are refused.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import quote, unquote
from uuid import uuid4

from app.errors import BadRequest, ConfigError
from app.stores.base import Blob, StoreUnavailable

Owner = TypeVar("Owner")
P = ParamSpec("P")
Answer = TypeVar("Answer")

# What is being written or removed carries this prefix, which no encoded name can have.
SCRATCH = ".tmp-"

# Scratch older than this was left by a killed process: no write takes an hour.
SCRATCH_LIFE_S = 3600.0

# What a file system answers that has no hard links.
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

# A folder that only its owner may enter.
PRIVATE = 0o700

# What a file system answers that has no locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

# The limit of every usual file system for one path component.
COMPONENT_BYTES = 255


def component(name: str) -> str:
    """The path component of a name: letters, digits, `_`, `-`, `.` (not first) and %XX.

    Raises BadRequest for a name that is empty or too long.
    """
    encoded = quote(name, safe="", errors="surrogatepass").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if not encoded or len(encoded) > COMPONENT_BYTES:
        raise BadRequest(f"A name is {'too long' if encoded else 'empty'}: {name[:40]!r}.")
    return encoded


def named(encoded: str) -> str:
    """The name behind a path component."""
    return unquote(encoded, errors="surrogatepass")


def usable_folder(folder: Path, *, mode: int = 0o777) -> Path:
    """The folder, made with this mode if missing, and proved writable. Raises ConfigError.

    What killed processes left half written in it goes.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        remove_old_scratch(folder)
        probe = folder / f"{SCRATCH}{uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    return folder


def in_thread(
    errors: Callable[[Owner], AbstractContextManager[None]],
) -> Callable[
    [Callable[Concatenate[Owner, P], Answer]],
    Callable[Concatenate[Owner, P], Coroutine[Any, Any, Answer]],
]:
    """Make a method that blocks one to await; `errors` of its object tells what goes wrong."""

    def wrapped(
        method: Callable[Concatenate[Owner, P], Answer],
    ) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, Answer]]:
        @functools.wraps(method)
        async def call(self: Owner, /, *args: P.args, **options: P.kwargs) -> Answer:
            def work() -> Answer:
                with errors(self):
                    return method(self, *args, **options)

            return await asyncio.to_thread(work)

        return call

    return wrapped


@contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Tell a full disk, a lost folder or a lost mount as StoreUnavailable."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{what} cannot be used now: {error.strerror}.") from error


def write_file(
    path: Path, data: Blob, mode: Literal["wb", "xb"] = "wb", *, permissions: int = 0o666
) -> None:
    """Write a file that is on the disk when this returns; the name is not (see `sync_folder`)."""
    existing = os.O_EXCL if mode == "xb" else os.O_TRUNC
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | existing, permissions)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put the names inside a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file at a path, whole or not at all, also across a power cut."""
    scratch = path.parent / f"{SCRATCH}{uuid4().hex}"
    try:
        write_file(scratch, data)
        scratch.replace(path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    sync_folder(path.parent)


def create_file(path: Path, data: bytes, *, permissions: int = 0o666) -> bool:
    """Put a file at a path as `replace_file` does, unless there is one: then False.

    On a file system without hard links (SMB and other shares) a process that is killed in between
    may leave a part of the file.
    """
    scratch = path.parent / f"{SCRATCH}{uuid4().hex}"
    try:
        write_file(scratch, data, permissions=permissions)
        try:
            path.hardlink_to(scratch)  # unlike a renaming, it never replaces a file
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if not _write_new(path, data, permissions):
                return False
    finally:
        with suppress(OSError):
            scratch.unlink()
    sync_folder(path.parent)
    return True


def _write_new(path: Path, data: bytes, permissions: int) -> bool:
    """Write a file in its place, unless there is one: then False."""
    try:
        write_file(path, data, "xb", permissions=permissions)
    except FileExistsError:
        return False
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    return True


@contextmanager
def held(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock on a file, which ends with this process at the latest.

    Raises:
        ConfigError: with the text `taken`, if another process holds it; or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        file = path.open("ab")
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be written: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(taken) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def remove_folder(folder: Path) -> bool:
    """Make a folder disappear at once, then free its space. False if there is none."""
    scratch = folder.parent / f"{SCRATCH}{uuid4().hex}"
    try:
        folder.rename(scratch)
    except FileNotFoundError:
        return False
    shutil.rmtree(scratch, ignore_errors=True)
    return True


def remove_old_scratch(folder: Path) -> None:
    """Remove what killed processes left half done."""
    limit = time.time() - SCRATCH_LIFE_S
    for entry in folder.iterdir():
        if not entry.name.startswith(SCRATCH):
            continue
        with suppress(OSError):
            if entry.stat().st_mtime < limit:
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()
