"""Places or bytes that requests share, and that nobody waits for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from trustscale_server.platform.errors import Overloaded
from trustscale_server.platform.fair.pace import Pace
from trustscale_server.platform.fair.queue import current_client


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

    A request that comes when all are taken displaces the newest one of the client that holds most,
    which may be itself: "longest queue drop" in the literature on queues.

    name: what is shared, in the plural, for messages.
    """

    def __init__(self, max_amount: int, name: str) -> None:
        self.max_amount = max_amount
        self._name = name
        self._pace = Pace(1.0)
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
        return self.taken >= self.max_amount and own >= max(self._held.values(), default=0)

    def raise_if_full(self) -> None:
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
        while self.taken > self.max_amount:
            client = max((share.client, *self._held), key=self._held.__getitem__)
            newest = next(held for held in reversed(self._shares) if held.client == client)
            newest.is_displaced = True
            newest.end(asyncio.get_running_loop().time())
            self._remove(newest)

    def end(self, seconds: float) -> None:
        """Cancel whoever still holds a share after `seconds`, because the service stops."""
        self._ends_at = asyncio.get_running_loop().time() + seconds
        for share in self._shares:
            share.end(self._ends_at)

    def refusal(self, *, ends: bool = False) -> Overloaded:
        """Return the error for a full room; `retry_after` is how long others hold places."""
        now = asyncio.get_running_loop().time()
        seconds = self._pace.expected([share.began for share in self._shares], now)
        if ends:
            return Overloaded("The service is stopping.", retry_after=seconds)
        return Overloaded(f"All {self.max_amount:,} {self._name} are taken.", retry_after=seconds)

    def _remove(self, share: HeldShare) -> None:
        if share in self._shares:
            self._shares.remove(share)
            self._held[share.client] -= share.amount
            self._held += Counter()  # drops clients that hold nothing
