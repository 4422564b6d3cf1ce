"""A lock for tasks that run side by side, or one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ExclusiveLock:
    """Lets any number of tasks run side by side, or one alone; the latter go first.

    So a task that was killed from outside twice soon ends, before a third kill.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._running = 0
        self._is_alone = False
        self._waiting_alone = 0

    @asynccontextmanager
    async def take(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for a turn, and hold it.

        Nothing awaits while the counts change, so no cancellation leaves one of them wrong.
        """
        self._waiting_alone += alone
        try:
            while not self._is_free(alone=alone):
                await self._changed.wait()
        finally:
            self._waiting_alone -= alone
            self._wake()
        self._running += 1
        self._is_alone = alone
        try:
            yield
        finally:
            self._running -= 1
            self._is_alone = False
            self._wake()

    def _wake(self) -> None:
        """Let all that wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _is_free(self, *, alone: bool) -> bool:
        if alone:
            return self._running == 0
        return not self._is_alone and not self._waiting_alone
