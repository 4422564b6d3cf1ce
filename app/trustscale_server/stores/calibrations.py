"""Calibrations, and which of them are active."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from trustscale_server.platform.errors import Conflict, NotFound
from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put, read_folder
from trustscale_server.stores.job_documents import accepts_work, job_key

MAX_ACTIVE: Final = 8
"""Active calibrations of an upscaler."""

_HEADS: Final = "calibrations"
_ACTIVE: Final = Key("active", "all")


class CalibrationHead(BaseModel):
    """What lists show of a calibration; the blob holds all (`calibration/calibration.py`)."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str | None
    upscaler: str
    created_at: datetime
    n: int
    min_alpha: float
    default_alpha: float
    metric: str
    guarantee: str = "expectation"
    delta: float | None = None


class Switch(BaseModel):
    """The last change of what an upscaler serves from; previous: the first calibration before."""

    model_config = ConfigDict(frozen=True)

    upscaler: str
    previous: str | None
    at: datetime


class Activation(Switch):
    """The active calibrations of an upscaler, in the order in which they are asked."""

    calibrations: tuple[str, ...]

    @property
    def calibration(self) -> str:
        """The active calibration that is asked first; it was activated last."""
        return self.calibrations[0]


class CalibrationStore:
    """Immutable calibrations, and which of them are active."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def put(self, head: CalibrationHead, blob: bytes) -> None:
        """Store a calibration, whole or not at all; an existing id stays as it is."""
        key = Key(_HEADS, head.id)

        def keep(documents: Sequence[Document]) -> tuple[None, Changes]:
            if documents[0].version:
                return None, {}
            entry = Put(head.model_dump_json().encode(), head.created_at.timestamp())
            return None, {key: entry, _blob(head.id): Put(blob)}

        await self._documents.change([key], keep)

    async def get(self, calibration: str) -> bytes:
        """Return the calibration's file. Raises NotFound."""
        (document,) = await self._documents.read(_blob(calibration))
        if not document.version:
            raise _unknown(calibration)
        return document.value

    async def report(self, calibration: str) -> bytes | None:
        """Return what was kept by `keep_report`, if anything."""
        (document,) = await self._documents.read(_report(calibration))
        return document.value if document.version else None

    async def keep_report(self, calibration: str, report: bytes) -> None:
        """Keep what was computed of a calibration, as long as that is there."""

        def keep(documents: Sequence[Document]) -> tuple[None, Changes]:
            return None, {_report(calibration): Put(report)} if documents[0].version else {}

        await self._documents.change([Key(_HEADS, calibration)], keep)

    async def heads(self, upscaler: str | None = None) -> list[CalibrationHead]:
        """Return all calibrations, the newest first."""
        documents = await read_folder(self._documents, _HEADS, newest=True)
        heads = map(CalibrationHead.model_validate_json, documents.values())
        return [head for head in heads if upscaler is None or head.upscaler == upscaler]

    async def activate(
        self, calibration: str, *, job: str | None = None, without: Collection[str] | None = ()
    ) -> Activation:
        """Put a calibration before the active ones, less those in `without`, or alone.

        With a job only before its end: a suspended worker must not undo an admin's later choice.

        Raises NotFound, or Conflict if the job has ended or too many would be active.
        """
        keys = [_ACTIVE, Key(_HEADS, calibration), *([] if job is None else [job_key(job)])]

        def switch(documents: Sequence[Document]) -> tuple[Activation, Changes]:
            if job is not None and not accepts_work(documents[2]):
                raise Conflict(f"The job {job} has ended, so it activates nothing.")
            if not documents[1].version:
                raise _unknown(calibration)
            upscaler = CalibrationHead.model_validate_json(documents[1].value).upscaler
            present = _activations(documents[0])
            activation = _activated(present.get(upscaler), upscaler, calibration, without)
            if activation is present.get(upscaler):
                return activation, {}
            return activation, {_ACTIVE: Put(_ALL.dump_json({**present, upscaler: activation}))}

        return await self._documents.change(keys, switch)

    async def active(self) -> Mapping[str, Activation]:
        """Return the activations by upscaler, a snapshot cheap enough for every request."""
        return _activations(*await self._documents.read(_ACTIVE))

    async def delete(self, calibration: str) -> None:
        """Remove a calibration. Raises NotFound, or Conflict while it is active."""
        key, was_there = Key(_HEADS, calibration), False

        def remove(documents: Sequence[Document]) -> tuple[None, Changes]:
            nonlocal was_there
            if not documents[1].version:
                if was_there:  # removed by this call, whose answer got lost
                    return None, {}
                raise _unknown(calibration)
            if any(
                calibration in activation.calibrations
                for activation in _activations(documents[0]).values()
            ):
                raise Conflict(
                    f"Calibration {calibration} is active; make another one the only one first."
                )
            was_there = True
            return None, {key: None, _blob(calibration): None, _report(calibration): None}

        await self._documents.change([_ACTIVE, key], remove)


_ALL: Final = TypeAdapter(dict[str, Activation])


def _activations(document: Document) -> dict[str, Activation]:
    return _ALL.validate_json(document.value) if document.version else {}


def _activated(
    present: Activation | None, upscaler: str, calibration: str, without: Collection[str] | None
) -> Activation:
    """The activation with one more calibration; `present` if that changes nothing."""
    before = present.calibrations if present else ()
    gone = before if without is None else without
    others = [active for active in before if active != calibration and active not in gone]
    after = (calibration, *others)
    if present is not None and after == before:
        return present
    if len(after) > MAX_ACTIVE:
        raise Conflict(
            f"{MAX_ACTIVE} calibrations of {upscaler!r} are active already: make this one the "
            'only one ("only": true, --only).'
        )
    previous = None
    if present is not None:
        is_first = present.calibration == calibration
        previous = present.previous if is_first else present.calibration
    return Activation(
        upscaler=upscaler, calibrations=after, previous=previous, at=datetime.now(UTC)
    )


def _report(calibration: str) -> Key:
    return Key("calibration-reports", calibration)


def _blob(calibration: str) -> Key:
    return Key("calibration-blobs", calibration)


def _unknown(calibration: str) -> NotFound:
    return NotFound(f"There is no calibration {calibration}.")
