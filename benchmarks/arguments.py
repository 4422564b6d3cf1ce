"""The command line of a benchmark on photographs."""

from __future__ import annotations

import argparse
from pathlib import Path


def folder_and_count(description: str | None, count: int) -> tuple[Path, int]:
    """DIR and [COUNT], the latter `count` if it is not given; a mistake ends the program."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=Path, metavar="DIR")
    parser.add_argument("count", type=int, nargs="?", default=count, metavar="COUNT")
    given = parser.parse_args()
    if not given.photographs.is_dir():
        parser.error(f"{given.photographs} is no folder")
    return given.photographs, given.count
