"""Threads that requests share fairly.

A picture of 12 megapixels has hundreds of tiles, a small one has one; first come, first served, the
small one would wait for minutes. So after each tile the request that has had the least goes next,
among equals the one that needs the least: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM
1996) with the pixels of a tile as its length.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

Part = Callable[[], None]


class Closed(Exception):
    """The pool is closed."""


@dataclass(eq=False, slots=True)
class _Work:
    """Parts of one request. cost: of each. left: how many have not ended."""

    request: Hashable
    cost: int
    waiting: deque[Part]
    left: int = field(init=False)
    end: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.left = len(self.waiting)


class FairThreads:
    """`count` threads that run the parts of all requests, each part in one thread."""

    def __init__(self, count: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._works: list[_Work] = []
        self._had: dict[Hashable, int] = {}  # cost so far of each request, with its handicap

    async def run(self, request: Hashable, parts: Iterable[Part], cost: int) -> None:
        """Call every part in a thread, starting them in order.

        Cancelling returns at once; a part that has begun ends in its thread, others do not begin.

        Args:
            request: whose parts these are; requests share the threads evenly.
            parts: at least one.
            cost: thread time of a part, in any unit.

        Raises:
            Closed: `close` was called.
            Exception: what a part raises; no further part of this call begins then.
        """
        work = _Work(request, cost, deque(parts))
        with self._lock:
            # A new request starts level with the others: their past does not count.
            self._had.setdefault(request, min(self._had.values(), default=0))
            self._works.append(work)
        try:
            for _ in range(work.left):
                self._threads.submit(self._do_next)
        except RuntimeError as error:  # the threads were shut down
            raise Closed from error
        await asyncio.wrap_future(work.end)

    def close(self) -> None:
        """Begin no further part, and end waiting calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for work in self._works:
                _end(work, Closed())

    def _do_next(self) -> None:
        """Run the next part, whichever request's turn it is."""
        with self._lock:
            self._works = [work for work in self._works if not work.end.done()]
            there = {work.request for work in self._works}
            self._had = {one: had for one, had in self._had.items() if one in there}
            waiting = [work for work in self._works if work.waiting]
            if not waiting:
                return  # queued for a call that has ended early
            work = min(waiting, key=lambda one: (self._had[one.request], one.left * one.cost))
            self._had[work.request] += work.cost
            part = work.waiting.popleft()
        try:
            part()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            _end(work, error)
            return
        with self._lock:
            work.left -= 1
        if not work.left:
            _end(work)


def _end(work: _Work, error: BaseException | None = None) -> None:
    with suppress(InvalidStateError):  # it was cancelled, or ended by another part
        if error is None:
            work.end.set_result(None)
        else:
            work.end.set_exception(error)
