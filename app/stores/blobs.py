"""What the rest of the service may rely on from any store of bytes (`app/stores/objects.py`)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias

from app.errors import Overloaded


class StoreUnavailable(Overloaded):
    """The store cannot be read or written now: no connection, a full disk, a damaged file.

    Nothing of the refused call was stored. Trying again later makes sense.
    """


Blob: TypeAlias = bytes | memoryview
"""A file to store; a view of bytes spares a copy."""


class UploadLink(NamedTuple):
    """A PUT that stores a file without us; whoever sends it adds these headers."""

    url: str
    headers: dict[str, str]


class Blobs(Protocol):
    """Bytes by folder and name, readable by every process: the folder of a job, of a result."""

    async def put(self, folder: str, name: str, data: Blob) -> None:
        """Store a file, whole or not at all. Storing a name again replaces the file."""

    async def create(self, folder: str, name: str, data: Blob) -> bool:
        """Store a file, whole, unless there is one of this name: True for exactly one caller."""

    async def get(self, folder: str, name: str, *, most: int | None = None) -> bytes:
        """Raises NotFound, or ImageTooLarge before more than `most` bytes are read."""

    async def names(self, folder: str) -> list[str]:
        """The names of all files of a folder, in order; empty if there are none."""

    async def delete(self, folder: str) -> None:
        """Remove all files of a folder; nothing happens if there are none."""

    async def untouched(self, before: datetime) -> list[str]:
        """The folders none of whose files was stored since, in order."""

    async def link(self, folder: str, name: str, *, seconds: float) -> str | None:
        """A URL that gives the file to anybody for so long; None where the bytes have none."""

    async def upload_link(self, folder: str, name: str, *, seconds: float) -> UploadLink | None:
        """What lets anybody store the file, of any size, for so long; None as of `link`."""
