"""A queue whose next one is chosen fairly, for coroutines and for threads."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trustscale_server.platform.abandoned import NoLongerWaiting
from trustscale_server.platform.fair.pace import Pace

current_client: ContextVar[str] = ContextVar("current_client", default="")
"""For whom this task works: a key's name or an address; empty for the service itself."""


@dataclass(eq=False, slots=True, kw_only=True)
class Waiter:
    """Waits for `cost` until it is called, and holds it from the time `began` on."""

    client: str
    cost: int
    began: float | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class AsyncWaiter(Waiter):
    """A task that waits."""

    called: asyncio.Event = field(default_factory=asyncio.Event)


AnyWaiter = TypeVar("AnyWaiter", bound=Waiter)
AnyAsyncWaiter = TypeVar("AnyAsyncWaiter", bound=AsyncWaiter)


class FairQueue(ABC, Generic[AnyWaiter]):
    """Who waits, and who holds what was waited for. Subclasses choose the next one.

    clock: seconds. seconds: the first estimate of the time that something is held.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._pace = Pace(seconds)
        self._waiting: list[AnyWaiter] = []  # in the order they came
        self._holding: list[AnyWaiter] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @abstractmethod
    def _next(self, waiting: Sequence[AnyWaiter]) -> AnyWaiter | None:
        """Return whose turn it is; None: nobody, or there is no room yet."""

    @abstractmethod
    def _called(self, waiter: AnyWaiter) -> None:
        """Wake a waiter whose turn has come."""

    def _join(self, waiter: AnyWaiter) -> None:
        self._waiting.append(waiter)
        self._call_next()

    def _leave(self, waiter: AnyWaiter) -> None:
        for waiters in (self._waiting, self._holding):
            if waiter in waiters:
                waiters.remove(waiter)
        self._call_next()

    def _call_next(self) -> None:
        while (waiter := self._next(self._waiting)) is not None:
            self._waiting.remove(waiter)
            self._holding.append(waiter)
            waiter.began = self._clock()
            self._called(waiter)

    def _expected_s(self) -> float:
        """How long work takes that begins now."""
        began = [waiter.began for waiter in self._holding if waiter.began is not None]
        return self._pace.expected(began, self._clock())

    def _note_end(self, waiter: AnyWaiter) -> float:
        """Count for the pace, and return, the seconds that one has held what it waited for."""
        seconds = self._clock() - (waiter.began or 0.0)
        self._pace.note(seconds)
        return seconds


class AsyncFairQueue(FairQueue[AnyAsyncWaiter]):
    """A queue of the tasks of one event loop."""

    def __init__(self, seconds: float) -> None:
        super().__init__(lambda: asyncio.get_running_loop().time(), seconds)

    def _called(self, waiter: AnyAsyncWaiter) -> None:
        waiter.called.set()

    async def _wait(self, waiter: AnyAsyncWaiter) -> None:
        self._join(waiter)
        await waiter.called.wait()

    @asynccontextmanager
    async def _turn(self, waiter: AnyAsyncWaiter) -> AsyncIterator[None]:
        """Wait, and hold what was waited for. Raises what `_wait` raises."""
        try:
            await self._wait(waiter)
            try:
                yield
            finally:
                self._note_end(waiter)
        finally:
            self._leave(waiter)


class ThreadFairQueue(FairQueue[AnyWaiter]):
    """A queue of threads."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        super().__init__(clock, seconds)
        self._changed = threading.Condition()

    def _called(self, _: AnyWaiter) -> None:
        self._changed.notify_all()

    def wake(self) -> None:
        """Make the waiting threads check again whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def _wait(
        self, waiter: AnyWaiter, stopped: Callable[[], bool], max_wait_s: float | None
    ) -> None:
        """Wait, with the lock.

        Raises:
            NoLongerWaiting: `stopped` says so after a `wake`.
            TimeoutError: `max_wait_s` have passed.
        """
        self._join(waiter)
        is_notified = self._changed.wait_for(
            lambda: waiter.began is not None or stopped(), timeout=max_wait_s
        )
        if waiter.began is None:
            self._leave(waiter)
            raise NoLongerWaiting if is_notified else TimeoutError

    @contextmanager
    def _turn(
        self, waiter: AnyWaiter, stopped: Callable[[], bool], max_wait_s: float | None
    ) -> Iterator[None]:
        """Wait, and hold what was waited for. Raises what `_wait` raises."""
        with self._changed:
            self._wait(waiter, stopped, max_wait_s)
        try:
            yield
        finally:
            with self._changed:
                self._ended(waiter, self._note_end(waiter))
                self._leave(waiter)

    def _ended(self, waiter: AnyWaiter, seconds: float) -> None:
        """Do what a subclass does when one has held what it waited for; nothing here."""
