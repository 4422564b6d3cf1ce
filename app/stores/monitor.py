"""States of the monitor, each with a history and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias, TypeVar

from app.stores.documents import (
    Changes,
    Document,
    Documents,
    Key,
    Put,
    StoreUnavailable,
    read_folder,
)

Answer = TypeVar("Answer")

MOST_POINTS: Final = 1000
"""Points of history that are kept of one calibration."""


class Label(NamedTuple):
    """The truth about a result: its digest, and what the service answered to it."""

    result: str
    digest: str
    record: bytes


class Update(NamedTuple):
    """What is saved together: a state, points for the history, and perhaps the label."""

    state: bytes
    points: Sequence[bytes] = ()
    label: Label | None = None


Decide: TypeAlias = Callable[[bytes | None], tuple[Answer, Update | None]]
"""From the present state, None before the first, an answer and what to save; may run again."""


class MonitorStore:
    """States by calibration, as bytes.

    A power cut may undo the last states, which changes no promise; an acknowledged label is on the
    disk.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def load(self, calibration: str) -> bytes | None:
        """The present state; None if nothing was saved."""
        (found,) = await self._documents.read(_state(calibration))
        return found.value if found.version else None

    async def change(
        self, calibration: str, decide: Decide[Answer], *, labels: str | None = None
    ) -> Answer | None:
        """Save what `decide` makes of the state, all of it or nothing, and return its answer.

        labels: the result that the update labels; if it has a label, nothing happens and None is
        returned. A call whose answer got lost may run twice: callers recognise counted ones by
        digests.
        """
        state, points = _state(calibration), _points(calibration)
        keys = [state, *([] if labels is None else [Key(_labels(calibration), labels)])]

        def replace(found: Sequence[Document]) -> tuple[Answer | None, Changes]:
            version = found[0].version
            if any(one.version for one in found[1:]):
                return None, {}
            answer, update = decide(found[0].value if version else None)
            changes: dict[Key, Put | None] = {}
            if update is not None:
                changes[state] = Put(update.state)
                for k, point in enumerate(update.points):
                    changes[Key(points, f"{k:06}-{version}")] = Put(point, version)
                if update.label is not None:
                    record = update.label.digest.encode() + b" " + update.label.record
                    changes[keys[1]] = Put(record, version)
            return answer, changes

        answer = await self._documents.change(keys, replace, durable=labels is not None)
        with suppress(StoreUnavailable):  # the change is made; the next one removes old points, too
            surplus = await self._documents.count(points) - MOST_POINTS
            if surplus > 0:
                oldest = await self._documents.names(points, limit=surplus)
                gone = {Key(points, name): None for name in oldest}
                await self._documents.change([], lambda _: (None, gone), durable=False)
        return answer

    async def points(self, calibration: str) -> list[bytes]:
        """The history: the last `MOST_POINTS` points, the oldest first."""
        found = await read_folder(
            self._documents, _points(calibration), limit=MOST_POINTS, newest=True
        )
        return list(found.values())[::-1]

    async def label(self, calibration: str, result: str) -> Label | None:
        """The label of a result, if any."""
        (found,) = await self._documents.read(Key(_labels(calibration), result))
        return _label(result, found.value) if found.version else None

    async def labels(self, calibration: str, *, limit: int) -> list[Label]:
        """The last labels, the oldest of them first."""
        found = await read_folder(self._documents, _labels(calibration), limit=limit, newest=True)
        return [_label(result, value) for result, value in found.items()][::-1]

    async def forget(self, calibration: str) -> None:
        """Remove everything about a calibration."""
        key = _state(calibration)
        await self._documents.change([key], lambda _: (None, {key: None}))
        await self._documents.drop(_points(calibration), _labels(calibration))


def _state(calibration: str) -> Key:
    return Key("monitor", calibration)


def _points(calibration: str) -> str:
    return f"monitor-points:{calibration}"


def _labels(calibration: str) -> str:
    return f"monitor-labels:{calibration}"


def _label(result: str, value: bytes) -> Label:
    digest, _, record = value.partition(b" ")
    return Label(result, digest.decode(), record)
