"""Processor time of commands that need next to nothing, and of the first answer.

`python -m benchmarks.startup`. The answer is that to a picture of 128×128, in a fresh data folder;
the process that reads the file counts, too.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.table import print_table

COMMANDS = (
    ["--version"],
    ["upscale", "missing.png"],
    ["calibrations", "list", "--help"],
    ["upscale", "small.png"],
)


def seconds(words: list[str]) -> float:
    """User and system time of one run, of it and all processes that it begins."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        photo = Image.open("examples/bridge.png").convert("RGB").crop((0, 0, 128, 128))
        photo.save(Path(folder) / "small.png")
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "TRUSTSCALE_DATA_DIR": str(Path(folder) / "data"),
        }
        command = [sys.executable, "-m", "app", *words]
        subprocess.run(command, capture_output=True, check=False, cwd=folder, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for words in COMMANDS:
        seconds(words)  # compiles what is not compiled yet
    rows = [[" ".join(words), f"{min(seconds(words) for _ in range(3)):.2f}"] for words in COMMANDS]
    print_table(["trustscale …", "seconds of a core"], rows)


if __name__ == "__main__":
    main()
