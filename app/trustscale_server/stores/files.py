"""Files that appear whole or not at all, across a crash and a power cut, and a lock on one."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from trustscale_server.platform.errors import ConfigError

# Prefix of temporary files; no encoded name has it.
_SCRATCH = ".tmp-"

# Older temporary files are from killed processes.
SCRATCH_LIFE_S = 3600.0


PRIVATE = 0o700


def usable_folder(folder: Path, *, mode: int = 0o777) -> Path:
    """Make the folder if needed, prove it writable, and remove old temporary files.

    Raises ConfigError.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        for left in folder.glob(f"{_SCRATCH}*"):
            with suppress(FileNotFoundError):  # removed by another process
                if left.stat().st_mtime < time.time() - SCRATCH_LIFE_S:
                    left.unlink()
        probe = folder / f"{_SCRATCH}{uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    return folder


def sync(place: Path) -> None:
    """Flush a file, or the names inside a folder, to the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file, whole or not at all, also across a power cut.

    durable: if not, a power cut may undo it or leave it empty; nobody waits for the disk.
    """
    with _scratch(path, data, 0o666, durable=durable) as scratch:
        scratch.replace(path)
    if durable:
        sync(path.parent)


def create_file(path: Path, data: bytes, *, permissions: int = 0o666) -> bool:
    """Write a file, whole or not at all; False if there is one already."""
    with _scratch(path, data, permissions) as scratch:
        try:
            path.hardlink_to(scratch)  # unlike a renaming, it never replaces a file
        except FileExistsError:
            return False
    sync(path.parent)
    return True


@contextmanager
def _scratch(path: Path, data: bytes, permissions: int, *, durable: bool = True) -> Iterator[Path]:
    scratch = path.parent / f"{_SCRATCH}{uuid4().hex}"
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield scratch
    finally:
        with suppress(OSError):
            scratch.unlink()


@contextmanager
def held(path: Path, message: str) -> Iterator[None]:
    """Hold a lock on a file, at most until this process ends.

    Raises ConfigError, with this message if another process holds it.
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
            raise ConfigError(message) from error
        except OSError as error:
            no_locks = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
            if error.errno not in no_locks:  # else the file system has none
                raise
        yield
