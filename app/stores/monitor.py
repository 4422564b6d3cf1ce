"""What the monitor may rely on from any store; `tests/contract` runs one suite over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

MOST_POINTS: Final = 1000
"""Points of history that are kept of one calibration; older ones go."""


class Snapshot(NamedTuple):
    """A state and the version that the next `save` must name."""

    version: int
    state: bytes


class Label(NamedTuple):
    """The truth about one result has been told: what it was, and what was made of it.

    digest: of the truth, so that the same one is recognised.
    record: what the service answered.
    """

    result: str
    digest: str
    record: bytes


class MonitorStore(Protocol):
    """What is known of the requests under each calibration, shared by all processes.

    The state is opaque here. It is changed by optimistic concurrency: read it, and save what
    follows from it under the version that was read; whoever comes second reads again.
    """

    async def load(self, calibration: str) -> Snapshot | None:
        """The newest state; None if nothing was saved."""
        ...

    async def save(
        self,
        calibration: str,
        state: bytes,
        *,
        expected: int,
        points: Sequence[bytes] = (),
        label: Label | None = None,
    ) -> bool:
        """Replace the state, append to the history and record a label: all of it or nothing.

        False, and nothing happens, if the version is no longer `expected` (0: nothing was saved
        yet) or the result has a label already.
        """
        ...

    async def points(self, calibration: str) -> list[bytes]:
        """The history, the oldest first: the last `MOST_POINTS` points."""
        ...

    async def label(self, calibration: str, result: str) -> Label | None:
        """The label of a result; None if it has none."""
        ...

    async def labels(self, calibration: str, *, limit: int) -> list[Label]:
        """The last labels, the oldest of them first."""
        ...

    async def forget(self, calibration: str) -> None:
        """Remove everything about a calibration; nothing happens if there is nothing."""
        ...
