"""Bounded work and memory: a few requests generate, some wait, the rest is refused.

A request's memory is known before (`app/serving/footprint.py`), so it asks for a slot with that
number of bytes, and all slots together never exceed the budget. The queue is first come, first
served: a large request at its head lets nobody pass, and gets its slot when enough others have
ended. But jobs, for which nobody holds a connection open, let others pass while they cannot go
themselves, and leave `spare` slots to them: two pictures of minutes must not block those of
seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from app.errors import ImageTooLarge, Overloaded
from app.telemetry.tracing import span

_FEWEST_PLACES: Final = 16

# So many may pass a job that waits for memory; then none.
_MOST_PASSES: Final = 64


@dataclass(eq=False, slots=True)
class _Waiter:
    """A queued request; its future is done at its turn."""

    cost: int
    is_job: bool
    turn: asyncio.Future[None]
    passed: int = 0


class Slots:
    """`running` requests hold a slot, up to `most_waiting` more queue for one.

    Args:
        running: number of slots.
        most_waiting: most requests in the queue.
        budget: bytes of all slots together; None: no limit.
        seconds: initial estimate of the time a slot is held.
        spare: slots that patient requests leave to others.
    """

    def __init__(
        self,
        running: int,
        most_waiting: int,
        budget: int | None = None,
        *,
        seconds: float = 10.0,
        spare: int = 0,
    ) -> None:
        self.running = running
        self.most_waiting = most_waiting
        self.budget = budget
        self.spare = spare
        self.in_flight = 0
        self._jobs = 0  # those of `in_flight` that are patient
        self.bytes_in_flight = 0
        self._queue: deque[_Waiter] = deque()
        self._seconds = seconds  # running mean

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def for_short_work(self) -> Slots:
        """As many slots for work of a second at most, with enough waiting places.

        Jobs do such work too; they must not cause clients to be refused where nobody may wait for a
        slot.
        """
        return Slots(self.running, max(self.most_waiting, _FEWEST_PLACES), seconds=1.0)

    def for_uploads(self) -> Slots:
        """For uploads: as many as may hold or wait for a slot are decoded side by side.

        None of them waits for the others here, since the decoders take them in turn.
        """
        return Slots(self.running + max(self.most_waiting, _FEWEST_PLACES), 0, seconds=1.0)

    def check_size(self, cost: int) -> None:
        """Return if a request of so many bytes fits at all.

        Raises:
            ImageTooLarge: it alone is over the budget.
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
        others = sum(not waiter.is_job for waiter in self._queue)
        if (others or not self._fits(cost)) and others >= self.most_waiting:
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
            await self._enter(cost, is_job=patient)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            yield
        finally:
            self._seconds += 0.2 * (clock() - started - self._seconds)
            self._leave(cost, is_job=patient)

    def _fits(self, cost: int) -> bool:
        """Whether there is a slot, and memory."""
        within = self.budget is None or self.bytes_in_flight + cost <= self.budget
        return self.in_flight < self.running and within

    async def _enter(self, cost: int, *, is_job: bool) -> None:
        waiter = _Waiter(cost, is_job, asyncio.get_running_loop().create_future())
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
                self._leave(cost, is_job=is_job)
            raise

    def _leave(self, cost: int, *, is_job: bool) -> None:
        self.in_flight -= 1
        self._jobs -= is_job
        self.bytes_in_flight -= cost
        self._call_next()

    def _call_next(self) -> None:
        """Give slots to waiting requests, as far as possible."""
        while (waiter := self._next()) is not None:
            self._queue.remove(waiter)
            if not waiter.turn.cancelled():
                self.in_flight += 1
                self._jobs += waiter.is_job
                self.bytes_in_flight += waiter.cost
                waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """The first in the queue, or the first behind jobs that cannot go now."""
        stand_aside: list[_Waiter] = []
        for waiter in self._queue:
            has_place = not waiter.is_job or self._jobs < self.running - self.spare
            if waiter.turn.cancelled() or (has_place and self._fits(waiter.cost)):
                for job in stand_aside:
                    job.passed += 1
                return waiter
            if not waiter.is_job or waiter.passed >= _MOST_PASSES:
                return None
            if has_place:  # the memory is short, not the place
                stand_aside.append(waiter)
        return None
