"""Pairs that cannot be used: each is named with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from trustscale_server.platform.errors import BadPairs

OnBadPair: TypeAlias = Literal["fail", "skip"]
"""What happens to a calibration when some of its pairs cannot be used."""

SAME_PIXELS = "duplicates {} by content"
"""Why a pair is left out whose Y has the pixels of another file."""

FITTED_ON = "σ was fitted on this photograph"
"""Why a pair that cannot represent a new photograph is left out."""


def bad_pairs(items: Sequence[dict[str, str]], total: int) -> BadPairs:
    """Return the error that names every pair that cannot be used."""
    named = "; ".join(f"{item['name']}: {item['reason']}" for item in items[:3])
    more = f"; and {len(items) - 3} more" if len(items) > 3 else ""
    hint = ""
    if any(item["reason"] == FITTED_ON for item in items):
        hint = (
            " Leave out what σ was fitted on (--skip-bad-pairs, on_bad_pair), or choose another σ "
            "(--estimator, indecision)."
        )
    return BadPairs(
        f"{len(items)} of {total} pairs cannot be used: {named}{more}.{hint}", items=list(items)
    )


def raise_if_bad_pairs(
    items: Sequence[dict[str, str]], usable: int, on_bad_pair: OnBadPair
) -> None:
    """Raise BadPairs if pairs that cannot be used may not be left out, or none is left."""
    if items and (on_bad_pair == "fail" or not usable):
        raise bad_pairs(items, usable + len(items))
    if not usable:
        raise BadPairs("There are no pairs: send archive, or files x and y.", items=[])
