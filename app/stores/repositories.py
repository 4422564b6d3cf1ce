"""Calibrations, results and use: what the service stores as documents, besides jobs.

**Calibrations**, and which of them are active.

**Results** of upscaling: a document and its place in an index, the files as blobs.

A result is visible once its row is in the index, which is written last. Each attempt writes into
its own folder, and the first row of an id stays, so a job that runs twice cannot change an answer.

Above the size limit the oldest results are removed until a tenth of the limit is free, but never
the newest.

**Use**: who used how much in which month: pictures, calls and their price.

A process gathers amounts in memory and adds them to the store in batches, so that a busy one writes
seldom. A process that is killed loses those of its last second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from math import inf
from typing import IO, Final, Literal, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from trustscale_server.concurrency import beside
from trustscale_server.errors import Conflict, NotFound
from trustscale_server.stores.blobs import Blob, Blobs, byte_size
from trustscale_server.stores.documents import (
    Changes,
    Document,
    Documents,
    Key,
    Put,
    StoreUnavailable,
    read_folder,
)
from trustscale_server.stores.jobs import accepts_work, job_key

# --- Calibrations, and which of them are active.

MOST_ACTIVE: Final = 8
"""Active calibrations of an upscaler."""

_HEADS: Final = "calibrations"
_ACTIVE: Final = Key("active", "all")


class CalibrationHead(BaseModel):
    """What lists show of a calibration; the blob holds all (`app/calibration/record.py`)."""

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


class Activation(BaseModel):
    """The active calibrations of an upscaler, in the order in which they are asked.

    previous: the first one before the last change.
    """

    model_config = ConfigDict(frozen=True)

    upscaler: str
    calibrations: tuple[str, ...]
    previous: str | None
    at: datetime

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
            return None, {key: None, _blob(calibration): None}

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
    after = (
        calibration,
        *(active for active in before if active != calibration and active not in gone),
    )
    if present is not None and after == before:
        return present
    if len(after) > MOST_ACTIVE:
        raise Conflict(
            f"{MOST_ACTIVE} calibrations of {upscaler!r} are active already: make this one the "
            'only one ("only": true, --only).'
        )
    first = present.calibration if present else None
    if present is not None and first == calibration:
        first = present.previous
    return Activation(upscaler=upscaler, calibrations=after, previous=first, at=datetime.now(UTC))


def _blob(calibration: str) -> Key:
    return Key("calibration-blobs", calibration)


def _unknown(calibration: str) -> NotFound:
    return NotFound(f"There is no calibration {calibration}.")


# --- Results of upscaling: a document and its place in an index, the files as blobs.

KEY: Final = "result-"
"""Prefix of folders of results."""

LOW_WATER: Final = 0.9

# How long a proof that results can be stored counts.
_PROVEN_S: Final = 2.0

LINK_S: Final = 300.0

_ROWS: Final = "results"
_EXPIRY: Final = "results-by-expiry"
_BYTES: Final = Key("totals", "bytes of results")

_ROWS_AT_ONCE: Final = 100

Removed = Callable[[Literal["age", "space"]], None]

log = logging.getLogger(__name__)


class StoredResult(NamedTuple):
    """A row of the index; the files of the result are in `folder` of the blobs.

    stored, expires: seconds since 1970. size: of all files in bytes.
    """

    id: str
    folder: str
    size: int
    stored: float
    expires: float
    document: bytes = b""


class ResultStore:
    """Results until they expire or make room.

    ttl_s: default lifetime of a result. max_bytes: of all together. removed: called with the reason
    of a removal.
    """

    def __init__(
        self,
        documents: Documents,
        blobs: Blobs,
        *,
        ttl_s: float,
        max_bytes: int,
        removed: Removed = lambda _: None,
    ) -> None:
        self._documents = documents
        self._blobs = blobs
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._removed = removed
        self._proven = -inf

    async def check(self) -> None:
        """Raise an error unless a result could be stored; asked before one is paid for.

        Raises StoreUnavailable.
        """
        clock = asyncio.get_running_loop().time
        if clock() - self._proven > _PROVEN_S:
            await self._documents.check()
            await self._blobs.check()
            self._proven = clock()

    async def put(
        self, result: str, document: bytes, files: Mapping[str, Blob], *, ttl_s: float | None = None
    ) -> None:
        """Store a result, whole or not at all; an existing id keeps its first one."""
        stored = await self._documents.time()
        row = StoredResult(
            result,
            f"{KEY}{result}:{secrets.token_hex(8)}",
            len(document) + sum(map(byte_size, files.values())),
            stored,
            stored + (self._ttl_s if ttl_s is None else ttl_s),
            document,
        )
        old = await self._stored(result)
        if old is not None and old.expires <= stored:
            await self._remove(old, "age")
        puts = [self._blobs.put(row.folder, name, data) for name, data in files.items()]
        ended = await asyncio.gather(*puts, return_exceptions=True)
        failure = next((error for error in ended if error is not None), None)
        # An index that does not answer may still have the row: then the files stay.
        if failure is not None or not await self._add(row):
            with suppress(StoreUnavailable):
                await self._blobs.delete(row.folder)
        if failure is not None:
            raise failure
        try:
            await self._make_room()
        except StoreUnavailable as error:
            # The result is stored; a later sweep makes room.
            log.warning("Old results could not be removed to make room: %s", error.detail)

    async def document(self, result: str) -> bytes:
        """Return the document of a result. Raises NotFound."""
        return (await self._row(result)).document

    async def blob(self, result: str, name: str) -> bytes:
        """Return a file of a result. Raises NotFound."""
        row = await self._row(result)
        with suppress(NotFound):
            return await self._blobs.get(row.folder, name)
        raise _missing(result)

    async def file(self, result: str, name: str) -> IO[bytes]:
        """Open a file of a result to read in parts. Raises NotFound."""
        row = await self._row(result)
        with suppress(NotFound):
            return await self._blobs.file(row.folder, name)
        raise _missing(result)

    async def link(self, result: str, name: str) -> str | None:
        """Return a public URL of a file, if the blobs have links. Raises NotFound."""
        row = await self._row(result)
        return await self._blobs.link(row.folder, name, seconds=LINK_S)

    async def has(self, result: str) -> bool:
        """Return whether there is such a result that has not expired."""
        with suppress(NotFound):
            return bool(await self._row(result))
        return False

    async def holds(self, folder: str) -> bool:
        """Return whether a folder of the blobs is that of a result."""
        row = await self._stored(folder.removeprefix(KEY).rpartition(":")[0])
        return row is not None and row.folder == folder

    async def sweep(self) -> int:
        """Remove expired results, and the oldest above the limit; return how many."""
        names = await self._documents.names(_EXPIRY, most=await self._documents.time())
        expired = [row for name in names if (row := await self._stored(name)) is not None]
        return await self._remove_all(expired, "age") + await self._make_room()

    async def _make_room(self) -> int:
        (document,) = await self._documents.read(_BYTES)
        total, removed = int(document.value or 0), 0
        if total <= self._max_bytes:
            return 0
        while total > LOW_WATER * self._max_bytes:
            oldest = await read_folder(self._documents, _ROWS, limit=_ROWS_AT_ONCE + 1)
            surplus = []
            for row in list(map(_row, oldest.values()))[:-1]:
                if total <= LOW_WATER * self._max_bytes:
                    break
                surplus.append(row)
                total -= row.size
            if not surplus:
                break
            removed += await self._remove_all(surplus, "space")
        return removed

    async def _remove_all(
        self, rows: Sequence[StoredResult], reason: Literal["age", "space"]
    ) -> int:
        return sum([await self._remove(row, reason) for row in rows])

    async def _remove(self, row: StoredResult, reason: Literal["age", "space"]) -> bool:
        """Remove a row, then its files; False if another process did."""
        place = Key(_ROWS, row.id)

        def forget(documents: Sequence[Document]) -> tuple[bool, Changes]:
            total, present = documents
            if not present.version or _row(present.value).folder != row.folder:
                return False, {}
            left = Put(b"%d" % (int(total.value) - row.size))
            return True, {place: None, Key(_EXPIRY, row.id): None, _BYTES: left}

        if not await self._documents.change([_BYTES, place], forget):
            return False
        self._removed(reason)
        await self._blobs.delete(row.folder)
        return True

    async def _add(self, row: StoredResult) -> bool:
        """Add a row unless its id has another one; whether it is stored."""
        place = Key(_ROWS, row.id)

        def keep(documents: Sequence[Document]) -> tuple[bool, Changes]:
            total, present = documents
            if present.version:
                return _row(present.value).folder == row.folder, {}
            return True, {
                place: Put(_packed(row), row.stored),
                Key(_EXPIRY, row.id): Put(order=row.expires),
                _BYTES: Put(b"%d" % (int(total.value or 0) + row.size)),
            }

        return await self._documents.change([_BYTES, place], keep)

    async def _stored(self, result: str) -> StoredResult | None:
        (document,) = await self._documents.read(Key(_ROWS, result))
        return _row(document.value) if document.version else None

    async def _row(self, result: str) -> StoredResult:
        row = await self._stored(result)
        if row is None or row.expires <= await self._documents.time():
            raise _missing(result)
        return row


def _packed(row: StoredResult) -> bytes:
    return json.dumps(row[:-1]).encode() + b"\n" + row.document


def _row(value: bytes) -> StoredResult:
    line, _, document = value.partition(b"\n")
    return StoredResult(*json.loads(line))._replace(document=document)


def _missing(result: str) -> NotFound:
    return NotFound(f"There is no result {result!r}, or no longer.")


# --- Who used how much in which month: pictures, calls and their price.

Purpose = Literal["upscale", "calibrate", "canary"]

_PAUSE_S: Final = 1.0  # between batches
_AGAIN_S: Final = 5.0  # while the store is away
_DRAIN_S: Final = 5.0


class Amounts(BaseModel):
    """What can be added up."""

    pictures: int = Field(0, description="The number of answers, also of jobs.")
    megapixels: float = Field(0.0, description="The megapixels of their uploads.")
    seconds: float = Field(0.0, description="The seconds that making their samples took.")
    calls: int = Field(0, description="The number of calls to a remote upscaler, also failed ones.")
    price: float = Field(0.0, description="The price of the calls, at `price_per_call`.")

    def plus(self, other: Amounts) -> dict[str, float]:
        """Return the sums, by field."""
        mine, theirs = dict(self), dict(other)
        return {name: round(mine[name] + theirs[name], 9) for name in Amounts.model_fields}


class Use(Amounts):
    """What one client used of one upscaler in a month."""

    month: str = Field(description="The month, of UTC.")
    key: str | None = Field(
        description="The key's name, or the start of its digest; null without a key."
    )
    purpose: Purpose
    upscaler: str


class _Who(NamedTuple):
    month: str
    key: str | None
    purpose: Purpose
    upscaler: str


class _Kept(Amounts):
    """As stored; `batch`: the last one that was added, lest a repeated call adds it again."""

    batch: str = ""


_user: ContextVar[tuple[str | None, Purpose]] = ContextVar("user", default=(None, "upscale"))


@contextmanager
def used_by(key: str | None, purpose: Purpose) -> Iterator[None]:
    """Count what is used inside the `with`, and in tasks that begin there, for this client."""
    token = _user.set((key, purpose))
    try:
        yield
    finally:
        _user.reset(token)


class Usage:
    """Counts what is used, and reports it."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._gathered: dict[_Who, Amounts] = defaultdict(Amounts)
        self._batch: tuple[str, dict[_Who, Amounts]] | None = None
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    def called(self, upscaler: str, price: float) -> None:
        """Count a call."""
        self._add(upscaler, Amounts(calls=1, price=price))

    def answered(self, upscaler: str, pixels: int, seconds: float) -> None:
        """Count an answer to an upload of so many pixels."""
        self._add(upscaler, Amounts(pictures=1, megapixels=pixels / 1e6, seconds=seconds))

    def _add(self, upscaler: str, amounts: Amounts) -> None:
        who = _Who(f"{datetime.now(UTC):%Y-%m}", *_user.get(), upscaler)
        self._gathered[who] = Amounts(**self._gathered[who].plus(amounts))
        self._wake.set()

    async def report(self, month: str) -> list[Use]:
        """Return the sums of a month, such as `2026-11`, sorted. Raises StoreUnavailable."""
        await self.settle()
        documents = await read_folder(self._documents, _folder(month))
        whose = [_Who(month, *json.loads(name)) for name in documents]
        uses = [
            Use(**who._asdict(), **dict(Amounts.model_validate_json(value)))
            for who, value in zip(whose, documents.values(), strict=True)
        ]
        return sorted(uses, key=lambda use: (use.key or "", use.purpose, use.upscaler))

    async def settle(self) -> None:
        """Store everything gathered, and keep it if that raises StoreUnavailable."""
        async with self._lock:
            while self._batch or self._gathered:
                if self._batch is None:
                    self._batch = uuid4().hex, dict(self._gathered)
                    self._gathered.clear()
                await self._store(*self._batch)
                self._batch = None

    async def _store(self, batch: str, gathered: dict[_Who, Amounts]) -> None:
        keys = [Key(_folder(who.month), json.dumps(who[1:])) for who in gathered]

        def add(documents: Sequence[Document]) -> tuple[None, Changes]:
            stored = [_Kept.model_validate_json(document.value or b"{}") for document in documents]
            if any(row.batch == batch for row in stored):  # the answer to this got lost
                return None, {}
            sums = [row.plus(more) for row, more in zip(stored, gathered.values(), strict=True)]
            new = [_Kept(**row, batch=batch).model_dump_json().encode() for row in sums]
            return None, dict(zip(keys, map(Put, new), strict=True))

        await self._documents.change(keys, add, durable=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what is gathered during the body, and the rest at its end."""
        try:
            async with beside(self._run()):
                yield
        finally:
            try:
                async with asyncio.timeout(_DRAIN_S):
                    await self.settle()
            except (StoreUnavailable, TimeoutError):
                log.warning(
                    "The store is unavailable, so usage of the last seconds was not counted."
                )

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.settle()
                await asyncio.sleep(_PAUSE_S)
            except StoreUnavailable as error:
                log.warning("Usage will be stored later: %s", error.detail)
                self._wake.set()
                await asyncio.sleep(_AGAIN_S)


def _folder(month: str) -> str:
    return f"usage:{month}"
