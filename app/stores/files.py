"""Files that appear whole or not at all, or are for one reader; and locks on folders."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import io
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from io import SEEK_END
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, Concatenate, Final, ParamSpec
from uuid import uuid4

from trustscale_server.errors import ConfigError
from trustscale_server.stores.documents import StoreUnavailable

# Prefix of temporary files; no encoded name has it.
SCRATCH = ".tmp-"

# Older temporary files are from killed processes.
SCRATCH_LIFE_S = 3600.0


PRIVATE = 0o700

# What file systems without locks answer.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def usable_folder(folder: Path, *, mode: int = 0o777) -> Path:
    """The folder, made if missing, proved writable, and freed of old temporary files.

    Raises ConfigError.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        for left in folder.glob(f"{SCRATCH}*"):
            with suppress(FileNotFoundError):  # removed by another process
                if left.stat().st_mtime < time.time() - SCRATCH_LIFE_S:
                    left.unlink()
        probe = folder / f"{SCRATCH}{uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    return folder


def check_temporary(wanted: str) -> None:
    """Raise ConfigError where temporary files cannot be in this TMPDIR, or, without, anywhere."""
    with suppress(FileNotFoundError):  # Python takes other folders before it raises
        if Path(gettempdir()).resolve() == Path(wanted or gettempdir()).resolve():
            return
    raise ConfigError(f"The folder for temporary files (TMPDIR={wanted}) cannot be written.")


def sync(place: Path) -> None:
    """Put a file, or the names inside a folder, on the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, also across a power cut."""
    with _scratch(path, data, 0o666) as scratch:
        scratch.replace(path)
    sync(path.parent)


def create_file(path: Path, data: bytes, *, permissions: int = 0o666) -> bool:
    """The same unless there is one: then False."""
    with _scratch(path, data, permissions) as scratch:
        try:
            path.hardlink_to(scratch)  # unlike a renaming, it never replaces a file
        except FileExistsError:
            return False
    sync(path.parent)
    return True


@contextmanager
def _scratch(path: Path, data: bytes, permissions: int) -> Iterator[Path]:
    scratch = path.parent / f"{SCRATCH}{uuid4().hex}"
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield scratch
    finally:
        with suppress(OSError):
            scratch.unlink()


@contextmanager
def held(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock on a file, at most until this process ends.

    Raises ConfigError, with the text `taken` if another process holds it.
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


Given = ParamSpec("Given")

IN_MEMORY: Final = 8 * 2**20
"""Bytes of a file from which on it is on the disk."""


class _Spool(SpooledTemporaryFile[bytes]):
    """Closed when nobody refers to it."""

    name = "spool"  # tifffile takes no None
    _rolled: bool

    def fileno(self) -> int:
        if not self._rolled:  # Pillow asks, and can do without
            raise io.UnsupportedOperation("in memory")
        return super().fileno()

    def __del__(self) -> None:
        with suppress(OSError):
            self.close()


def spooled(
    write: Callable[Concatenate[IO[bytes], Given], object],
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> IO[bytes]:
    """What `write` writes, at its beginning; a large file is in the folder for temporary files.

    It has no name there: when nobody refers to it, or the process is killed, nothing is left.

    Raises StoreUnavailable: the disk is full.
    """
    file = _Spool(IN_MEMORY)
    with _full_disk():
        write(file, *args, **kwargs)
        file.seek(0)  # writes what is buffered
    return file


def spooled_in_turns(
    write: Callable[Concatenate[IO[bytes], Given], Iterator[int]],
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> tuple[IO[bytes], Iterator[int]]:
    """The same, and what `write` yields: asking for that writes the file."""
    file = _Spool(IN_MEMORY)

    def turns() -> Iterator[int]:
        with _full_disk():
            yield from write(file, *args, **kwargs)
            file.seek(0)

    return file, turns()


async def spooled_parts(parts: AsyncIterator[Any]) -> IO[bytes]:
    """The same of parts, which are buffers; no thread waits for the next one."""
    file = _Spool(IN_MEMORY)
    with _full_disk():
        async for part in parts:
            await asyncio.to_thread(file.write, part)
        await asyncio.to_thread(file.seek, 0)
    return file


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an encoder's
            raise
        raise StoreUnavailable(
            f"The folder for temporary files cannot be used now: {error.strerror}."
        ) from error


def size_of(file: bytes | memoryview | IO[bytes]) -> int:
    """Bytes of a file, which is at its beginning then."""
    if isinstance(file, bytes | memoryview):
        return len(file)
    size = file.seek(0, SEEK_END)
    file.seek(0)
    return size
