"""Files between their making and their store or reader: in memory while small, else on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from io import SEEK_END
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Concatenate, Final, ParamSpec

from app.stores.documents import StoreUnavailable

Given = ParamSpec("Given")

IN_MEMORY: Final = 8 * 2**20
"""Bytes of a file from which on it is on the disk."""

_PART: Final = 2**20


class _Spool(SpooledTemporaryFile[bytes]):
    """Closed when nobody refers to it."""

    name = "spool"  # tifffile takes no None

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
    try:
        write(file, *args, **kwargs)
        file.seek(0)  # writes what is buffered
    except OSError as error:
        if error.errno is None:  # an encoder's
            raise
        raise StoreUnavailable(
            f"The folder {gettempdir()} cannot be used now: {error.strerror}."
        ) from error
    return file


def size_of(file: bytes | memoryview | IO[bytes]) -> int:
    """Bytes of a file, which is at its beginning then."""
    if isinstance(file, bytes | memoryview):
        return len(file)
    size = file.seek(0, SEEK_END)
    file.seek(0)
    return size


def parts_of(file: IO[bytes]) -> Iterator[bytes]:
    """All of a file, which is closed then."""
    with file:
        file.seek(0)
        while part := file.read(_PART):
            yield part
