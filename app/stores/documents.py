"""Documents by folder and name, each changed by compare-and-swap: all that databases keep for us.

Calibrations, jobs, the index of results, the audit log, claims, calls and the monitor are such
documents. SQLite (`sqlite.py`) and Redis (`redis.py`) know nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

Answer = TypeVar("Answer")


class Key(NamedTuple):
    """The place of a document; folders exist while something is in them."""

    folder: str
    name: str


class Document(NamedTuple):
    """What is stored; `version` counts the changes since it was put first."""

    version: int
    value: bytes


ABSENT: Final = Document(0, b"")
"""What is read where nothing is stored."""


class Put(NamedTuple):
    """A value to store, and what sorts it inside its folder."""

    value: bytes = b""
    order: float = 0.0


Changes: TypeAlias = Mapping[Key, Put | None]
"""What is to be stored, or removed: None."""

Decide: TypeAlias = Callable[[Sequence[Document]], tuple[Answer, Changes]]
"""Says what follows from documents; it may be asked again, of newer ones."""


class Documents(Protocol):
    """Where documents lie, for all processes. Calls raise StoreUnavailable, and may be repeated."""

    async def read(self, *keys: Key) -> list[Document]:
        """The documents of keys, in their order: one consistent snapshot."""

    async def names(
        self, folder: str, *, most: float = inf, limit: int | None = None, newest: bool = False
    ) -> list[str]:
        """The names of a folder with at most this order, sorted by it, then by name.

        newest: the largest first, which are also those that a limit leaves.
        """

    async def count(self, folder: str) -> int:
        """How many documents a folder has."""

    async def change(
        self, keys: Sequence[Key], decide: Decide[Answer], *, durable: bool = True
    ) -> Answer:
        """Do all that follows from the documents of keys, or nothing, and answer.

        Nothing changes these documents in between; what else is to be stored replaces what is
        there. An error of `decide` changes nothing.

        durable: whether it is on the disk before this returns, where the database can do that.
        """

    async def drop(self, *folders: str) -> None:
        """Remove folders with all documents."""


async def read_folder(
    documents: Documents, folder: str, *, most: float = inf, limit: int | None = None,
    newest: bool = False,
) -> dict[str, bytes]:  # fmt: skip
    """The values of a folder by their names, in the order of `Documents.names`."""
    names = await documents.names(folder, most=most, limit=limit, newest=newest)
    found = await documents.read(*(Key(folder, name) for name in names)) if names else []
    # What has no version was removed in between.
    return {name: one.value for name, one in zip(names, found, strict=True) if one.version}
