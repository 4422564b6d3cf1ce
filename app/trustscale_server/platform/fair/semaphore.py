"""Places and bytes that threads take in turns, client by client."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from trustscale_server.platform.errors import Overloaded
from trustscale_server.platform.fair.ledger import Ledger
from trustscale_server.platform.fair.queue import ThreadFairQueue, Waiter


@dataclass(eq=False, slots=True, kw_only=True)
class _Waiter(Waiter):
    """A thread that waits.

    level: of the ledger when it came. lent: what the ledger has noted for it in advance.
    """

    level: float = 0.0
    lent: float = 0.0


class WeightedSemaphore(ThreadFairQueue[_Waiter]):
    """A semaphore of bytes or places that clients take in turns.

    What a client has had, as amount times seconds, counts when its next turn is chosen (`Ledger`),
    so a client with a hundred files waits for itself, and others do not wait for it. Nobody passes
    the next in turn, however much it takes.

    max_each: what one client may hold at once; the rest stays free for others. A client
    holds one waiter of a larger cost at a time.
    """

    def __init__(
        self, amount: int, max_each: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock, seconds=0.1)
        self._amount = amount
        self._max_each = amount if max_each is None else max_each
        self._ledger = Ledger()

    @contextmanager
    def held(
        self,
        client: str,
        cost: int,
        stopped: Callable[[], bool],
        max_wait_s: float | None = None,
    ) -> Iterator[None]:
        """Wait for `cost` and hold it.

        Raises:
            NoLongerWaiting: `stopped` says so after a `wake`.
            Overloaded: `max_wait_s` have passed.
        """
        # A cost above `max_each` counts as the next larger one: it is alone among its client's,
        # and leaves room for others.
        cost = min(cost, self._max_each + 1, self._amount)
        with self._turn(_Waiter(client=client, cost=cost), stopped, max_wait_s):
            yield

    def charge(self, client: str, used: float) -> None:
        """Count what a client has used besides its turns, as amount times seconds."""
        with self._changed:
            self._ledger.charge(client, used, {client, *self._clients()})
            self._call_next()

    def _wait(self, waiter: _Waiter, stopped: Callable[[], bool], max_wait_s: float | None) -> None:
        waiter.level = self._ledger.level
        try:
            super()._wait(waiter, stopped, max_wait_s)
        except TimeoutError:
            turns = 1 + len(self._waiting)
            raise Overloaded(
                "Files that take much memory are waiting to be decoded.",
                retry_after=max(1.0, round(self._pace.mean * turns)),
            ) from None

    def _called(self, waiter: _Waiter) -> None:
        waiter.lent = waiter.cost * self._pace.mean  # until its time is known
        self._ledger.lend(waiter.client, waiter.level, waiter.lent)
        super()._called(waiter)

    def _ended(self, waiter: _Waiter, seconds: float) -> None:
        present = self._clients()
        self._ledger.charge(waiter.client, waiter.cost * seconds, present, waiter.lent)

    def _call_next(self) -> None:
        super()._call_next()
        self._ledger.forget()

    def _next(self, waiting: Sequence[_Waiter]) -> _Waiter | None:
        held: Counter[str] = Counter()
        for holder in self._holding:
            held[holder.client] += holder.cost
        eligible = [
            waiter
            for waiter in waiting
            if not held[waiter.client] or held[waiter.client] + waiter.cost <= self._max_each
        ]
        first = min(
            eligible,
            key=lambda waiter: self._ledger.place(waiter.client, waiter.level),
            default=None,
        )
        if first is None or held.total() + first.cost > self._amount:
            return None
        return first

    def _clients(self) -> set[str]:
        return {waiter.client for waiter in (*self._holding, *self._waiting)}
