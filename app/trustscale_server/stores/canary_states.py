"""The states of canaries, as bytes that all processes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put

T = TypeVar("T")


class CanaryStates:
    """States by calibration. A power cut may undo the last ones, which raises no false alarm."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def load(self, calibration: str) -> bytes | None:
        """Return the present state, or None if nothing was saved."""
        (document,) = await self._documents.read(_key(calibration))
        return document.value if document.version else None

    async def change(
        self, calibration: str, decide: Callable[[bytes | None], tuple[T, bytes | None]]
    ) -> T:
        """Save what `decide` makes of the state, and return its answer.

        decide: from the state, None before the first, the answer and what to save, None: nothing;
        may run again.
        """

        def replace(documents: Sequence[Document]) -> tuple[T, Changes]:
            (before,) = documents
            answer, state = decide(before.value if before.version else None)
            return answer, {} if state is None else {_key(calibration): Put(state)}

        return await self._documents.change([_key(calibration)], replace, durable=False)

    async def forget(self, calibration: str) -> None:
        """Remove the state of a calibration."""
        key = _key(calibration)
        await self._documents.change([key], lambda _: (None, {key: None}))


def _key(calibration: str) -> Key:
    return Key("canaries", calibration)
