"""Documents by folder and name, changed by compare-and-swap: the whole interface of a database.

All stores but that of bytes are made of documents; SQLite (`sqlite.py`) and Redis (`redis.py`) know
nothing else.

The small stores among them: what admins did, what expires, and what the monitor knows.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import uuid4

import structlog
from pydantic import BaseModel

from trustscale_server.platform.errors import TransientError

T = TypeVar("T")

log = structlog.get_logger(__name__)


class StoreUnavailable(TransientError):
    """The store cannot be read or written now: no connection, a full disk, a full memory.

    The call stored nothing, and may be repeated.
    """


# Limits a whole call of a store, with connecting and retries. A healthy server takes milliseconds.
ANSWER_TIMEOUT_S: Final = 10.0


@asynccontextmanager
async def redis_errors(within_s: float = ANSWER_TIMEOUT_S) -> AsyncIterator[None]:
    """Raise `StoreUnavailable` for every Redis error, without addresses and secrets."""
    from redis import exceptions as failures  # noqa: PLC0415 - only where Redis is used

    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise StoreUnavailable("Redis cannot be used now: no answer in time.") from error
    except failures.RedisError as error:
        reasons: tuple[tuple[type[Exception], str], ...] = (
            (failures.AuthenticationError, "it refuses the password"),
            (failures.NoPermissionError, "the user may not run a command"),
            (failures.BusyLoadingError, "it is still loading its data"),
            (failures.OutOfMemoryError, "its memory is full"),
            (failures.ReadOnlyError, "it is a read-only replica"),
            (failures.TimeoutError, "no answer in time"),
            (failures.ConnectionError, "no connection"),
        )
        if "certificate" in str(error).lower():
            reasons = ((failures.RedisError, "its TLS certificate is not accepted"), *reasons)
        # The first word of another answer is its code, such as MISCONF for a full disk.
        other = f"it refused a command ({(str(error).split() or ['?'])[0]})"
        # The first class that fits counts.
        reason = next((reason for kind, reason in reasons if isinstance(error, kind)), other)
        raise StoreUnavailable(f"Redis cannot be used now: {reason}.") from error


class Key(NamedTuple):
    """The place of a document."""

    folder: str
    name: str


class Document(NamedTuple):
    """A stored value; `version` grows with every change, and 0 means absent."""

    version: int
    value: bytes


class Space(NamedTuple):
    """Bytes that are used, and that may be; without a limit that is infinite."""

    used: float
    limit: float


ABSENT: Final = Document(0, b"")


class Put(NamedTuple):
    """A value to store, and its sort key in the folder."""

    value: bytes = b""
    order: float = 0.0


Changes: TypeAlias = Mapping[Key, Put | None]
"""Values to store; None removes."""

Decide: TypeAlias = Callable[[Sequence[Document]], tuple[T, Changes]]
"""Decides changes from documents; may run again on newer ones."""


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

    async def count(self, folder: str) -> int:
        """Return the number of documents in a folder."""

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
    contents = await documents.read(*(Key(folder, name) for name in names)) if names else []
    # One without a version was removed in between.
    return {
        name: document.value
        for name, document in zip(names, contents, strict=True)
        if document.version
    }


_AUDIT: Final = "audit"
_LAST_AUDIT: Final = Key("last", _AUDIT)


class AuditEntry(BaseModel):
    """One admin action. `id` grows with time."""

    id: int
    at: datetime
    action: str
    actor: str
    facts: dict[str, Any]


class AuditLog:
    """Admin actions, append-only."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def append(self, action: str, actor: str, facts: dict[str, Any]) -> None:
        """Store one action, and log it; it is on the disk before this returns."""
        key, at = Key(_AUDIT, uuid4().hex), datetime.now(UTC)

        def keep(documents: Sequence[Document]) -> tuple[None, Changes]:
            last, mine = documents
            if mine.version:  # written by this call, whose answer got lost
                return None, {}
            number = last.version + 1
            entry = AuditEntry(id=number, at=at, action=action, actor=actor, facts=facts)
            return None, {key: Put(entry.model_dump_json().encode(), number), _LAST_AUDIT: Put()}

        await self._documents.change([_LAST_AUDIT, key], keep)
        log.info("admin_action", action=action, actor=actor, **facts)

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Return at most `limit` entries with an id below `before`, the newest first."""
        most = {} if before is None else {"most": before - 1}
        entries = await read_folder(self._documents, _AUDIT, limit=limit, newest=True, **most)
        return [AuditEntry.model_validate_json(entry) for entry in entries.values()]


_CLAIMS: Final = "claims"

# Each claim adds one and removes up to this many expired ones.
_FORGOTTEN: Final = 10

_SECONDS: Final = "d"  # of array: eight bytes each


class ClaimStore:
    """Values by name that expire, each set by one caller."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        """Store a value for `seconds` unless there is one; return the stored one."""
        key, now = Key(_CLAIMS, name), await self._documents.time()
        ended = await self._documents.names(_CLAIMS, most=now, limit=_FORGOTTEN)
        others = [Key(_CLAIMS, other) for other in ended if other != name]

        def keep(documents: Sequence[Document]) -> tuple[bytes, Changes]:
            gone: Changes = {
                other: None
                for other, document in zip(others, documents[1:], strict=True)
                if document.version and _alive(document, now) is None
            }
            alive = _alive(documents[0], now)
            if alive is not None:
                return alive, gone
            return value, {**gone, key: _put(value, now + seconds)}

        return await self._documents.change([key, *others], keep)

    async def get(self, name: str) -> bytes | None:
        """Return the value, if any."""
        (document,) = await self._documents.read(Key(_CLAIMS, name))
        return _alive(document, await self._documents.time())

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        """Replace or remove a value if it still is `old`."""
        key, now = Key(_CLAIMS, name), await self._documents.time()

        def swap(documents: Sequence[Document]) -> tuple[None, Changes]:
            if _alive(documents[0], now) != old:
                return None, {}
            return None, {key: None if new is None else _put(new, now + seconds)}

        await self._documents.change([key], swap)


def _put(value: bytes, ends: float) -> Put:
    return Put(array(_SECONDS, [ends]).tobytes() + value, ends)


def _alive(document: Document, now: float) -> bytes | None:
    """The value of a claim that has not expired."""
    ends = array(_SECONDS, document.value[:8])
    return document.value[8:] if ends and ends[0] > now else None


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
        key, now = Key("calls", upscaler), await self._documents.time()

        def taken(documents: Sequence[Document]) -> tuple[float, Changes]:
            started = _since(documents[0], now - seconds)
            at = max([now, *started])  # others may have started one since the time was read
            if len(started) >= most:
                return max(0.001, started[-most] + seconds - at), {}
            return 0.0, {key: Put(array(_SECONDS, [*started, at]).tobytes())}

        return await self._documents.change([key], taken, durable=False)

    async def count(self, upscaler: str, *, seconds: float) -> int:
        """Count the calls that started within so many seconds."""
        (document,) = await self._documents.read(Key("calls", upscaler))
        return len(_since(document, await self._documents.time() - seconds))


def _since(document: Document, start: float) -> list[float]:
    return [at for at in array(_SECONDS, document.value) if at > start]


class Label(NamedTuple):
    """The truth about a result: its digest, and what the service answered to it."""

    result: str
    digest: str
    record: bytes


class Update(NamedTuple):
    """What is saved together: a state, and perhaps the label."""

    state: bytes
    label: Label | None = None


_ChangeState: TypeAlias = Callable[[bytes | None], tuple[T, Update | None]]
"""From the present state, None before the first, an answer and what to save; may run again."""


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
        self, calibration: str, decide: _ChangeState[T], *, labels: str | None = None
    ) -> T | None:
        """Save what `decide` makes of the state, all of it or nothing, and return its answer.

        labels: the result that the update labels; if it has a label, nothing happens and None is
        returned. A call whose answer got lost may run twice: callers recognise counted ones by
        digests.
        """
        state = _state(calibration)
        keys = [state, *([] if labels is None else [Key(_labels(calibration), labels)])]

        def replace(documents: Sequence[Document]) -> tuple[T | None, Changes]:
            version = documents[0].version
            if any(document.version for document in documents[1:]):
                return None, {}
            answer, update = decide(documents[0].value if version else None)
            changes: dict[Key, Put | None] = {}
            if update is not None:
                changes[state] = Put(update.state)
                if update.label is not None:
                    record = update.label.digest.encode() + b" " + update.label.record
                    changes[keys[1]] = Put(record, version)
            return answer, changes

        return await self._documents.change(keys, replace, durable=labels is not None)

    async def label(self, calibration: str, result: str) -> Label | None:
        """Return the label of a result, if any."""
        (document,) = await self._documents.read(Key(_labels(calibration), result))
        return _label(result, document.value) if document.version else None

    async def forget(self, calibration: str) -> None:
        """Remove everything about a calibration."""
        key = _state(calibration)
        await self._documents.change([key], lambda _: (None, {key: None}))
        await self._documents.drop(_labels(calibration))


def _state(calibration: str) -> Key:
    return Key("monitor", calibration)


def _labels(calibration: str) -> str:
    return f"monitor-labels:{calibration}"


def _label(result: str, value: bytes) -> Label:
    digest, _, record = value.partition(b" ")
    return Label(result, digest.decode(), record)
