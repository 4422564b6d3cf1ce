"""Documents by folder and name, changed by compare-and-swap: the whole interface of a database.

All stores but that of bytes are made of documents; SQLite (`sqlite.py`) and Redis
(`redis_documents.py`) know nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

from trustscale_server.platform.errors import TransientError

T = TypeVar("T")


class StoreUnavailable(TransientError):
    """The store cannot be read or written now: no connection, a full disk, a full memory.

    The call stored nothing, and may be repeated.
    """


class Key(NamedTuple):
    """The place of a document."""

    folder: str
    name: str


class Document(NamedTuple):
    """A stored value; `version` grows with every change, and 0 means absent."""

    version: int
    value: bytes


ABSENT: Final = Document(0, b"")


class Put(NamedTuple):
    """A value to store, and its sort key in the folder."""

    value: bytes = b""
    order: float = 0.0


Changes: TypeAlias = Mapping[Key, Put | None]
"""Values to store; None removes."""

Decide: TypeAlias = Callable[[Sequence[Document]], tuple[T, Changes]]
"""Decides changes from documents; may run again on newer ones."""


class Space(NamedTuple):
    """Bytes that are used, and that may be; without a limit that is infinite."""

    used: float
    limit: float


class Documents(Protocol):
    """Documents shared by all processes. Calls raise StoreUnavailable; they may be repeated."""

    async def read(self, *keys: Key) -> list[Document]:
        """Return the documents of keys, in their order, as one snapshot."""

    async def names(
        self, folder: str, *, most: float = inf, limit: int | None = None, newest: bool = False
    ) -> list[str]:
        """Return the names of a folder with at most this sort key, sorted by it, then by name.

        newest: in descending order; a limit then keeps the largest.
        """

    async def change(self, keys: Sequence[Key], decide: Decide[T], *, durable: bool = True) -> T:
        """Apply all changes that `decide` makes of the documents, or none; return its answer.

        The documents cannot change in between; an error of `decide` changes nothing. durable: on
        the disk before this returns, if the database can do that.
        """

    async def drop(self, *folders: str) -> None:
        """Remove folders."""

    async def time(self) -> float:
        """Return seconds since 1970 by the clock that all processes on this store share."""

    async def space(self) -> Space:
        """Return the space that is used, and its limit."""

    async def probe(self) -> None:
        """Raise StoreUnavailable unless documents can be written and read now."""


async def read_folder(
    documents: Documents, folder: str, *, most: float = inf, limit: int | None = None,
    newest: bool = False,
) -> dict[str, bytes]:  # fmt: skip
    """Return the values of a folder by name, in the order of `Documents.names`."""
    names = await documents.names(folder, most=most, limit=limit, newest=newest)
    contents = await documents.read(*(Key(folder, name) for name in names))
    return {
        name: document.value
        for name, document in zip(names, contents, strict=True)
        if document.version  # else it was removed in between
    }
