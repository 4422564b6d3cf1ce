"""Cores, memory and threads that this process may use, and how requests take turns.

Work and memory are bounded: a few requests generate, some wait, the rest is refused. A request's
memory is known before (`app/serving/prepare.py`), so it asks for a slot with that number of bytes,
and all slots together never exceed the budget. The queue is first come, first served: a large
request at its head lets nobody pass. But jobs, for which nobody holds a connection open, let others
pass while they cannot go themselves, and leave `spare` slots to them: two pictures of minutes must
not block those of seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from app.errors import ImageTooLarge, Overloaded
from app.telemetry.signals import span

Given = ParamSpec("Given")
Result = TypeVar("Result")

current_client: ContextVar[str] = ContextVar("current_client", default="")
"""For whom this task works: a key's name or an address; empty for the service itself.

Clients share decoders, memory and slots in turns, so that one cannot keep the others out.
"""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit(cgroups: Path = _CGROUPS, own_group: Path = _OWN_GROUP) -> int | None:
    """The smallest limit in bytes of the control groups and of the machine; None: unknown."""
    limits = [machine] if (machine := _machine_memory()) else []
    for file in _limit_files(cgroups, own_group):
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text()))
    return min(limits, default=None)


def _limit_files(cgroups: Path, own_group: Path) -> list[Path]:
    """Files of limits of the own group and those above it, for both versions of control groups."""
    files = []
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            if number != "0" and "memory" not in controllers.split(","):
                continue
            root = cgroups if number == "0" else cgroups / "memory"
            group = root / path.strip("/")
            # Inside a container the own group is the root, whatever its path outside.
            within = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
            files += [folder / name for folder in within]
    return files


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def plain_environment() -> dict[str, str]:
    """The environment, without secrets, for a child process that imports our modules."""
    kept = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{name: value for name, value in os.environ.items() if name in kept},
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def score_threads() -> int:
    """Threads for one score: more would gain little, and each holds its own strips."""
    return min(usable_cores(), 4)


@contextmanager
def score_cores(
    name: str,
) -> Iterator[Callable[[Callable[[int], Result], range], Iterator[Result]]]:
    """`map` over numbers in `score_threads`: results come in order, few in advance."""
    most = score_threads()

    with ThreadPoolExecutor(most, name) as threads:

        def each(function: Callable[[int], Result], numbers: range) -> Iterator[Result]:
            begun: deque[Future[Result]] = deque()
            for number in numbers:
                begun.append(threads.submit(function, number))
                if len(begun) > 2 * most:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()

        yield each


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, Result]) -> AsyncIterator[asyncio.Task[Result]]:
    """A task that runs beside the body, and is cancelled at its end.

    A frame that names what holds its own exception lives, with all that it holds, until the
    collector of circles comes: this one names neither at its end, and the body's should not.
    """
    task = asyncio.create_task(work)
    cancelled = None
    try:
        yield task
    finally:
        task.cancel()
        cancelled = await _ended(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del task, cancelled


async def shielded(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """`asyncio.to_thread` that, when cancelled, waits for the thread's end before it raises.

    Until then the thread's memory is in use, so its slot must stay taken. Afterwards the thread
    holds nothing: a pool's thread keeps its last call until it runs again, which on a busy machine
    would add a decoded sample to what the request was admitted with.
    """
    given = [(args, kwargs)]
    del args, kwargs

    def call() -> Result:
        positional, named = given.pop()
        return function(*positional, **named)

    task = asyncio.ensure_future(asyncio.to_thread(call))
    cancelled = None
    try:
        cancelled = await _ended(task)
        if cancelled is not None:
            raise cancelled
        return task.result()
    finally:
        del task, cancelled  # as in `beside`


async def _ended(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait for the end of a task; what cancelled this meanwhile, once or again and again."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        return cancelled
    finally:
        del cancelled  # as in `beside`


_FEWEST_PLACES: Final = 16

# Requests that may pass a job that waits for memory.
_MOST_PASSES: Final = 64


@dataclass(eq=False, slots=True)
class _Waiter:
    """A queued request; `turn` is done when it has a slot."""

    cost: int
    is_job: bool
    turn: asyncio.Future[None]
    passed: int = 0


class Slots:
    """`running` requests hold a slot, up to `most_waiting` more queue for one.

    budget: bytes of all slots together; None: no limit. seconds: first estimate of the time a slot
    is held. spare: slots that patient requests leave to others.
    """

    def __init__(
        self,
        running: int,
        most_waiting: int,
        budget: int | None = None,
        *,
        seconds: float = 10.0,
        spare: int = 0,
    ) -> None:
        self.running = running
        self.most_waiting = most_waiting
        self.budget = budget
        self.spare = spare
        self.in_flight = 0
        self._jobs = 0  # those of `in_flight` that are patient
        self.bytes_in_flight = 0
        self._queue: deque[_Waiter] = deque()
        self._seconds = seconds  # running mean

    @property
    def waiting(self) -> int:
        """Number of queued requests."""
        return len(self._queue)

    def for_short_work(self) -> Slots:
        """As many slots for work of a second at most, always with some waiting places.

        Jobs do such work too, and must not cause clients to be refused.
        """
        return Slots(self.running, max(self.most_waiting, _FEWEST_PLACES), seconds=1.0)

    def for_uploads(self) -> Slots:
        """For uploads: the decoders take them in turn, so none waits here."""
        return Slots(self.running + max(self.most_waiting, _FEWEST_PLACES), 0, seconds=1.0)

    def check_size(self, cost: int) -> None:
        """Raise ImageTooLarge if a request of so many bytes alone is over the budget."""
        if self.budget is not None and cost > self.budget:
            raise ImageTooLarge(
                f"Making the answer takes {cost:,} bytes of memory; this service has "
                f"{self.budget:,}.",
                limit="max_in_flight_bytes",
                maximum=self.budget,
                actual=cost,
            )

    def check_room(self, cost: int = 0) -> None:
        """Raise Overloaded if a request could neither have a slot nor wait for one now.

        `retry_after` estimates when a place is free.
        """
        others = sum(not waiter.is_job for waiter in self._queue)
        if (others or not self._fits(cost)) and others >= self.most_waiting:
            taken = (
                f"All {self.running} slots"
                if self.in_flight >= self.running
                else "The memory for answers"
            )
            raise Overloaded(
                f"{taken} and {self.most_waiting} waiting places are taken.",
                retry_after=max(1.0, round(self._seconds * (1 + self.waiting / self.running))),
            )

    @asynccontextmanager
    async def slot(self, cost: int = 0, *, patient: bool = False) -> AsyncIterator[None]:
        """Wait for a slot and hold it; `patient`: however many wait.

        Raises:
            Overloaded: all waiting places are taken.
            ImageTooLarge: the cost in bytes is over the budget.
        """
        self.check_size(cost)
        if not patient:
            self.check_room(cost)
        with span("wait"):
            await self._enter(cost, is_job=patient)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            yield
        finally:
            self._seconds += 0.2 * (clock() - started - self._seconds)
            self._leave(cost, is_job=patient)

    def _fits(self, cost: int) -> bool:
        within = self.budget is None or self.bytes_in_flight + cost <= self.budget
        return self.in_flight < self.running and within

    async def _enter(self, cost: int, *, is_job: bool) -> None:
        waiter = _Waiter(cost, is_job, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._call_next()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():  # it was still in the queue, perhaps before smaller ones
                if waiter in self._queue:
                    self._queue.remove(waiter)
                self._call_next()
            else:  # its turn had come
                self._leave(cost, is_job=is_job)
            raise

    def _leave(self, cost: int, *, is_job: bool) -> None:
        self.in_flight -= 1
        self._jobs -= is_job
        self.bytes_in_flight -= cost
        self._call_next()

    def _call_next(self) -> None:
        while (waiter := self._next()) is not None:
            self._queue.remove(waiter)
            if not waiter.turn.cancelled():
                self.in_flight += 1
                self._jobs += waiter.is_job
                self.bytes_in_flight += waiter.cost
                waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """The first in the queue, or the first behind jobs that cannot run now."""
        passed: list[_Waiter] = []
        for waiter in self._queue:
            has_place = not waiter.is_job or self._jobs < self.running - self.spare
            if waiter.turn.cancelled() or (has_place and self._fits(waiter.cost)):
                for job in passed:
                    job.passed += 1
                return waiter
            if not waiter.is_job or waiter.passed >= _MOST_PASSES:
                return None
            if has_place:  # the memory is short, not the place
                passed.append(waiter)
        return None
