"""Pairs of a calibration that show the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def duplicates(
    digests: Iterable[tuple[str, str]], *, reason: str = "the same image as {}"
) -> list[dict[str, str]]:
    """Return an item for each repeated Y; its first name is the one that stays.

    A repeated image would make the pairs not exchangeable with a new one.
    """
    names = defaultdict(list)
    for name, digest in digests:
        names[digest].append(name)
    return [
        {"name": name, "reason": reason.format(first)}
        for first, *others in names.values()
        for name in others
    ]
