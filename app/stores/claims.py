"""What expires: claims of names, and counted calls."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Final

from app.stores.documents import Changes, Document, Documents, Key, Put

_CLAIMS: Final = "claims"

# Each claim adds one and removes up to this many expired ones.
_FORGOTTEN: Final = 10

_SECONDS: Final = "d"  # of array: eight bytes each


class ClaimStore:
    """Values by name that expire."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        """Store a value for `seconds` unless there is one; return the stored one."""
        key, now = Key(_CLAIMS, name), time.time()
        ended = await self._documents.names(_CLAIMS, most=now, limit=_FORGOTTEN)
        others = [Key(_CLAIMS, one) for one in ended if one != name]

        def keep(found: Sequence[Document]) -> tuple[bytes, Changes]:
            gone: Changes = {
                one: None
                for one, kept in zip(others, found[1:], strict=True)
                if kept.version and _alive(kept, now) is None
            }
            kept = _alive(found[0], now)
            if kept is not None:
                return kept, gone
            return value, {**gone, key: _put(value, now + seconds)}

        return await self._documents.change([key, *others], keep)

    async def get(self, name: str) -> bytes | None:
        """The value, if any."""
        (found,) = await self._documents.read(Key(_CLAIMS, name))
        return _alive(found, time.time())

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        """Replace or remove a value if it still is `old`."""
        key, now = Key(_CLAIMS, name), time.time()

        def swap(found: Sequence[Document]) -> tuple[None, Changes]:
            if _alive(found[0], now) != old:
                return None, {}
            return None, {key: None if new is None else _put(new, now + seconds)}

        await self._documents.change([key], swap)


def _put(value: bytes, ends: float) -> Put:
    return Put(array(_SECONDS, [ends]).tobytes() + value, ends)


def _alive(found: Document, now: float) -> bytes | None:
    """The value of a claim that has not expired."""
    ends = array(_SECONDS, found.value[:8])
    return found.value[8:] if ends and ends[0] > now else None


class CallStore:
    """When rate-limited upscalers were called, by any process.

    A power cut may undo the last calls.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def take(self, upscaler: str, most: int, *, seconds: float) -> float:
        """Count a call that starts now, unless `most` have started in the last `seconds`.

        Returns 0 if it was counted, else the seconds until one may start.
        """
        key = Key("calls", upscaler)

        def taken(found: Sequence[Document]) -> tuple[float, Changes]:
            now = time.time()
            started = _since(found[0], now - seconds)
            if len(started) >= most:
                return max(0.001, started[-most] + seconds - now), {}
            return 0.0, {key: Put(array(_SECONDS, [*started, now]).tobytes())}

        return await self._documents.change([key], taken, durable=False)

    async def count(self, upscaler: str, *, seconds: float) -> int:
        """Calls started within so many seconds."""
        (found,) = await self._documents.read(Key("calls", upscaler))
        return len(_since(found, time.time() - seconds))


def _since(found: Document, start: float) -> list[float]:
    return [at for at in array(_SECONDS, found.value) if at > start]
