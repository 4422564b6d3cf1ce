"""What each client has had, so that the next turn is that of the client with the least."""

from __future__ import annotations

from collections.abc import Collection, Hashable


class Ledger:
    """Weighted fair queueing: an account of each client, in any unit of work.

    A client that comes starts at the level of the clients that are there: it gets no credit for the
    time it was away, and passes nobody who has waited longer.

    Attributes:
        level: what a client has had by now that has wanted something all the time.
    """

    def __init__(self) -> None:
        self.level = 0.0
        self._used: dict[Hashable, float] = {}

    def place(self, client: Hashable, level: float) -> float:
        """Return the place in the order of a client that came at this level; the least is next."""
        return max(level, self._used.get(client, 0.0))

    def lend(self, client: Hashable, level: float, amount: float) -> None:
        """Note an amount for the order of turns, before it is known what is used."""
        self._used[client] = self.place(client, level) + amount

    def charge(
        self, client: Hashable, used: float, present: Collection[Hashable], lent: float = 0.0
    ) -> None:
        """Count what a client has used while these clients, itself among them, wanted something.

        lent: what `lend` has noted of it already.
        """
        self._used[client] = self._used.get(client, self.level) + used - lent
        self.level += used / max(1, len(present))

    def forget(self, present: Collection[Hashable] = ()) -> None:
        """Drop accounts that no longer differ from a newcomer's, except those of these clients."""
        self._used = {
            client: used
            for client, used in self._used.items()
            if used > self.level or client in present
        }

    def __len__(self) -> int:
        return len(self._used)
