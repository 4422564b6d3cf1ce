"""Who used how much in which month: pictures, calls and their price.

A process gathers amounts in memory and adds them to the store in batches, so that a busy one writes
seldom. A process that is killed loses those of its last second.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, Field

from trustscale_server.stores.documents import (
    Changes,
    Document,
    Documents,
    Key,
    Put,
    StoreUnavailable,
    read_folder,
)

Purpose = Literal["upscale", "calibrate", "canary"]

_PAUSE_S: Final = 1.0  # between batches
_AGAIN_S: Final = 5.0  # while the store is away
_DRAIN_S: Final = 5.0

log = logging.getLogger(__name__)


class Amounts(BaseModel):
    """What can be added up."""

    pictures: int = Field(0, description="Answers, of jobs too.")
    megapixels: float = Field(0.0, description="Of their uploads.")
    seconds: float = Field(0.0, description="Of making their samples.")
    calls: int = Field(0, description="To a remote upscaler, also failed ones.")
    price: float = Field(0.0, description="Of the calls, at `price_per_call`.")

    def plus(self, other: Amounts) -> dict[str, float]:
        """Return the sums, by field."""
        mine, theirs = dict(self), dict(other)
        return {name: round(mine[name] + theirs[name], 9) for name in Amounts.model_fields}


class Use(Amounts):
    """What one client used of one upscaler in a month."""

    month: str = Field(description="Of UTC.")
    key: str | None = Field(description="The key's name, or the start of its digest; null: none.")
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
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
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
