"""Who is told what becomes of attempts and units: the metrics, or nobody."""

from __future__ import annotations

from typing import Protocol


class JobObserver(Protocol):
    """Methods are called in the event loop and must return at once."""

    def attempt(self, kind: str, outcome: str) -> None:
        """An attempt is over: a state of the job, or how else it ended (`Acts`)."""

    def lost_lease(self, kind: str) -> None:
        """Work begins anew although whoever did it before never said that it ended."""

    def ended(self, kind: str, state: str, seconds: float) -> None:
        """A job has ended, so long after its creation."""

    def unit(self, outcome: str, seconds: float) -> None:
        """A unit is over: "ok", "failed", "stopped", "interrupted" or "store_away"."""


class NoJobObserver:
    """Is told everything and does nothing."""

    def attempt(self, kind: str, outcome: str) -> None: ...
    def lost_lease(self, kind: str) -> None: ...
    def ended(self, kind: str, state: str, seconds: float) -> None: ...
    def unit(self, outcome: str, seconds: float) -> None: ...
