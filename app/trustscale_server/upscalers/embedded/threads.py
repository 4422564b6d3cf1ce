"""Threads that run the tiles of several requests in turns."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from trustscale_server.platform.fair import Ledger

_Task: TypeAlias = Callable[[], object]


class Closed(Exception):
    """The pool is closed."""


@dataclass(eq=False, slots=True)
class _Work:
    """The tasks of one request.

    cost: of each. level: of the ledger when it came. unfinished: tasks that have not ended.
    """

    request: Hashable
    cost: int
    level: float
    waiting: deque[_Task]
    unfinished: int = field(init=False)
    end: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.unfinished = len(self.waiting)


class FairThreads:
    """Runs the tasks of all requests in `count` threads, each task in one thread.

    A small picture of one tile should not wait for the hundreds of a large one. So the request that
    has had the least time is next (`Ledger`), among equals the smallest. Time is counted in the
    pixels of tiles.
    """

    def __init__(self, count: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._works: list[_Work] = []
        self._ledger = Ledger()

    async def run(self, request: Hashable, tasks: Iterable[_Task], cost: int) -> None:
        """Call every task in a thread, starting them in order.

        When the call is cancelled or a task raises, tasks that have begun end, others do not begin.

        `cost` is the thread time of a task, in any unit. Raises Closed after `close`.
        """
        with self._lock:
            work = _Work(request, cost, self._ledger.level, deque(tasks))
            self._works.append(work)
        try:
            for _ in range(work.unfinished):
                self._threads.submit(self._do_next)
        except RuntimeError as error:  # the threads were shut down
            raise Closed from error
        await asyncio.wrap_future(work.end)

    def close(self) -> None:
        """Start no further task, and end waiting calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for work in self._works:
                _end(work, Closed())

    def _do_next(self) -> None:
        with self._lock:
            self._works = [work for work in self._works if not work.end.done()]
            present = {work.request for work in self._works}
            self._ledger.forget(present)
            waiting = [work for work in self._works if work.waiting]
            if not waiting:
                return
            work = min(waiting, key=self._place)
            self._ledger.lend(work.request, work.level, work.cost)
            self._ledger.charge(work.request, work.cost, present, work.cost)
            task = work.waiting.popleft()
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            _end(work, error)
            return
        with self._lock:
            work.unfinished -= 1
        if not work.unfinished:
            _end(work)

    def _place(self, work: _Work) -> tuple[float, int]:
        return self._ledger.place(work.request, work.level), work.unfinished * work.cost


def _end(work: _Work, error: BaseException | None = None) -> None:
    with suppress(InvalidStateError):
        if error is None:
            work.end.set_result(None)
        else:
            work.end.set_exception(error)
