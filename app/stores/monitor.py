"""What is known of the requests under each calibration, shared by all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from app.stores.documents import Changes, Document, Documents, Key, Put, read_folder

MOST_POINTS: Final = 1000
"""Points of history that are kept of one calibration; older ones go."""


class Snapshot(NamedTuple):
    """A state and the version that the next `save` must name."""

    version: int
    state: bytes


class Label(NamedTuple):
    """The truth about one result has been told: what it was, and what was made of it.

    digest: of the truth, so that the same one is recognised.
    record: what the service answered.
    """

    result: str
    digest: str
    record: bytes


class Update(NamedTuple):
    """What is saved together: a state, points for the history, and perhaps a label."""

    state: bytes
    points: Sequence[bytes] = ()
    label: Label | None = None


class MonitorStore:
    """The state is opaque here, and changed by compare-and-swap (`app/watch/versioned.py`).

    A power cut may undo the last states, which changes no promise; a label that was acknowledged
    is on the disk.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def load(self, calibration: str) -> Snapshot | None:
        """The newest state; None if nothing was saved."""
        (found,) = await self._documents.read(_state(calibration))
        return Snapshot(found.version, found.value) if found.version else None

    async def save(self, calibration: str, update: Update, *, expected: int) -> bool:
        """Replace the state, append to the history and record the label: all of it or nothing.

        False, and nothing happens, if the version is no longer `expected` (0: nothing was saved
        yet) or the result has a label already. Whoever saves again what was saved is refused, too,
        and recognises by the digests of inputs and truths what is counted already.
        """
        state, label = _state(calibration), update.label
        keys, points = [state], []
        if label is not None:
            keys.append(Key(_labels(calibration), label.result))
        if update.points:
            points = await self._documents.names(_points(calibration))

        def replace(found: Sequence[Document]) -> tuple[bool, Changes]:
            if found[0].version != expected or (label is not None and found[1].version):
                return False, {}
            first = int(points[-1]) + 1 if points else 0
            new = {f"{first + k:012}": point for k, point in enumerate(update.points)}
            surplus = [*points, *new][:-MOST_POINTS]
            changes: dict[Key, Put | None] = {state: Put(update.state)}
            for name, point in new.items():
                changes[Key(_points(calibration), name)] = Put(point)
            for name in surplus:
                changes[Key(_points(calibration), name)] = None
            if label is not None:
                changes[keys[1]] = Put(label.digest.encode() + b" " + label.record, expected)
            return True, changes

        return await self._documents.change(keys, replace, durable=label is not None)

    async def points(self, calibration: str) -> list[bytes]:
        """The history, the oldest first: the last `MOST_POINTS` points."""
        return list((await read_folder(self._documents, _points(calibration))).values())

    async def label(self, calibration: str, result: str) -> Label | None:
        """The label of a result; None if it has none."""
        (found,) = await self._documents.read(Key(_labels(calibration), result))
        return _label(result, found.value) if found.version else None

    async def labels(self, calibration: str, *, limit: int) -> list[Label]:
        """The last labels, the oldest of them first."""
        found = await read_folder(self._documents, _labels(calibration), limit=limit, newest=True)
        return [_label(result, value) for result, value in found.items()][::-1]

    async def forget(self, calibration: str) -> None:
        """Remove everything about a calibration; nothing happens if there is nothing."""
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
