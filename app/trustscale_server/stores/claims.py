"""Claims: names that the first caller takes, for a time."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put

_CLAIMS: Final = "claims"

_ENDS: Final = struct.Struct("=d")
"""A stored claim begins with when it ends, in seconds since 1970."""


class ClaimStore:
    """Values by name that expire, each set by one caller."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        """Store a value for `seconds` unless there is one; return the stored one."""
        key, now = Key(_CLAIMS, name), await self._documents.time()
        # Claims leave faster than they come: each adds one, and removes up to ten that have ended.
        ended = await self._documents.names(_CLAIMS, most=now, limit=10)
        others = [Key(_CLAIMS, other) for other in ended if other != name]

        def add(documents: Sequence[Document]) -> tuple[bytes, Changes]:
            mine, *rest = documents
            changes: dict[Key, Put | None] = {
                other: None
                for other, document in zip(others, rest, strict=True)
                if document.version and _value(document, now) is None
            }
            present = _value(mine, now)
            if present is None:
                changes[key] = _put(value, now + seconds)
            return value if present is None else present, changes

        return await self._documents.change([key, *others], add)

    async def get(self, name: str) -> bytes | None:
        """Return the value, if any."""
        (document,) = await self._documents.read(Key(_CLAIMS, name))
        return _value(document, await self._documents.time())

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        """Replace or remove a value if it still is `old`."""
        key, now = Key(_CLAIMS, name), await self._documents.time()

        def swap(documents: Sequence[Document]) -> tuple[None, Changes]:
            if _value(documents[0], now) != old:
                return None, {}
            return None, {key: None if new is None else _put(new, now + seconds)}

        await self._documents.change([key], swap)


def _put(value: bytes, ends: float) -> Put:
    return Put(_ENDS.pack(ends) + value, ends)


def _value(claim: Document, now: float) -> bytes | None:
    """The value of a claim, unless there is none or it has expired."""
    if not claim.version:
        return None
    (ends,) = _ENDS.unpack_from(claim.value)
    return claim.value[_ENDS.size :] if ends > now else None
