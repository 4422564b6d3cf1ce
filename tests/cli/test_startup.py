"""What a command does not need is not imported: its first word comes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"docket", "fastapi", "httpx", "numpy", "onnxruntime", "pydantic", "scipy"}
PROGRAM = f"""
import sys
from app.cli.main import main
try:
    main()
finally:
    print("imported:", *sorted({HEAVY!r} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--version"], "trustscale 0."),
        (["upscale", "missing.png"], "missing.png: No such file"),
        (["upscal"], "No such command"),
    ],
)
def test_nothing_heavy(tmp_path, words, told):
    """The version, a file that is not there, and a command that does not exist."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert told in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split() == ["imported:"]
