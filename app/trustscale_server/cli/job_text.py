"""Jobs in words: what they cost and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trustscale_server.platform.errors import duration


def costs_of(job: Mapping[str, Any]) -> str:
    """Return the expected cost of a job, or of a plan for one, in one line."""
    calls, seconds, price = job["calls"], job["estimate_s"], job["price"]
    if not calls:
        return "no calls of the upscaler"
    costs = [f"{calls:,} call{'s' if calls != 1 else ''} of the upscaler"]
    if price is not None:
        costs.append(f"for {price:g} in the currency of price_per_call")
    if seconds is None:
        costs.append("which take as long as the first will show")
    else:
        costs.append("a few seconds" if seconds < 10 else f"about {duration(seconds)}")
    return ", ".join(costs)


def progress_of(job: Mapping[str, Any]) -> str:
    """Return how much of a job is done."""
    progress = job["progress"]
    return f"{progress['done']} of {progress['total']} {progress['unit']}"
