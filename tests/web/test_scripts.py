"""Modules of the pages in Node: words, figures, drawing; no browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.missing import not_here

UNIT = Path(__file__).parent / "unit"


def test_modules() -> None:
    """All of `tests/web/unit`, which `node --test tests/web/unit` runs by itself."""
    node = shutil.which("node")
    if node is None:
        not_here("no node in PATH")
    command = [node, "--test", *map(str, sorted(UNIT.glob("*.test.js")))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
