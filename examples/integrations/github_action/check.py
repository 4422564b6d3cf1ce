"""Enlarges the pictures of a pull request: how much of each is trusted?

Run by action.yml. Writes a table to the summary, annotations, the outputs `checked`, `trusted` and
`smallest`, and each picture with what is not trusted marked; exits with 1 where too little is.
Animations are skipped: they are no single picture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from operator import mul
from pathlib import Path

import httpx
from PIL import Image

from trustscale import Problem, Result, Trustscale

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"}


def main() -> int:
    """Check them, report, and return the exit code."""
    least, out = float(os.environ["LEAST"]), Path(os.environ["OUT"])
    alpha = float(os.environ["ALPHA"]) if os.environ["ALPHA"] else None
    rows, skipped, failed = list[str](), 0, 0
    results = dict[Path, Result]()
    url, key = os.environ["TRUSTSCALE_URL"], os.environ["TRUSTSCALE_KEY"] or None
    with Trustscale(url, key) as service:
        for path in changed():
            if is_animated(path):
                rows.append(f"| `{path}` | skipped: an animation |")
                skipped += 1
                continue
            try:
                result = service.upscale(path, alpha=alpha)
            except (Problem, httpx.TransportError) as problem:
                rows.append(f"| `{path}` | not checked: {problem} |")
                note(path, f"Not checked: {problem}")
                failed += 1
                continue
            results[path] = result
            keep(result, out / path)
            share = result.trusted_fraction
            rows.append(f"| `{path}` | {share:.1%} {'✓' if share >= least else '✗'} |")
            if share < least:
                relied = f"{share:.1%} can be relied on {result.guarantee['about']}"
                note(path, f"Once enlarged, {relied}; {least:.1%} is asked.")
                failed += 1
    counts = f"{len(results)} checked, {failed} failed, {skipped} skipped. "
    table = [
        counts + total(results),
        "",
        "| picture | can be relied on once enlarged |",
        "|---|---|",
        *rows,
    ]
    promises = dict.fromkeys(result.guarantee["plain"] for result in results.values())
    summary = "\n".join([*table, "", *promises]) if rows else "No picture was changed."
    append("GITHUB_STEP_SUMMARY", summary)
    smallest = min((result.trusted_fraction for result in results.values()), default="")
    outputs = {"checked": len(results), "trusted": area(results), "smallest": smallest}
    append("GITHUB_OUTPUT", "\n".join(f"{name}={value}" for name, value in outputs.items()))
    return int(failed > 0)


def is_animated(path: Path) -> bool:
    """Whether a file has several frames; what cannot be read here is for the service to judge."""
    try:
        with Image.open(path) as picture:
            return picture.format != "TIFF" and getattr(picture, "is_animated", False)
    except OSError:
        return False


def total(results: Mapping[Path, Result]) -> str:
    """One sentence about all pictures together."""
    if not results:
        return ""
    worst = min(results, key=lambda path: results[path].trusted_fraction)
    return (
        f"Once enlarged, {area(results):.1%} of the area of all pictures can be relied on "
        f"{results[worst].guarantee['about']}, the least "
        f"of `{worst}`: {results[worst].trusted_fraction:.1%}."
    )


def area(results: Mapping[Path, Result]) -> float | str:
    """The trusted share of the area of all pictures together; empty where there is none."""
    pixels = [result.image.width * result.image.height for result in results.values()]
    shares = [result.trusted_fraction for result in results.values()]
    return sum(map(mul, pixels, shares)) / sum(pixels) if pixels else ""


def changed() -> list[Path]:
    """The pictures that the pull request adds or changes."""
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text("utf-8"))
    base = event["pull_request"]["base"]["sha"]
    command = ["git", "diff", "-z", "--name-only", "--diff-filter=AMR", f"{base}...HEAD", "--"]
    named = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths = map(Path, filter(None, named.split("\0")))
    return [path for path in paths if path.suffix.lower() in PICTURES and path.is_file()]


def keep(result: Result, path: Path) -> None:
    """Save the enlarged picture with what is not trusted marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result.overlay.save(path.with_suffix(".png"))


def note(path: Path, text: str) -> None:
    """Annotate a file, escaped so that no text can begin another command."""
    escaped = [
        str(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        for value in (path, text)
    ]
    place = escaped[0].replace(":", "%3A").replace(",", "%2C")
    print(f"::error file={place}::{escaped[1]}")  # noqa: T201 - what the runner reads


def append(variable: str, text: str) -> None:
    """Write to one of the runner's files."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
