"""Cores, threads and tasks of this process, and who may work now, fairly by clients.

Work and memory are bounded: a few requests generate, some wait, the rest is refused. A request's
memory is known before (`app/serving/prepare.py`), so it asks for a slot with that number of bytes,
and all slots together never exceed the budget. Clients share slots, memory and waiting places
(`current_client`): the turn is that of the client with the smallest share, then that of the first,
and a large request whose turn it is lets nobody pass. While one client holds every slot, another
one gets a slot more, so that nobody waits for the long requests of a stranger. But jobs, for which
nobody holds a connection open, let others pass while they cannot go themselves, and leave
`reserved` slots to them: two pictures of minutes must not block those of seconds.

Threads, too, take places and bytes in turns, client by client (`WeightedSemaphore`). This is
weighted fair queueing: what a client has had, as amount times seconds, counts when its next
turn is chosen, so one with a hundred files waits for itself, and others do not wait for it. A
client that comes starts where those are that have had their share meanwhile: it gets no credit for
the time it was away, and passes nobody who has waited longer.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from trustscale_server.errors import ImageTooLarge, Overloaded
from trustscale_server.telemetry.signals import span

Given = ParamSpec("Given")
Result = TypeVar("Result")


# --- Cores, threads and asyncio tasks of this process.


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plain_environment() -> dict[str, str]:
    """Return the environment, without secrets, for a child process that imports our modules."""
    harmless = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{name: value for name, value in os.environ.items() if name in harmless},
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def score_threads() -> int:
    """Return how many threads make one score; more would gain little and cost memory."""
    return min(usable_cores(), 4)


@contextmanager
def score_cores(
    name: str,
) -> Iterator[Callable[[Callable[[int], Result], range], Iterator[Result]]]:
    """Return a `map` over numbers in `score_threads`; results come in order, few in advance."""
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
    """Run a task beside the body, and cancel it at the body's end.

    Drop the task reference: a frame–exception cycle would keep the arrays alive until garbage
    collection. The body should drop its own, too.
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


async def side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run awaitables side by side; the first failure cancels the others, and is raised.

    `asyncio.TaskGroup` is no choice: after a failure its own frame–exception cycle would keep all
    that the callers' frames name.
    """
    tasks = [asyncio.create_task(work) for work in works]
    first, cancelled = set[asyncio.Task[None]](), None
    try:
        try:
            first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                cancelled = await _ended(task) or cancelled
                _ = task.cancelled() or task.exception()  # retrieved, or asyncio would log it
        if cancelled is not None:
            raise cancelled
        for task in first:
            task.result()
    finally:
        del tasks, task, first, cancelled  # as in `beside`


async def shielded(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """Run `asyncio.to_thread`; if cancelled, wait for the thread's end before raising.

    Until then the thread's memory is in use, so its slot must stay taken. Afterwards the thread
    holds nothing: a pool's thread keeps its last call until it runs again, which on a busy machine
    would add a decoded sample to what the request was admitted with.
    """
    given = [(args, kwargs)]
    del args, kwargs

    def call() -> Result:
        positional, named = given.pop()
        return function(*positional, **named)

    return await to_its_end(asyncio.to_thread(call))


async def to_its_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work to its end, even if this is cancelled; that is raised afterwards."""
    task = asyncio.ensure_future(work)
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


# --- Who may work now: slots, waiting places and memory, shared fairly by clients.

current_client: ContextVar[str] = ContextVar("current_client", default="")
"""For whom this task works: a key's name or an address; empty for the service itself.

Clients share decoders, memory and slots in turns, so that one cannot keep the others out.
"""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def memory_limit(cgroups: Path = _CGROUPS, own_group: Path = _OWN_GROUP) -> int | None:
    """Return the memory limit in bytes (the smallest of cgroups and machine), or None."""
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


_FEWEST_PLACES: Final = 16
_MOST_PASSES: Final = 64  # requests that pass a job that waits for memory


class _Pace:
    """How long work takes: a running mean, or longer if what has begun has taken longer already."""

    def __init__(self, seconds: float) -> None:
        self._mean = seconds

    def note(self, seconds: float) -> None:
        self._mean += 0.2 * (seconds - self._mean)

    def seconds(self, began: Sequence[float]) -> float:
        """The estimate, at least 1, while work that began at these times goes on."""
        now = asyncio.get_running_loop().time()
        return max(1.0, self._mean, sum(now - at for at in began) / max(1, len(began)))


@dataclass(eq=False, slots=True)
class HeldShare:
    """What one request holds of a `Room`."""

    client: str
    began: float
    scope: asyncio.Timeout | None
    amount: int = 0
    is_displaced: bool = False

    def end(self, at: float) -> None:
        """Cancel the request at this time of the event loop."""
        if self.scope is not None and not self.scope.expired():
            self.scope.reschedule(at)


class Room:
    """A bounded number of places, or of bytes, that requests share.

    A client may have them all, but not keep others out.

    What comes when all are taken displaces the newest request of the client that holds most, which
    may be itself: "longest queue drop" in the literature on queues.

    name: of what is shared, for messages.
    """

    def __init__(self, most: int, name: str) -> None:
        self.most = most
        self._name = name
        self._pace = _Pace(1.0)
        self._shares: list[HeldShare] = []  # the newest last
        self._held: Counter[str] = Counter()  # by client
        self._ends_at: float | None = None

    @property
    def taken(self) -> int:
        """Places or bytes that are held."""
        return self._held.total()

    @property
    def is_full(self) -> bool:
        """Whether the current client could have no place now."""
        own = self._held[current_client.get()] + 1
        return self.taken >= self.most and own >= max(self._held.values(), default=0)

    def check(self) -> None:
        """Raise Overloaded if there is no place for the current client."""
        if self.is_full:
            raise self.refusal()

    @asynccontextmanager
    async def held(self, amount: int = 1) -> AsyncIterator[HeldShare]:
        """Hold a share for the current client; see `grow`.

        Raises:
            Overloaded: there is no room; or the body was cancelled, since another client needed the
                room or the service stops.
        """
        clock = asyncio.get_running_loop().time
        scope = asyncio.timeout_at(self._ends_at)
        share = HeldShare(current_client.get(), clock(), scope)
        try:
            async with scope:
                self._shares.append(share)
                self.grow(share, amount)
                if share.is_displaced:
                    raise self.refusal()
                try:
                    yield share
                finally:
                    self._pace.note(clock() - share.began)
        except TimeoutError:
            if not scope.expired():
                raise
            raise self.refusal(ends=not share.is_displaced) from None
        finally:
            self._remove(share)
            share.scope = None
            del scope  # it holds the task, which holds its error and so this frame

    def grow(self, share: HeldShare, amount: int) -> None:
        """Enlarge a share; if the room overflows, the largest client loses its newest share."""
        if share.is_displaced:
            return
        share.amount += amount
        self._held[share.client] += amount
        while self.taken > self.most:
            client = max((share.client, *self._held), key=self._held.__getitem__)
            newest = next(share for share in reversed(self._shares) if share.client == client)
            newest.is_displaced = True
            newest.end(asyncio.get_running_loop().time())
            self._remove(newest)

    def end(self, seconds: float) -> None:
        """Cancel whoever still holds a share after so many seconds, because the service stops."""
        self._ends_at = asyncio.get_running_loop().time() + seconds
        for share in self._shares:
            share.end(self._ends_at)

    def refusal(self, *, ends: bool = False) -> Overloaded:
        """Return the error for a full room; `retry_after` is how long others hold places."""
        seconds = self._pace.seconds([share.began for share in self._shares])
        why = "The service is stopping." if ends else f"All {self.most:,} {self._name} are taken."
        return Overloaded(why, retry_after=seconds)

    def _remove(self, share: HeldShare) -> None:
        if share in self._shares:
            self._shares.remove(share)
            self._held[share.client] -= share.amount
            self._held += Counter()  # without zeros


@dataclass(eq=False, slots=True)
class _Turn:
    """A request that waits for a slot until it is `called`, and then holds it."""

    client: str
    cost: int
    is_job: bool
    called: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = 0.0
    passed: int = 0


class AdmissionController:
    """Lets `running` requests hold a slot and `most_waiting` more queue for one.

    Of those that wait, it is the turn of the client with the smallest share, which is the larger
    one of its shares of slots and memory (dominant resource fairness, Ghodsi et al. 2011), and of
    equals the first. So while two clients wait, neither keeps more than half; and where there are
    several slots, there is one more while one client holds all.

    budget: bytes of all slots together; None: no limit. seconds: first estimate of the time a slot
    is held. reserved: slots that jobs leave to others.
    """

    def __init__(
        self,
        running: int,
        most_waiting: int,
        budget: int | None = None,
        *,
        seconds: float = 10.0,
        reserved: int = 0,
    ) -> None:
        self.running = running
        self.most_waiting = most_waiting
        self.budget = budget
        self.reserved = reserved
        self._holding: list[_Turn] = []
        self._queue: list[_Turn] = []
        self._places = Room(most_waiting, "waiting places")
        self._pace = _Pace(seconds)

    @property
    def in_flight(self) -> int:
        """Number of requests that hold a slot."""
        return len(self._holding)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the requests that hold a slot."""
        return sum(turn.cost for turn in self._holding)

    @property
    def waiting(self) -> int:
        """Number of queued requests."""
        return len(self._queue)

    def for_short_work(self) -> AdmissionController:
        """Return a controller for work of a second at most; it always has waiting places.

        Jobs do such work too, and must not cause clients to be refused.
        """
        return AdmissionController(
            self.running, max(self.most_waiting, _FEWEST_PLACES), seconds=1.0
        )

    def for_uploads(self, name: str) -> Room:
        """Return a room for as many uploads as may hold a slot or wait for one.

        The decoders take them in turn.
        """
        return Room(self.running + max(self.most_waiting, _FEWEST_PLACES), name)

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

        `retry_after` estimates when those that wait will have had their turns.
        """
        turn = _Turn(current_client.get(), cost, is_job=False)
        if self._places.is_full and self._next([*self._queue, turn])[0] is not turn:
            raise self._refusal()

    @asynccontextmanager
    async def slot(self, cost: int = 0, *, unbounded_wait: bool = False) -> AsyncIterator[None]:
        """Wait for a slot and hold it; `unbounded_wait` joins the queue however long it is.

        Raises:
            Overloaded: all waiting places are taken, also later by clients with fewer of them.
            ImageTooLarge: the cost in bytes is over the budget.
        """
        self.check_size(cost)
        turn = _Turn(current_client.get(), cost, is_job=unbounded_wait)
        try:
            with span("wait"):
                await self._wait(turn)
            try:
                yield
            finally:
                self._pace.note(asyncio.get_running_loop().time() - turn.began)
        finally:
            for turns in (self._queue, self._holding):
                if turn in turns:
                    turns.remove(turn)
            self._call_next()

    async def _wait(self, turn: _Turn) -> None:
        self._queue.append(turn)
        self._call_next()
        if turn.called.is_set():
            return
        try:
            async with nullcontext() if turn.is_job else self._places.held():
                await turn.called.wait()
        except Overloaded:
            raise self._refusal() from None

    def _refusal(self) -> Overloaded:
        is_full = self.in_flight >= self.running
        shortage = f"All {self.running} slots" if is_full else "The memory for answers"
        turns = 1 + self._places.taken / self.running
        return Overloaded(
            f"{shortage} and {self.most_waiting} waiting places are taken.",
            retry_after=turns * self._pace.seconds([turn.began for turn in self._holding]),
        )

    def _call_next(self) -> None:
        while True:
            turn, passed = self._next(self._queue)
            if turn is None:
                return
            for job in passed:
                job.passed += 1
            self._queue.remove(turn)
            self._holding.append(turn)
            turn.began = asyncio.get_running_loop().time()
            turn.called.set()

    def _next(self, queue: Sequence[_Turn]) -> tuple[_Turn | None, list[_Turn]]:
        """Whose turn it is, if anybody's, and the jobs that cannot run now and let it pass."""
        passed: list[_Turn] = []
        jobs = sum(turn.is_job for turn in self._holding)
        for turn in sorted(queue, key=lambda turn: self._share(turn.client)):
            has_place = not turn.is_job or jobs < self.running - self.reserved
            if has_place and self._has_slot(turn) and self._has_memory(turn.cost):
                return turn, passed
            if not turn.is_job or turn.passed >= _MOST_PASSES:
                break
            if has_place:  # the memory is short, not the place
                passed.append(turn)
        return None, []

    def _has_slot(self, turn: _Turn) -> bool:
        clients = {held.client for held in self._holding}
        others = self.running > 1 and len(clients) == 1 and turn.client not in clients
        return self.in_flight < self.running + (others and not turn.is_job)

    def _has_memory(self, cost: int) -> bool:
        return self.budget is None or self.bytes_in_flight + cost <= self.budget

    def _share(self, client: str) -> float:
        """The client's share of the slots or of the memory, whichever is larger."""
        own = [turn.cost for turn in self._holding if turn.client == client]
        return max(len(own) / self.running, sum(own) / (self.budget or math.inf))


# --- Places and bytes that threads take in turns, client by client.

_FIRST_SECONDS: Final = 0.1
_NEWEST: Final = 0.2
"""Weight of the newest time in the running mean."""


class NoLongerWaiting(Exception):
    """The caller has stopped waiting."""


@dataclass(eq=False, slots=True)
class _Waiter:
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
        self._waiting: list[_Waiter] = []  # in the order they came
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
            NoLongerWaiting: `stopped` says so after a `wake`.
            Overloaded: `longest` seconds have passed.
        """
        # Of the largest there is room for one, and beside it for what one other may hold.
        cost = min(cost, self._most_each + 1, self._amount)
        with self._changed:
            turn = _Waiter(client, cost, self._level)
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

    def _next(self) -> _Waiter | None:
        """The next in turn; None: nobody, or it does not fit yet."""
        may = [turn for turn in self._waiting if self._has_room(turn)]
        turn = min(may, key=self._place, default=None)
        if turn is None or self._held.total() + turn.cost > self._amount:
            return None
        return turn

    def _has_room(self, turn: _Waiter) -> bool:
        held = self._held[turn.client]
        return held == 0 or held + turn.cost <= self._most_each

    def _place(self, turn: _Waiter) -> float:
        return max(turn.level, self._used.get(turn.client, 0.0))

    def _too_long(self) -> Overloaded:
        others = 1 + len(self._waiting)
        return Overloaded(
            "Files that take much memory are waiting to be decoded.",
            retry_after=max(1.0, round(self._seconds * others)),
        )
