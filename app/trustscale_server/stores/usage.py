"""Who used how much in which month: pictures, calls and their price; what became of a job's calls.

What happens to a call is stored after its beginning, so what began and has no end is in flight, or
its process was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias
from uuid import uuid4

from pydantic import BaseModel, Field

from trustscale_server.platform.tasks import beside
from trustscale_server.stores.documents import (
    Changes,
    Document,
    Documents,
    Key,
    Put,
    StoreUnavailable,
    read_folder,
)

_Purpose = Literal["upscale", "calibrate", "canary"]
_Need = Literal["pairs", "canaries"]

CALLS_OF_JOBS: Final = "job-calls"

_DAYS: Final = 32  # that are kept

log = logging.getLogger(__name__)


class Amounts(BaseModel):
    """What can be added up."""

    pictures: int = Field(0, description="The number of answers, also of jobs.")
    megapixels: float = Field(0.0, description="The megapixels of their uploads.")
    seconds: float = Field(0.0, description="The seconds that making their samples took.")
    calls: int = Field(
        0,
        description="The number of calls to a remote upscaler, also failed ones and those in "
        "flight. Without `price_per_call` at least so many: a kill loses its last second.",
    )
    price: float = Field(0.0, description="The price of the calls, at `price_per_call`.")

    def plus(self, other: Self) -> Self:
        """Return the sums."""
        mine, theirs = dict(self), dict(other)
        return type(self)(**{name: round(mine[name] + theirs[name], 9) for name in mine})


class CallsMade(BaseModel):
    """What became of the calls that a job has made so far, in all processes."""

    begun: int = Field(0, description="All calls.")
    pairs: int = Field(0, description="Those that brought a sample of a pair.")
    canaries: int = Field(0, description="Those that brought the repetition of a canary.")
    failed: dict[str, int] = Field(
        default_factory=dict,
        description="Those that failed, by the reason; `cancelled`: nobody waited any more.",
    )

    unanswered: int = Field(
        0, description="Those without an end: in flight, or their process was killed."
    )

    def plus(self, other: Self) -> Self:
        """Return the sums."""
        begun, pairs = self.begun + other.begun, self.pairs + other.pairs
        canaries, failed = self.canaries + other.canaries, Counter(self.failed)
        failed.update(other.failed)
        left = begun - pairs - canaries - failed.total()
        return type(self)(
            begun=begun, pairs=pairs, canaries=canaries, failed=dict(failed), unanswered=left
        )


_Sums: TypeAlias = Amounts | CallsMade


class Use(Amounts):
    """What one client used of one upscaler in a month, or on a day."""

    month: str = Field(description="The month, or the day, of UTC.")
    key: str | None = Field(
        description="The key's name, or the start of its digest; null without a key."
    )
    purpose: _Purpose
    upscaler: str


class _Who(NamedTuple):
    month: str
    key: str | None
    purpose: _Purpose
    upscaler: str


_user: ContextVar[tuple[str | None, _Purpose]] = ContextVar("user", default=(None, "upscale"))
_made_for: ContextVar[tuple[str, _Need] | None] = ContextVar("made_for", default=None)


@contextmanager
def used_by(key: str | None, purpose: _Purpose) -> Iterator[None]:
    """Count what is used inside the `with`, and in tasks that begin there, for this client."""
    token = _user.set((key, purpose))
    try:
        yield
    finally:
        _user.reset(token)


@contextmanager
def made_for(job: str, need: _Need) -> Iterator[None]:
    """Count the calls inside the `with`, and in tasks that begin there, as those of this job."""
    token = _made_for.set((job, need))
    try:
        yield
    finally:
        _made_for.reset(token)


class Usage:
    """Counts what is used, and reports it."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._gathered: dict[Key, _Sums] = {}
        self._batch: tuple[str, dict[Key, _Sums]] | None = None
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._today = ""  # the last day on which older days were removed

    def called(self, upscaler: str, price: float) -> None:
        """Count a call that begins."""
        self._count(upscaler, Amounts(calls=1, price=price))
        if (purpose := _made_for.get()) is not None:
            job, _ = purpose
            self._add(_key_of_calls(job), CallsMade(begun=1))

    def ended(self, failure: str | None) -> None:
        """Count the end of a call, for its job; None: it brought what was asked for."""
        if (purpose := _made_for.get()) is not None:
            job, need = purpose
            end = {need: 1} if failure is None else {"failed": {failure: 1}}
            self._add(_key_of_calls(job), CallsMade.model_validate(end))

    def answered(self, upscaler: str, pixels: int, seconds: float) -> None:
        """Count an answer; `pixels` are those of the upload."""
        self._count(upscaler, Amounts(pictures=1, megapixels=pixels / 1e6, seconds=seconds))

    def _count(self, upscaler: str, amounts: Amounts) -> None:
        now = datetime.now(UTC)
        for period in (f"{now:%Y-%m}", f"{now:%Y-%m-%d}"):
            who = _Who(period, *_user.get(), upscaler)
            self._add(Key(_folder(who.month), json.dumps(who[1:])), amounts)

    def _add(self, key: Key, more: Any) -> None:
        so_far = self._gathered.get(key)
        self._gathered[key] = more if so_far is None else so_far.plus(more)
        self._wake.set()

    async def report(self, month: str) -> list[Use]:
        """Return the sums of a month, such as `2026-11`, or of a day, `2026-11-30`, sorted.

        Days are kept for a month. Raises StoreUnavailable.
        """
        await self.settle()
        documents = await read_folder(self._documents, _folder(month))
        whose = [_Who(month, *json.loads(name)) for name in documents]
        uses = [
            Use(**who._asdict(), **dict(Amounts.model_validate_json(value)))
            for who, value in zip(whose, documents.values(), strict=True)
        ]
        return sorted(uses, key=lambda use: (use.key or "", use.purpose, use.upscaler))

    async def calls_of(self, *jobs: str) -> list[CallsMade | None]:
        """Return what became of the calls of jobs; None of one without. Raises StoreUnavailable."""
        if not jobs:
            return []
        await self.settle()
        documents = await self._documents.read(*map(_key_of_calls, jobs))
        return [
            CallsMade.model_validate_json(document.value) if document.version else None
            for document in documents
        ]

    async def forget(self, job: str) -> None:
        """Remove what is known of the calls of a job."""
        await self._documents.change([], lambda _: (None, {_key_of_calls(job): None}))

    async def stored(self) -> None:
        """Store everything gathered soon: now, unless the store is away or slow."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(1):
                await self.settle()

    async def settle(self) -> None:
        """Store everything gathered, and keep it if that raises StoreUnavailable."""
        async with self._lock:
            while self._batch or self._gathered:
                if self._batch is None:
                    self._batch = uuid4().hex, dict(self._gathered)
                    self._gathered.clear()
                await self._store(*self._batch)
                self._batch = None

    async def _store(self, batch: str, gathered: dict[Key, _Sums]) -> None:
        def add(documents: Sequence[Document]) -> tuple[None, Changes]:
            stored = [json.loads(document.value or b"{}") for document in documents]
            if any(row.get("batch") == batch for row in stored):  # the answer to this got lost
                return None, {}
            changes = {
                key: Put(_with(batch, more, row))
                for (key, more), row in zip(gathered.items(), stored, strict=True)
            }
            return None, changes

        await self._documents.change(list(gathered), add, durable=False)
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        if today != self._today:
            past = date.fromisoformat(today) - timedelta(days=_DAYS)
            gone = [f"{past - timedelta(days=days)}" for days in range(_DAYS)]
            await self._documents.drop(*map(_folder, gone))
            self._today = today

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what is gathered during the body, and the rest at its end."""
        try:
            async with beside(self._run()):
                yield
        finally:
            try:
                async with asyncio.timeout(5):
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
                await asyncio.sleep(1)  # so that one write stores what many calls used
            except StoreUnavailable as error:
                log.warning("Usage will be stored later: %s", error.detail)
                self._wake.set()
                await asyncio.sleep(5)


def _folder(month: str) -> str:
    return f"usage:{month}"


def _key_of_calls(job: str) -> Key:
    return Key(CALLS_OF_JOBS, job)


def _with(batch: str, more: Any, row: dict[str, Any]) -> bytes:
    """The sums as stored; `batch`: the last that was added, lest a repeated call adds it again."""
    sums: _Sums = more.plus(type(more)(**row))
    return json.dumps({**sums.model_dump(), "batch": batch}).encode()
