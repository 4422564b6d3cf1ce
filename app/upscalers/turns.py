"""Whose turn it is to hold decoded samples, and how long a call may take.

The M calls of a request run at once and tend to finish together. Compressed answers are small;
decoded samples are not (4096 × 4096 is 48 MiB each). So the calls share one lock: a call takes it
before it decodes its answer and releases it once its samples are accumulated, and a request never
holds the decoded samples of two calls, whatever M is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from app.conformal.moments import Spread


@dataclass(slots=True)
class MomentsRequest:
    """A request wants all samples as moments, if the upscaler can.

    mean: whether Ŷ is the mean of the samples, and not the first.
    answer: set by an upscaler that accumulates, which then returns no samples.
    """

    mean: bool = False
    answer: Spread | None = None


class Turn:
    """One call's claim on the lock of its request, and its limits.

    `deadline` is that of the request, on the running loop's clock. `patience_s` says how long a
    call waits for an upscaler that is away; 0: it fails at once, as a waiting client expects.
    `moments`: the request for moments; None: there is none. `on_part` is called in the loop, with
    their number, when one of the call's parts is done. `most_bytes` limits an answer that holds
    samples; None: the configured limit.
    """

    def __init__(
        self,
        shared: asyncio.Lock | None = None,
        *,
        deadline: float | None = None,
        patience_s: float = 0.0,
        moments: MomentsRequest | None = None,
        on_part: Callable[[int], None] | None = None,
    ) -> None:
        self.moments = moments
        self.most_bytes: int | None = None
        self._on_part = on_part
        self.patience_s = patience_s
        self._deadline = deadline
        self._shared = shared or asyncio.Lock()
        self._claim = asyncio.Lock()
        self._held = False
        self._clock: asyncio.Timeout | None = None

    def remaining_s(self) -> float:
        """Seconds until the deadline of the request; may be infinite."""
        if self._deadline is None:
            return math.inf
        return self._deadline - asyncio.get_running_loop().time()

    def counted(self, parts: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
        """The parts of a call, which run in threads, each reporting when it is done."""
        on_part = self._on_part
        if on_part is None:
            return list(parts)
        loop = asyncio.get_running_loop()

        def tell(part: Callable[[], None]) -> None:
            part()
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(on_part, len(parts))

        return [partial(tell, part) for part in parts]

    async def take(self) -> None:
        """Wait for the turn; returns at once if this call has it already.

        The second lock is for calls that decode in parts: the parts share one claim.
        """
        async with self._claim:
            if self._held:
                return
            with self._clock_stopped():
                await self._shared.acquire()
                self._held = True

    def give_back(self) -> None:
        """Let the next call in; no effect if this call does not have the turn."""
        if self._held:
            self._held = False
            self._shared.release()

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes longer, not counting its wait for the turn.

        That wait is for our own calls: counted, it would end calls whose answers are already here,
        and they would be paid for again.
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
        left = end - loop.time()
        clock.reschedule(None)
        try:
            yield
        finally:
            if self._clock is clock:  # what it limits may be over
                clock.reschedule(loop.time() + left)
