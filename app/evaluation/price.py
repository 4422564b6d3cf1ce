"""What a picture costs for so many generations, and what is trusted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

_WORTH: Final = 0.02
"""Of the picture: what less than that is not worth another generation."""


@dataclass(frozen=True, slots=True)
class PricePoint:
    """What so many samples of a picture let one trust of it at one α, and how long they took."""

    samples: int
    alpha: float
    trusted_area: float
    seconds: float | None = None


def priced(
    points: Sequence[PricePoint], samples_per_call: int, price_per_call: float | None
) -> list[dict[str, Any]]:
    """The points with what they cost in calls and money."""
    rows = []
    for point in points:
        calls = -(-point.samples // samples_per_call)
        money = None if price_per_call is None else calls * price_per_call
        rows.append({**asdict(point), "calls": calls, "money": money})
    return rows


def advice(rows: Sequence[Mapping[str, Any]], alpha: float) -> str | None:
    """Which M is enough, in one sentence; None with nothing to choose from."""
    nearest = min((row["alpha"] for row in rows), key=lambda one: abs(one - alpha), default=alpha)
    areas = {row["samples"]: row["trusted_area"] for row in rows if row["alpha"] == nearest}
    if len(areas) < 2:
        return None
    enough = min(m for m, area in areas.items() if area >= max(areas.values()) - _WORTH)
    told = ", ".join(
        f"{m} {'generation trusts' if m == 1 else 'generations trust'} {area:.0%}"
        for m, area in sorted(areas.items())
    )
    verb = "is" if enough == 1 else "are"
    return f"At α = {nearest:g} {told} of the picture: {enough} {verb} enough."
