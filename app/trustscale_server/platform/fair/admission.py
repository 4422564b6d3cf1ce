"""Slots and memory that requests wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from trustscale_server.platform.errors import ImageTooLarge, Overloaded
from trustscale_server.platform.fair.queue import AsyncFairQueue, current_client
from trustscale_server.platform.fair.room import Room
from trustscale_server.platform.fair.slot_rules import SlotRequest, SlotRules, holders_in
from trustscale_server.platform.telemetry.traces import span

_MIN_WAITING: Final = 16


class AdmissionController(AsyncFairQueue[SlotRequest]):
    """Lets `max_in_flight` requests hold a slot and `max_waiting` more queue for one.

    `SlotRules` say which request is next.

    own: upscalers with slots of their own, and how many. Their requests wait for other machines,
    and neither take the slots of requests that compute here nor wait for these. Memory and waiting
    places are the same for all.

    max_in_flight_bytes: of all slots together; None: no limit. seconds: first estimate of the time
    a slot is held. reserved: slots that jobs leave to others.
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
        self._rules = SlotRules(
            max_in_flight=max_in_flight,
            max_in_flight_bytes=max_in_flight_bytes,
            reserved=reserved,
            own=own or {},
        )
        self.max_waiting = max_waiting
        self.max_in_flight_bytes = max_in_flight_bytes
        self._waiting_places = Room(max_waiting, "waiting places")

    @property
    def capacity(self) -> int:
        """Number of all slots."""
        return self._rules.max_in_flight + sum(self._rules.own.values())

    @property
    def in_flight(self) -> int:
        """Number of requests that hold a slot."""
        return len(self._holding)

    def slots_held(self, upscaler: str) -> int:
        """Return how many slots are held in the pool that an upscaler's requests take slots of."""
        return len(holders_in(self._rules.pool_of(upscaler), self._holding))

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the requests that hold a slot."""
        return sum(request.cost for request in self._holding)

    def for_short_work(self) -> AdmissionController:
        """Return a controller for work of a second at most; it always has waiting places.

        Jobs do such work too, and must not cause clients to be refused.
        """
        return AdmissionController(
            self._rules.max_in_flight, max(self.max_waiting, _MIN_WAITING), seconds=1.0
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

        `retry_after` estimates when all that wait will have had their turns.

        upscalers: those that may answer it.
        """
        if not self._waiting_places.is_full:
            return
        client = current_client.get()
        for pool in map(self._rules.pool_of, upscalers):
            request = SlotRequest(client=client, cost=cost, is_job=False, pool=pool)
            chosen, _ = self._rules.choose([*self._waiting, request], self._holding)
            if chosen is request:
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
        request = SlotRequest(
            client=current_client.get(),
            cost=cost,
            is_job=unbounded_wait,
            pool=self._rules.pool_of(upscaler),
        )
        async with self._turn(request):
            yield

    async def _wait(self, request: SlotRequest) -> None:
        with span("wait"):
            self._join(request)
            if request.called.is_set():
                return
            try:
                async with nullcontext() if request.is_job else self._waiting_places.held():
                    await request.called.wait()
            except Overloaded:
                raise self._refusal(request.pool) from None

    def _refusal(self, pool: str) -> Overloaded:
        slots = self._rules.max_slots(pool)
        of_pool = f" of {pool}" if pool else ""
        is_full = len(holders_in(pool, self._holding)) >= slots
        shortage = f"All {slots} slots{of_pool}" if is_full else "The memory for answers"
        rounds = 1 + self._waiting_places.taken / slots
        return Overloaded(
            f"{shortage} and {self.max_waiting} waiting places are taken.",
            retry_after=rounds * self._expected_s(),
        )

    def _next(self, waiting: Sequence[SlotRequest]) -> SlotRequest | None:
        request, passed = self._rules.choose(waiting, self._holding)
        for job in passed:
            job.passes += 1
        return request
