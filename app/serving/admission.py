"""Bounded work and memory in flight: a few requests generate, some wait, the rest is sent away.

What a request holds while it is answered is known before (`app/serving/footprint.py`), so a slot
is asked for with that number of bytes, and those that have one never hold more than the budget
together.
The queue is strictly first come, first served: a large request at its head lets nobody past, and
has its slot when enough of those before it have ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from app.errors import ImageTooLarge, Overloaded
from app.telemetry.tracing import span

_FEWEST_PLACES: Final = 16


class _Waiter(NamedTuple):
    """One request in the queue; its future is done when its turn has come."""

    cost: int
    turn: asyncio.Future[None]


class Slots:
    """`running` requests hold a slot, up to `most_waiting` more queue for one.

    Args:
        running: how many may hold a slot.
        most_waiting: how many may wait for one.
        budget: bytes that those with a slot may hold together; None: no limit.
        seconds: how long a slot is usually held, before the first was.
    """

    def __init__(
        self,
        running: int,
        most_waiting: int,
        budget: int | None = None,
        *,
        seconds: float = 10.0,
    ) -> None:
        self.running = running
        self.most_waiting = most_waiting
        self.budget = budget
        self.in_flight = 0
        self.bytes_in_flight = 0
        self._queue: deque[_Waiter] = deque()
        self._seconds = seconds  # running mean

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def for_short_work(self) -> Slots:
        """As many slots for work that takes a second at most, and never few waiting places.

        Jobs do such work too; they must not send clients away where nobody may wait for a slot.
        """
        return Slots(self.running, max(self.most_waiting, _FEWEST_PLACES), seconds=1.0)

    def check_size(self, cost: int) -> None:
        """Return if a request of so many bytes fits at all.

        Raises:
            ImageTooLarge: it is over the budget even when it is alone.
        """
        if self.budget is not None and cost > self.budget:
            raise ImageTooLarge(
                f"Making the answer takes {cost:,} bytes of memory; this service has "
                f"{self.budget:,}.",
                limit="max_in_flight_bytes",
                maximum=self.budget,
                actual=cost,
            )

    def check_room(self, cost: int = 0) -> None:
        """Return if a request could have a slot or wait for one now.

        Raises:
            Overloaded: all waiting places are taken; `retry_after` estimates when one is free.
        """
        if (self._queue or not self._fits(cost)) and self.waiting >= self.most_waiting:
            taken = (
                f"All {self.running} slots"
                if self.in_flight >= self.running
                else "The memory for answers"
            )
            raise Overloaded(
                f"{taken} and {self.most_waiting} waiting places are taken.",
                retry_after=max(1.0, round(self._seconds * (1 + self.waiting / self.running))),
            )

    @asynccontextmanager
    async def slot(self, cost: int = 0, *, patient: bool = False) -> AsyncIterator[None]:
        """Hold a slot, after waiting for it.

        Args:
            cost: bytes that are held with it.
            patient: whether to wait however many do.

        Raises:
            Overloaded: all waiting places are taken.
            ImageTooLarge: the cost is over the budget.
        """
        self.check_size(cost)
        if not patient:
            self.check_room(cost)
        with span("wait"):
            await self._enter(cost)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            yield
        finally:
            self._seconds += 0.2 * (clock() - started - self._seconds)
            self._leave(cost)

    def _fits(self, cost: int) -> bool:
        """Whether the head of the queue could have its slot now."""
        within = self.budget is None or self.bytes_in_flight + cost <= self.budget
        return self.in_flight < self.running and within

    async def _enter(self, cost: int) -> None:
        waiter = _Waiter(cost, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._call_next()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():  # it was still in the queue, perhaps before smaller ones
                if waiter in self._queue:
                    self._queue.remove(waiter)
                self._call_next()
            else:  # its turn had come
                self._leave(cost)
            raise

    def _leave(self, cost: int) -> None:
        self.in_flight -= 1
        self.bytes_in_flight -= cost
        self._call_next()

    def _call_next(self) -> None:
        """Give slots to the head of the queue while they fit."""
        while self._queue and (self._queue[0].turn.cancelled() or self._fits(self._queue[0].cost)):
            waiter = self._queue.popleft()
            if not waiter.turn.cancelled():
                self.in_flight += 1
                self.bytes_in_flight += waiter.cost
                waiter.turn.set_result(None)
