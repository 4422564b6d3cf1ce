"""What repeated requests are recognised by; `tests/contract` runs one suite over all stores."""

from __future__ import annotations

from typing import Protocol


class ClaimStore(Protocol):
    """Values by name that disappear after their time. Every call may be repeated."""

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        """Keep a value for so long, unless there is one: the one that is kept."""
        ...

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        """Keep another value for so long, or none, if the present one still is `old`."""
        ...
