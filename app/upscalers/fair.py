"""Threads that requests share: whatever one of them asks for, the others get their turn.

A picture of 12 megapixels has hundreds of tiles, a small one has a single one. Taken one request
after the other, the small one would wait for minutes. So after each tile the request goes next that
has had the least, and of several the one that needs the least: start-time fair queueing (Goyal,
Vin and Cheng, SIGCOMM 1996) with the pixels of a tile as its length.
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
    """No more work is done here."""


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
    """`count` threads that do the parts of all requests, each part by one thread."""

    def __init__(self, count: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._works: list[_Work] = []
        self._had: dict[Hashable, int] = {}  # cost of what each request has had, and its handicap

    async def run(self, request: Hashable, parts: Iterable[Part], cost: int) -> None:
        """Call every part in a thread, in order of their start.

        Cancelling returns at once; a part that has begun ends in its thread, others do not begin.

        Args:
            request: whose parts these are; requests share the threads evenly.
            parts: at least one.
            cost: how much of a thread a part takes, in any unit.

        Raises:
            Closed: `close` was called.
            Exception: what a part raises; no further part of this call begins then.
        """
        work = _Work(request, cost, deque(parts))
        with self._lock:
            # Whoever is new has missed nothing: what the others have had before does not count.
            self._had.setdefault(request, min(self._had.values(), default=0))
            self._works.append(work)
        try:
            for _ in range(work.left):
                self._threads.submit(self._do_next)
        except RuntimeError as error:  # the threads were shut down
            raise Closed from error
        await asyncio.wrap_future(work.end)

    def close(self) -> None:
        """Begin no further part, and end the calls that wait for one."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for work in self._works:
                _end(work, Closed())

    def _do_next(self) -> None:
        """Do one part: of whichever request goes next when a thread is free for it."""
        with self._lock:
            self._works = [work for work in self._works if not work.end.done()]
            there = {work.request for work in self._works}
            self._had = {one: had for one, had in self._had.items() if one in there}
            waiting = [work for work in self._works if work.waiting]
            if not waiting:
                return  # this was asked for on behalf of a call that has ended early
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
