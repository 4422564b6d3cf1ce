"""When rate-limited upscalers were called."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put


class CallStore:
    """Counts when rate-limited upscalers were called, by any process.

    A power cut may undo the last calls.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def take(self, upscaler: str, most: int, *, seconds: float) -> float:
        """Count a call that starts now, unless `most` have started in the last `seconds`.

        Returns 0 if it was counted, else the seconds until one may start.
        """
        key, now = _key(upscaler), await self._documents.time()

        def add(documents: Sequence[Document]) -> tuple[float, Changes]:
            started = _since(documents[0], now - seconds)
            at = max([now, *started])  # others may have started one since the time was read
            if len(started) >= most:
                return max(0.001, started[-most] + seconds - at), {}
            return 0.0, {key: Put(array("d", [*started, at]).tobytes())}

        return await self._documents.change([key], add, durable=False)

    async def count(self, upscaler: str, *, seconds: float) -> int:
        """Count the calls that started within the last `seconds`."""
        (document,) = await self._documents.read(_key(upscaler))
        return len(_since(document, await self._documents.time() - seconds))


def _key(upscaler: str) -> Key:
    return Key("calls", upscaler)


def _since(document: Document, start: float) -> list[float]:
    """The stored times of calls, seconds since 1970 as eight bytes each, that lie after `start`."""
    return [at for at in array("d", document.value) if at > start]
