"""The permit to hold the answer of a call in memory."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TypeAlias

from trustscale_server.pixels.lab import Pixels

_Task: TypeAlias = Callable[[], object]


class MemoryPermit:
    """One call's claim on the memory of its request, and its limits.

    Decoded samples are large (48 MiB for 4096 × 4096), so the M calls of a request share a lock: a
    call holds it from decoding its answer until its samples are accumulated.

    Args:
        deadline: of the request, on the running loop's clock.
        patience_s: how long a call waits for an upscaler that is away.
        on_part: called in the loop, with the number of tasks, after each task of the call.
        on_tile: called in threads with the first sample of the call, as it grows, and the rows and
            columns that were just filled.

    Attributes:
        max_answer_bytes: limit of an answer that holds samples; None: the configured one.
    """

    def __init__(
        self,
        shared: asyncio.Lock | None = None,
        *,
        deadline: float | None = None,
        patience_s: float = 0.0,
        on_part: Callable[[int], None] | None = None,
        on_tile: Callable[[Pixels, slice, slice], None] | None = None,
    ) -> None:
        self.max_answer_bytes: int | None = None
        self.patience_s = patience_s
        self._on_part = on_part
        self._on_tile = on_tile
        self._deadline = deadline
        self._shared = shared or asyncio.Lock()
        self._claim = asyncio.Lock()
        self._held = False
        self._clock: asyncio.Timeout | None = None

    def remaining_s(self) -> float:
        """Return seconds until the deadline; may be infinite."""
        if self._deadline is None:
            return math.inf
        return self._deadline - asyncio.get_running_loop().time()

    def reporting_progress(self, tasks: Sequence[_Task]) -> list[_Task]:
        """Return the tasks of a call, to be run in threads, each with its report to `on_part`."""
        on_part = self._on_part
        if on_part is None:
            return list(tasks)
        loop = asyncio.get_running_loop()

        def reporting(task: _Task) -> None:
            task()
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(on_part, len(tasks))

        return [partial(reporting, task) for task in tasks]

    def reporting_tiles(
        self, sample: Pixels, tiles: Sequence[Callable[[], tuple[slice, slice]]]
    ) -> list[_Task]:
        """Return the tiles of the first sample, each with its report to `on_tile`."""
        on_tile = self._on_tile
        if on_tile is None:
            return list(tiles)

        def showing(tile: Callable[[], tuple[slice, slice]]) -> None:
            on_tile(sample, *tile())

        return [partial(showing, tile) for tile in tiles]

    async def take(self) -> None:
        """Wait for the permit, unless this call has it."""
        async with self._claim:  # parts of a call share it
            if self._held:
                return
            with self._clock_stopped():
                await self._shared.acquire()
                self._held = True

    def give_back(self) -> None:
        """Let the next call in, if this call has the permit."""
        if self._held:
            self._held = False
            self._shared.release()

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes longer, not counting its wait for the permit.

        Counted, that wait would end calls that have their answer, which would be paid for again.
        """
        async with asyncio.timeout(seconds) as clock:
            self._clock = clock
            try:
                yield
            finally:
                self._clock = None

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        clock = self._clock
        end = None if clock is None or clock.expired() else clock.when()
        if clock is None or end is None:
            yield
            return
        loop = asyncio.get_running_loop()
        remaining_s = end - loop.time()
        clock.reschedule(None)
        try:
            yield
        finally:
            if self._clock is clock:
                clock.reschedule(loop.time() + remaining_s)
