"""Which request gets the next slot: limits of slots and memory, and the clients' shares of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trustscale_server.platform.fair.queue import AsyncWaiter

_MAX_PASSES: Final = 64  # requests that may pass a job that waits for memory


@dataclass(eq=False, slots=True, kw_only=True)
class SlotRequest(AsyncWaiter):
    """A request for a slot; its cost is the memory of its answer in bytes.

    pool: the upscaler whose own slots it takes; "": the shared ones. passes: how many requests have
    gone before a job that had to wait for memory.
    """

    is_job: bool
    pool: str = ""
    passes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRules:
    """Dominant resource fairness (Ghodsi et al. 2011) of slots and memory.

    The next request is one of the client with the smallest share: the larger one of its shares of
    slots and memory. Among equals the first one goes, and a large request that is next lets nobody
    pass. So while two clients wait, neither keeps more than half. Where there are several slots,
    there is one more while one client holds all, so that nobody waits for the long requests of a
    stranger.

    Nobody holds a connection open for a job. So jobs let others pass while they cannot go
    themselves, and leave `reserved` slots to them: two pictures of minutes must not block pictures
    of seconds.

    max_in_flight: the shared slots. max_in_flight_bytes: of all slots together; None: no limit.
    reserved: slots that jobs leave to others, in each pool that has more than one. own: the number
    of slots of each upscaler that has its own.
    """

    max_in_flight: int
    max_in_flight_bytes: int | None
    reserved: int
    own: Mapping[str, int]

    def pool_of(self, upscaler: str) -> str:
        """Return the pool whose slots the requests of an upscaler take."""
        return upscaler if upscaler in self.own else ""

    def max_slots(self, pool: str) -> int:
        """Return the number of slots of a pool."""
        return self.own.get(pool, self.max_in_flight)

    def choose(
        self, waiting: Sequence[SlotRequest], holding: Sequence[SlotRequest]
    ) -> tuple[SlotRequest | None, list[SlotRequest]]:
        """Return who is next, if anybody, and the jobs that wait for memory and let it pass."""
        passed: list[SlotRequest] = []
        full = set[str]()
        for request in sorted(waiting, key=lambda request: self._share(request, holding)):
            if request.pool in full:
                continue
            job_may_run = self._job_may_run(request, holding)
            has_slot = self._has_slot(request, holding)
            if job_may_run and has_slot and self._has_memory(request, holding):
                return request, passed
            if not request.is_job or request.passes >= _MAX_PASSES:
                if has_slot:  # so memory is short, which is the same for all pools
                    break
                full.add(request.pool)
            elif job_may_run:
                passed.append(request)
        return None, []

    def _job_may_run(self, request: SlotRequest, holding: Sequence[SlotRequest]) -> bool:
        """Whether one more job may run in the pool; what is no job always may."""
        jobs = sum(held.is_job for held in holding if held.pool == request.pool)
        return not request.is_job or jobs < max(self.max_slots(request.pool) - self.reserved, 1)

    def _has_slot(self, request: SlotRequest, holding: Sequence[SlotRequest]) -> bool:
        """Whether a slot is free, or the extra one of a client that another one keeps out."""
        held, max_slots = holders_in(request.pool, holding), self.max_slots(request.pool)
        clients = {holder.client for holder in held}
        is_kept_out = max_slots > 1 and len(clients) == 1 and request.client not in clients
        return len(held) < max_slots + (is_kept_out and not request.is_job)

    def _has_memory(self, request: SlotRequest, holding: Sequence[SlotRequest]) -> bool:
        budget = self.max_in_flight_bytes
        return budget is None or sum(held.cost for held in holding) + request.cost <= budget

    def _share(self, request: SlotRequest, holding: Sequence[SlotRequest]) -> float:
        """Its client's share of the slots of its pool or of the memory, whichever is larger."""
        own = [held for held in holding if held.client == request.client]
        memory = sum(held.cost for held in own) / (self.max_in_flight_bytes or math.inf)
        slots = sum(held.pool == request.pool for held in own)
        return max(slots / self.max_slots(request.pool), memory)


def holders_in(pool: str, holding: Sequence[SlotRequest]) -> list[SlotRequest]:
    """Return the requests that hold slots of a pool."""
    return [held for held in holding if held.pool == pool]
