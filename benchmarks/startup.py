"""Processor time of commands that need next to nothing, and of the first answer.

`python -m benchmarks.startup`. The answer is that to a picture of 128×128, in a fresh data folder.
The process that reads its file has its own row. Byte code is compiled before, as an installer does.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.table import print_table
from trustscale_server.images.sandbox import server

COMMANDS = (
    ["--version"],
    ["upscale", "missing.png"],
    ["calibrations", "list", "--help"],
    ["upscale", "small.png"],
)


def seconds(words: list[str], cache: str) -> float:
    """Of one run whose byte code is in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Image.open("examples/bridge.png").convert("RGB").crop((0, 0, 128, 128))
        photo.save(Path(folder) / "small.png")
        environment = {
            **compiled(cache),
            "PYTHONPATH": str(Path.cwd()),
            "TRUSTSCALE_DATA_DIR": str(Path(folder) / "data"),
        }
        command = [sys.executable, "-m", "trustscale_server", *words]
        return used(command, cwd=folder, env=environment)


def compiled(cache: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": cache}


def decoder(cache: str) -> float:
    """Of a process that reads files, until it is ready."""
    ours, theirs = socket.socketpair()
    ours.shutdown(socket.SHUT_WR)  # it is to end when it is ready
    command = [sys.executable, "-m", server.__name__, str(theirs.fileno())]
    with ours, theirs:
        return used(command, pass_fds=[theirs.fileno()], env=compiled(cache))


def used(command: list[str], **how: Any) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False, **how)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        rows = [
            [" ".join(words), f"{min(seconds(words, cache) for _ in range(4)):.2f}"]
            for words in COMMANDS
        ]
        rows.append(["… its decoder", f"{min(decoder(cache) for _ in range(4)):.2f}"])
    print_table(["trustscale …", "seconds of a core"], rows)


if __name__ == "__main__":
    main()
