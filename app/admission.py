"""Bounded work in flight: a few requests generate, some wait, the rest is told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import Overloaded


class Slots:
    """`running` requests hold a slot, up to `waiting` more queue for one in order of arrival."""

    def __init__(self, running: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(running)
        self._running = running
        self._most_waiting = waiting
        self.waiting = 0
        self.in_flight = 0
        self._seconds = 10.0  # running mean of how long a slot is held

    @asynccontextmanager
    async def slot(self, *, patient: bool = False) -> AsyncIterator[None]:
        """Hold a slot, after waiting for it; `patient` waits however many do.

        Raises:
            Overloaded: all waiting places are taken; `retry_after` estimates when one is free.
        """
        if not patient and self._slots.locked() and self.waiting >= self._most_waiting:
            estimate = self._seconds * (1 + self.waiting / self._running)
            raise Overloaded(
                f"All {self._running} slots and {self._most_waiting} waiting places are taken.",
                retry_after=max(1.0, round(estimate)),
            )
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.in_flight += 1
        started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            held = asyncio.get_running_loop().time() - started
            self._seconds += 0.2 * (held - self._seconds)
            self.in_flight -= 1
            self._slots.release()
