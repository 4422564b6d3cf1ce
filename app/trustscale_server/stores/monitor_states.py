"""What the monitor knows under each calibration, and the labels of results, as bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put

T = TypeVar("T")


class Label(NamedTuple):
    """The truth about a result: its digest, and what the service answered to it."""

    result: str
    digest: str
    record: bytes


class Update(NamedTuple):
    """What is saved together: a state, and perhaps the label."""

    state: bytes
    label: Label | None = None


class MonitorStore:
    """States by calibration, as bytes.

    A power cut may undo the last states, which changes no promise; an acknowledged label is on the
    disk.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def load(self, calibration: str) -> bytes | None:
        """Return the present state, or None if nothing was saved."""
        (document,) = await self._documents.read(_state(calibration))
        return document.value if document.version else None

    async def change(
        self,
        calibration: str,
        decide: Callable[[bytes | None], tuple[T, Update | None]],
        *,
        labels: str | None = None,
    ) -> T | None:
        """Save what `decide` makes of the state, all of it or nothing, and return its answer.

        decide: from the state, None before the first, the answer and what to save; may run again.
        labels: the result that the update labels; if it has a label, nothing happens and None is
        returned.

        A call whose answer got lost may run twice: callers recognise what they counted by digests.
        """
        state = _state(calibration)
        label = [] if labels is None else [Key(_labels(calibration), labels)]

        def replace(documents: Sequence[Document]) -> tuple[T | None, Changes]:
            before, *labelled = documents
            if any(document.version for document in labelled):
                return None, {}
            answer, update = decide(before.value if before.version else None)
            if update is None:
                return answer, {}
            changes: dict[Key, Put | None] = {state: Put(update.state)}
            if update.label is not None:
                record = update.label.digest.encode() + b" " + update.label.record
                changes[label[0]] = Put(record, before.version)
            return answer, changes

        return await self._documents.change([state, *label], replace, durable=labels is not None)

    async def label(self, calibration: str, result: str) -> Label | None:
        """Return the label of a result, if any."""
        (document,) = await self._documents.read(Key(_labels(calibration), result))
        if not document.version:
            return None
        digest, _, record = document.value.partition(b" ")
        return Label(result, digest.decode(), record)

    async def forget(self, calibration: str) -> None:
        """Remove everything about a calibration."""
        key = _state(calibration)
        await self._documents.change([key], lambda _: (None, {key: None}))
        await self._documents.drop(_labels(calibration))


def _state(calibration: str) -> Key:
    return Key("monitor", calibration)


def _labels(calibration: str) -> str:
    return f"monitor-labels:{calibration}"
