"""Temporary files for one reader: in memory while small, else on the disk without a name."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, Concatenate, Final, ParamSpec

from trustscale_server.platform.errors import ConfigError
from trustscale_server.stores.documents import StoreUnavailable


def check_temporary(folder: str) -> None:
    """Raise ConfigError where temporary files cannot be in TMPDIR, or anywhere."""
    with suppress(FileNotFoundError):  # Python takes other folders before it raises
        if Path(gettempdir()).resolve() == Path(folder or gettempdir()).resolve():
            return
    raise ConfigError(f"The folder for temporary files (TMPDIR={folder}) cannot be written.")


P = ParamSpec("P")

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
    write: Callable[Concatenate[IO[bytes], P], object],
    *args: P.args,
    **kwargs: P.kwargs,
) -> IO[bytes]:
    """Return what `write` writes as a file at its beginning; a large one is on the disk.

    It has no name there: when nobody refers to it, or the process is killed, nothing is left.

    Raises StoreUnavailable: the disk is full.
    """
    file = _Spool(IN_MEMORY)
    with _closed_by_errors(file):
        write(file, *args, **kwargs)
        file.seek(0)  # writes what is buffered
    return file


async def spooled_parts(chunks: AsyncIterator[Any]) -> IO[bytes]:
    """Write parts, which are buffers, to a file; no thread waits for the next one."""
    file = _Spool(IN_MEMORY)
    with _closed_by_errors(file):
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.seek, 0)
    return file


@contextmanager
def _closed_by_errors(file: _Spool) -> Iterator[None]:
    """Close a file that is not finished: an error may refer to it until garbage is collected."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # what is buffered may have no room either
            file.close()
        if isinstance(error, OSError) and error.errno is not None:  # an encoder's have none
            raise no_temporary(error) from error
        raise


def no_temporary(error: OSError) -> StoreUnavailable:
    """Return the error for a folder of temporary files that is full, or gone."""
    return StoreUnavailable(
        f"The folder for temporary files (TMPDIR) cannot be used now: {error.strerror}."
    )


def is_of_temporary(error: OSError) -> bool:
    """Return whether an error is about a file in the folder for temporary files."""
    name = error.filename
    return isinstance(name, str) and bool(name) and Path(name).parent == Path(gettempdir())


def byte_size(file: bytes | memoryview | IO[bytes]) -> int:
    """Return the size of a file in bytes, and rewind it."""
    if isinstance(file, bytes | memoryview):
        return len(file)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
