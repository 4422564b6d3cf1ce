"""Processor time of commands that need next to nothing.

python -m benchmarks.startup
"""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.table import print_table

COMMANDS = (["--version"], ["upscale", "missing.png"], ["calibrations", "list", "--help"])


def seconds(words: list[str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "app", *words], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for words in COMMANDS:
        seconds(words)  # compiles what is not compiled yet
    rows = [[" ".join(words), f"{min(seconds(words) for _ in range(3)):.2f}"] for words in COMMANDS]
    print_table(["trustscale …", "seconds of a core"], rows)


if __name__ == "__main__":
    main()
