"""Whose turn it is to hold decoded samples.

Calls for the M samples of one request run at once, and answers tend to arrive together. Compressed
answers are small; decoded samples are not (4096 × 4096 is 48 MiB each). So the calls of a request
share one turn: a call takes it before it decodes its answer and gives it back once its samples
are folded, and a request never holds the decoded samples of two calls, whatever M is.

The turn, and with it the request's deadline, travels in a context variable, because it concerns
the two ends only, `app.sampling.draw` and the decoders of the adapters, and none of the wrappers
between them.
"""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar


class Turn:
    """One call's claim on the turn that the calls of a request share.

    `deadline` is that of the request, on the clock of the running loop.
    """

    def __init__(self, shared: asyncio.Lock, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._shared = shared
        self._claim = asyncio.Lock()
        self._held = False

    async def take(self) -> None:
        """Wait for the turn; returns at once when this call has it already.

        The second lock is for calls that decode in parts: the parts wait for one claim together.
        """
        async with self._claim:
            if not self._held:
                await self._shared.acquire()
                self._held = True

    def give_back(self) -> None:
        """Let the next call in; does nothing when this call does not have the turn."""
        if self._held:
            self._held = False
            self._shared.release()


CURRENT: ContextVar[Turn | None] = ContextVar("current_turn", default=None)
"""The turn of the call that runs in this context; None outside `app.sampling.draw`."""


def remaining_s() -> float:
    """Seconds until the deadline of the request that this call belongs to; may be infinite."""
    turn = CURRENT.get()
    if turn is None or turn.deadline is None:
        return math.inf
    return turn.deadline - asyncio.get_running_loop().time()


async def take_turn() -> None:
    """Wait until this call may hold decoded samples."""
    turn = CURRENT.get()
    if turn is not None:
        await turn.take()


def give_back_turn() -> None:
    """Say that what this call had decoded is no longer held, because it failed."""
    turn = CURRENT.get()
    if turn is not None:
        turn.give_back()
