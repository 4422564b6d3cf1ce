"""How long work takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_NEWEST: Final = 0.2
"""Weight of the newest time in the running mean."""


class Pace:
    """A running mean of the seconds that work has taken.

    Attributes:
        mean: the mean; at first what the caller expects.
    """

    def __init__(self, seconds: float) -> None:
        self.mean = seconds

    def note(self, seconds: float) -> None:
        """Count work that has ended."""
        self.mean += _NEWEST * (seconds - self.mean)

    def expected(self, began: Sequence[float], now: float) -> float:
        """Return how long work takes, in seconds and at least 1, given when running work began.

        It is more than the mean if the running work has already taken longer.
        """
        return max(1.0, self.mean, sum(now - at for at in began) / max(1, len(began)))
