"""What `trustscale upscale` prints of pictures, by their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trustscale_server.cli.output import in_command_words
from trustscale_server.cli.sources import InputFile
from trustscale_server.proof.marks import percent
from trustscale_server.serving.added import LITTLE

_NAMED: Final = 5  # of the files that a line is about


def line(source: InputFile, record: Mapping[str, Any], note: str) -> str:
    """Return the line of a picture, and those of its words."""
    if record["mask"] == "none":
        trusted = f"{record['width']}×{record['height']}, without a mask"
    elif not record["guarantee"]["promised"]:
        trusted = "no promise"
    elif (words := record.get("words")) is not None:
        right = sum(word["trusted"] for word in words)
        trusted = f"{right} of {len(words)} words called right"
    else:
        share = percent(record["trusted_fraction"])
        about = record["guarantee"]["about"]
        trusted = f"{_held(record)}{share} can be relied on {about}{_left_out(record)}"
    seconds = sum(record["timings_ms"].values()) / 1e3
    summary = f"{source}  {trusted}  {record['upscaler']}  {seconds:.1f} s{note}"
    return "\n".join([summary, *_words(record)])


def _held(record: Mapping[str, Any]) -> str:
    """How much of what was added holds up, if that is known."""
    added = record.get("added")
    if added is None or added["held"] is None:
        return ""
    share = percent(added["held"]) if added["held"] >= LITTLE else "next to none"
    return f"{share} of the added detail holds up, "


def _left_out(record: Mapping[str, Any]) -> str:
    """How much was left out of the mask, such as ", without 2 faces and 1 text"."""
    counts = Counter(region["kind"] for region in record.get("left_out", []))
    counted = [f"{n} {kind}{'s' * (n > 1)}" for kind, n in sorted(counts.items())]
    return f", without {' and '.join(counted)}" if counted else ""


def _words(record: Mapping[str, Any]) -> list[str]:
    """The words that can be believed, and those that cannot."""
    if (words := record.get("words")) is None:
        return []
    is_promised = record["guarantee"]["promised"]
    readings = {
        name: " ".join(word["text"] for word in words if (word["trusted"] and is_promised) == right)
        for name, right in (("reads", True), ("perhaps", False))
    }
    return [f"  {name}: {text}" for name, text in readings.items() if text] or ["  reads no text"]


def details(source: InputFile, record: Mapping[str, Any], note: str = "") -> str:
    """Return all that is known about a picture."""
    warnings = [f"  warning: {in_command_words(warning)}" for warning in record["warnings"]]
    if record.get("upscaler_reason"):
        warnings.insert(0, f"  {record['upscaler_reason']}")
    if record["mask"] == "none":
        size = f"{record['width']}×{record['height']}, seed {record['seed']}"
        return "\n".join([f"{source}: {size}, without a mask{note}", *warnings])
    whose = "the opaque part of " if record["opaque_fraction"] < 1 else ""
    figures = (
        f"  {100 * record['trusted_fraction']:.1f} % of the area of {whose}"
        f"{record['width']}×{record['height']} can be relied on {record['guarantee']['about']} "
        f"at α = {record['alpha']:g} (seed {record['seed']}){_left_out(record)}"
    )
    if review := record["review"]:
        verdict = "needs a look" if review["needs_review"] else "needs no look"
        figures += f"\n  {verdict} (p = {review['p_value']:.2g}). {review['promise']}"
    promise = record.get("plain") or record["guarantee"]["plain"]
    if (added := record.get("added")) and added["promise"]:
        figures += f"\n  {added['promise']}"
    figures += f"\n  calibrated on: {record['guarantee']['calibrated_on']}"
    return "\n".join([f"{source}: {promise}{note}", *_words(record), figures, *warnings])


def skipped_in_words(paths: Sequence[Path]) -> str:
    """Return how many files are no images, and which."""
    if not paths:
        return ""
    is_one = len(paths) == 1
    return f", {len(paths)} skipped that {'is' if is_one else 'are'} no image: {first_of(paths)}"


def first_of(names: Sequence[Path | str]) -> str:
    """Return the files, of many the first."""
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + rest
