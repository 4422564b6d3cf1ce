"""Enlarges the pictures of a pull request: how much of each is trusted?

Run by action.yml. Writes a table to the summary, annotations, the outputs `checked` and `smallest`,
and each picture with what is not trusted marked; exits with 1 where too little is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from trustscale import Problem, Result, Trustscale

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"}


def main() -> int:
    """Check them, report, and return the exit code."""
    least, out = float(os.environ["LEAST"]), Path(os.environ["OUT"])
    alpha = float(os.environ["ALPHA"]) if os.environ["ALPHA"] else None
    rows, shares, sentence, is_bad = [], [], "", False
    url, key = os.environ["TRUSTSCALE_URL"], os.environ["TRUSTSCALE_KEY"] or None
    with Trustscale(url, key) as service:
        for path in changed():
            try:
                result = service.upscale(path, alpha=alpha)
            except (Problem, httpx.TransportError) as problem:
                rows.append(f"| `{path}` | not checked: {problem} |")
                note(path, f"Not checked: {problem}")
                is_bad = True
                continue
            keep(result, out / path)
            share, sentence = result.trusted_fraction, result.guarantee["plain"]
            shares.append(share)
            rows.append(f"| `{path}` | {share:.1%} {'✓' if share >= least else '✗'} |")
            if share < least:
                note(path, f"Once enlarged, {share:.1%} is trusted; {least:.1%} is asked.")
                is_bad = True
    table = ["| picture | trusted once enlarged |", "|---|---|", *rows, "", sentence]
    append("GITHUB_STEP_SUMMARY", "\n".join(table) if rows else "No picture was changed.")
    append("GITHUB_OUTPUT", f"checked={len(shares)}\nsmallest={min(shares, default='')}")
    return int(is_bad)


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
        str(part).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        for part in (path, text)
    ]
    place = escaped[0].replace(":", "%3A").replace(",", "%2C")
    print(f"::error file={place}::{escaped[1]}")  # noqa: T201 - what the runner reads


def append(variable: str, text: str) -> None:
    """Write to one of the runner's files."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
