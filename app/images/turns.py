"""Something scarce, places or bytes, that threads take in turns, client by client.

This is weighted fair queueing: what a client has had, as amount times seconds, counts when its next
turn is chosen, so one with a hundred files waits for itself, and others do not wait for it. A
client that comes starts where those are that have had their share meanwhile: it gets no credit for
the time it was away, and passes nobody who has waited longer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from trustscale_server.errors import Overloaded

_FIRST_SECONDS: Final = 0.1
_NEWEST: Final = 0.2
"""Weight of the newest time in the running mean."""


class NoLongerWaiting(Exception):
    """The caller has stopped waiting."""


@dataclass(eq=False, slots=True)
class _Turn:
    """One who waits, or holds `cost`; charged: of what it will have had, the part that counts."""

    client: str
    cost: int
    level: float
    began: float | None = None
    charged: float = 0.0


class WeightedSemaphore:
    """A semaphore of bytes or places that clients take in turns.

    The next in turn is passed by nobody, however much it takes. most_each: what one client may hold
    at once; the rest stays free for others. More than `most_each` is given to one at a time.
    """

    def __init__(
        self, amount: int, most_each: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._amount = amount
        self._clock = clock
        self._most_each = amount if most_each is None else most_each
        self._changed = threading.Condition()
        self._waiting: list[_Turn] = []  # in the order they came
        self._held: Counter[str] = Counter()
        self._used: dict[str, float] = {}  # by client, of those above the level
        self._level = 0.0  # what a client has had that always wanted something
        self._seconds = _FIRST_SECONDS  # a running mean of turns

    @contextmanager
    def turn(
        self, client: str, cost: int, stopped: Callable[[], bool], longest: float = math.inf
    ) -> Iterator[None]:
        """Wait for `cost` and hold it.

        Raises:
            Stopped: `stopped` says so after a `wake`.
            Overloaded: `longest` seconds have passed.
        """
        # Of the largest there is room for one, and beside it for what one other may hold.
        cost = min(cost, self._most_each + 1, self._amount)
        with self._changed:
            turn = _Turn(client, cost, self._level)
            self._waiting.append(turn)
            self._call_next()
            is_called = self._changed.wait_for(
                lambda: turn.began is not None or stopped(),
                timeout=None if longest == math.inf else longest,
            )
            if turn.began is None:
                self._waiting.remove(turn)
                self._call_next()
                if is_called:
                    raise NoLongerWaiting
                raise self._too_long()
        try:
            yield
        finally:
            with self._changed:
                seconds = self._clock() - turn.began
                self._seconds += _NEWEST * (seconds - self._seconds)
                self._charge(client, cost * seconds, turn.charged)
                self._held[client] -= cost
                self._call_next()

    def charge(self, client: str, used: float) -> None:
        """Count what a client has used besides its turns, as amount times seconds."""
        with self._changed:
            self._charge(client, used)
            self._call_next()

    def wake(self) -> None:
        """Make the waiting threads check again whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def _charge(self, client: str, used: float, already: float = 0.0) -> None:
        self._used[client] = self._used.get(client, self._level) + used - already
        present = {client, *(+self._held), *(turn.client for turn in self._waiting)}
        self._level += used / len(present)

    def _call_next(self) -> None:
        while (turn := self._next()) is not None:
            self._waiting.remove(turn)
            turn.began = self._clock()
            turn.charged = turn.cost * self._seconds  # until its time is known
            self._held[turn.client] += turn.cost
            self._used[turn.client] = self._place(turn) + turn.charged
        self._held = +self._held
        self._used = {client: used for client, used in self._used.items() if used > self._level}
        self._changed.notify_all()

    def _next(self) -> _Turn | None:
        """The next in turn; None: nobody, or it does not fit yet."""
        may = [turn for turn in self._waiting if self._has_room(turn)]
        turn = min(may, key=self._place, default=None)
        if turn is None or self._held.total() + turn.cost > self._amount:
            return None
        return turn

    def _has_room(self, turn: _Turn) -> bool:
        held = self._held[turn.client]
        return held == 0 or held + turn.cost <= self._most_each

    def _place(self, turn: _Turn) -> float:
        return max(turn.level, self._used.get(turn.client, 0.0))

    def _too_long(self) -> Overloaded:
        others = 1 + len(self._waiting)
        return Overloaded(
            "Files that take much memory are waiting to be decoded.",
            retry_after=max(1.0, round(self._seconds * others)),
        )
