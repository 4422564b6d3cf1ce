"""What a command does not need is not imported: its first word comes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

HEAVY = {"docket", "fastapi", "httpx", "numpy", "onnxruntime", "pydantic", "scipy"}
NEEDLESS = {"docket", "onnxruntime", "redis", "scipy.ndimage", "scipy.optimize", "tifffile"}
"""Of one picture that SPAN upscales under OpenVINO."""
PROGRAM = """
import sys
from app.cli.main import main
try:
    main()
finally:
    print("imported:", *sorted({heavy!r} & set(sys.modules)))
"""


def imported(heavy, words, folder):
    """What a command says, and which of some modules it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=heavy), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.stdout + done.stderr, done.stdout.splitlines()[-1].split()[1:]


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
    said, found = imported(HEAVY, words, tmp_path)
    assert told in said
    assert not found


def test_one_picture(tmp_path, monkeypatch):
    """An answer waits for what it is made by, not for queues, fits and other formats."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(tmp_path / "data"))
    Image.new("RGB", (16, 16), (90, 120, 60)).save(tmp_path / "small.png")
    said, found = imported(NEEDLESS, ["upscale", "small.png"], tmp_path)
    assert (tmp_path / "small.result.json").exists(), said
    assert not found
