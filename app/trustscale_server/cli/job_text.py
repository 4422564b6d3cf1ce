"""Jobs in words: what they cost, how far they are, and which calls they made."""

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


def calls_made(job: Mapping[str, Any]) -> str | None:
    """Return what became of the calls that a job made, in one line; None if it made none."""
    calls = job.get("calls_made")  # an older server does not say
    if calls is None:
        return None
    counts = [f"{calls['pairs']:,} for pairs"]
    if calls["canaries"]:
        counts.append(f"{calls['canaries']:,} for canaries")
    if failed := calls["failed"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(failed.items()))
        counts.append(f"{sum(failed.values()):,} failed ({reasons})")
    if calls["unanswered"]:
        lost = "their process was killed"
        why = lost if job["finished_at"] else f"in flight, or {lost}"
        counts.append(f"{calls['unanswered']:,} begun and never answered ({why})")
    begun = calls["begun"]
    return f"made {begun:,} call{'s' if begun != 1 else ''}: {', '.join(counts)}"
