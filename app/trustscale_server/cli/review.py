"""`trustscale upscale --review`: answers that need no look in one folder, the others in another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

ACCEPTED: Final = "accepted"
LOOK: Final = "review"
"""Where answers wait until all are there, and those stay that need a look."""

Rule = Literal["each", "batch"]


def decided(records: Sequence[Mapping[str, Any]], rule: Rule) -> list[bool]:
    """Decide which of these answers need no look, in their order.

    each: as every answer says by itself. batch: all at once, those of one class of uploads among
    themselves, since they are compared with the same calibration pictures.
    """
    # Slow to import.
    from trustscale_server.conformal.review import accepted_of_batch  # noqa: PLC0415

    reviews = [record["review"] or {"needs_review": True} for record in records]
    if rule == "each":
        return [not review["needs_review"] for review in reviews]
    batches: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, (record, review) in enumerate(zip(records, reviews, strict=True)):
        if "p_value" in review:
            name = (record["input_class"] or {}).get("name")
            batches[record["calibration"], record["group"], name].append(number)
    passes = [False] * len(records)
    for numbers in batches.values():
        p_values = [reviews[number]["p_value"] for number in numbers]
        decisions = accepted_of_batch(p_values, reviews[numbers[0]]["delta"])
        for number, is_accepted in zip(numbers, decisions, strict=True):
            passes[number] = is_accepted
    return passes


def promises(records: Iterable[Mapping[str, Any]], rule: Rule) -> list[str]:
    """Return what is promised of such decisions, by each answer."""
    reviews = [record["review"] for record in records if record["review"]]
    if rule == "each":
        return [review["promise"] for review in reviews]
    return [
        f"Of the accepted pictures of one class of uploads at most {100 * review['delta']:g} %, on "
        f"average over such folders, are bad, if each shows another scene: {review['bad']}."
        for review in reviews
    ]


def move(stem: Path, target: Path, endings: Sequence[str]) -> None:
    """Move the files of an answer, in the order of their endings."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for ending in endings:
        path, new = (place.with_name(f"{place.name}.{ending}") for place in (stem, target))
        path.replace(new)
