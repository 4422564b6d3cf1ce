"""Slots and memory that requests wait for."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

from trustscale_server.platform.errors import ImageTooLarge, Overloaded
from trustscale_server.platform.fair.queue import AsyncFairQueue, AsyncWaiter, current_client
from trustscale_server.platform.fair.room import Room
from trustscale_server.platform.telemetry.traces import span

_MIN_WAITING: Final = 16
_MAX_PASSES: Final = 64  # requests that pass a job that waits for memory


@dataclass(eq=False, slots=True, kw_only=True)
class _Request(AsyncWaiter):
    """A request that waits for a slot.

    pool: which slots; "": the shared ones. passed: how many have gone before a job that could not.
    """

    is_job: bool
    pool: str = ""
    passed: int = 0


class AdmissionController(AsyncFairQueue[_Request]):
    """Lets `max_in_flight` requests hold a slot and `max_waiting` more queue for one.

    The next request is one of the client with the smallest share: the larger one of its shares of
    slots and memory (dominant resource fairness, Ghodsi et al. 2011). Among equals the first one
    goes, and a large request that is next lets nobody pass. So while two clients wait, neither
    keeps more than half. Where there are several slots, there is one more while one client holds
    all, so that nobody waits for the long requests of a stranger.

    Nobody holds a connection open for a job. So jobs let others pass while they cannot go
    themselves, and leave `reserved` slots to them: two pictures of minutes must not block pictures
    of seconds.

    own: upscalers with slots of their own, and how many. Their requests wait for other machines,
    and neither take the slots of those that compute here nor wait for these. Memory and waiting
    places are the same for all.

    max_in_flight_bytes: of all slots together; None: no limit. seconds: first estimate of the time
    a slot is held. reserved: slots that jobs leave to others, of each kind that has more than one.
    """

    def __init__(
        self,
        max_in_flight: int,
        max_waiting: int,
        max_in_flight_bytes: int | None = None,
        *,
        seconds: float = 10.0,
        reserved: int = 0,
        own: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(seconds)
        self._own = dict(own or {})
        self.max_in_flight = max_in_flight
        self.max_waiting = max_waiting
        self.max_in_flight_bytes = max_in_flight_bytes
        self.reserved = reserved
        self._places = Room(max_waiting, "waiting places")

    @property
    def capacity(self) -> int:
        """Number of all slots."""
        return self.max_in_flight + sum(self._own.values())

    @property
    def in_flight(self) -> int:
        """Number of requests that hold a slot."""
        return len(self._holding)

    def beside(self, upscaler: str) -> int:
        """Return how many requests hold slots of the kind that those of an upscaler take."""
        return len(self._held(self._pool(upscaler)))

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the requests that hold a slot."""
        return sum(request.cost for request in self._holding)

    def for_short_work(self) -> AdmissionController:
        """Return a controller for work of a second at most; it always has waiting places.

        Jobs do such work too, and must not cause clients to be refused.
        """
        return AdmissionController(
            self.max_in_flight, max(self.max_waiting, _MIN_WAITING), seconds=1.0
        )

    def for_uploads(self, name: str) -> Room:
        """Return a room for as many uploads as may hold a slot or wait for one.

        The decoders take them in turn.
        """
        return Room(self.capacity + max(self.max_waiting, _MIN_WAITING), name)

    def raise_if_too_large(self, cost: int) -> None:
        """Raise ImageTooLarge if a request of this many bytes alone is over the budget."""
        if self.max_in_flight_bytes is not None and cost > self.max_in_flight_bytes:
            raise ImageTooLarge(
                f"Making the answer takes {cost:,} bytes of memory; this service has "
                f"{self.max_in_flight_bytes:,}.",
                limit="max_in_flight_bytes",
                maximum=self.max_in_flight_bytes,
                actual=cost,
            )

    def raise_if_full(self, cost: int = 0, upscalers: Collection[str] = ("",)) -> None:
        """Raise Overloaded if a request could neither have a slot nor wait for one now.

        `retry_after` estimates when all that wait will have had their turns. upscalers: which it
        may mean.
        """
        if not self._places.is_full:
            return
        client = current_client.get()
        for pool in map(self._pool, upscalers):
            request = _Request(client=client, cost=cost, is_job=False, pool=pool)
            if self._choice([*self._waiting, request])[0] is request:
                return
        raise self._refusal(pool)

    @asynccontextmanager
    async def slot(
        self, cost: int = 0, *, upscaler: str = "", unbounded_wait: bool = False
    ) -> AsyncIterator[None]:
        """Wait for a slot and hold it; `unbounded_wait` joins the queue however long it is.

        Raises:
            Overloaded: all waiting places are taken, also later by clients with fewer of them.
            ImageTooLarge: the cost in bytes is over the budget.
        """
        self.raise_if_too_large(cost)
        request = _Request(
            client=current_client.get(),
            cost=cost,
            is_job=unbounded_wait,
            pool=self._pool(upscaler),
        )
        async with self._turn(request):
            yield

    async def _wait(self, request: _Request) -> None:
        with span("wait"):
            self._join(request)
            if request.called.is_set():
                return
            try:
                async with nullcontext() if request.is_job else self._places.held():
                    await request.called.wait()
            except Overloaded:
                raise self._refusal(request.pool) from None

    def _refusal(self, pool: str) -> Overloaded:
        slots = self._limit(pool)
        of_whom = f" of {pool}" if pool else ""
        is_full = len(self._held(pool)) >= slots
        shortage = f"All {slots} slots{of_whom}" if is_full else "The memory for answers"
        rounds = 1 + self._places.taken / slots
        return Overloaded(
            f"{shortage} and {self.max_waiting} waiting places are taken.",
            retry_after=rounds * self._expected_s(),
        )

    def _next(self, waiting: Sequence[_Request]) -> _Request | None:
        request, passed = self._choice(waiting)
        for job in passed:
            job.passed += 1
        return request

    def _choice(self, waiting: Sequence[_Request]) -> tuple[_Request | None, list[_Request]]:
        """Who is next, if anybody, and the jobs that cannot run now and let it pass."""
        passed: list[_Request] = []
        full = set[str]()
        for request in sorted(waiting, key=self._share):
            if request.pool in full:
                continue
            has_place, has_slot = self._has_place(request), self._has_slot(request)
            if has_place and has_slot and self._has_memory(request.cost):
                return request, passed
            if not request.is_job or request.passed >= _MAX_PASSES:
                if has_slot:  # what is short is the same for all pools
                    break
                full.add(request.pool)
            elif has_place:  # the memory is short, not the place
                passed.append(request)
        return None, []

    def _pool(self, upscaler: str) -> str:
        return upscaler if upscaler in self._own else ""

    def _limit(self, pool: str) -> int:
        return self._own.get(pool, self.max_in_flight)

    def _held(self, pool: str) -> list[_Request]:
        return [held for held in self._holding if held.pool == pool]

    def _has_place(self, request: _Request) -> bool:
        """Whether one more job may run; others always may."""
        jobs = sum(held.is_job for held in self._held(request.pool))
        return not request.is_job or jobs < max(self._limit(request.pool) - self.reserved, 1)

    def _has_slot(self, request: _Request) -> bool:
        held, limit = self._held(request.pool), self._limit(request.pool)
        clients = {request.client for request in held}
        others = limit > 1 and len(clients) == 1 and request.client not in clients
        return len(held) < limit + (others and not request.is_job)

    def _has_memory(self, cost: int) -> bool:
        budget = self.max_in_flight_bytes
        return budget is None or self.bytes_in_flight + cost <= budget

    def _share(self, request: _Request) -> float:
        """Its client's share of the slots of its pool or of the memory, whichever is larger."""
        own = [held for held in self._holding if held.client == request.client]
        memory = sum(held.cost for held in own) / (self.max_in_flight_bytes or math.inf)
        slots = sum(held.pool == request.pool for held in own)
        return max(slots / self._limit(request.pool), memory)
