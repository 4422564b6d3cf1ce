"""What a stranger runs first: `make demo`, and the commands of README."""

import re
import subprocess

import pytest
from PIL import Image

from examples import demo
from harness.blocks import ROOT


@pytest.mark.slow
def test_it_ends_on_one_picture(tmp_path, monkeypatch, capfd):
    """The last line names it; it fits a screen; the rest are files that the output names."""
    monkeypatch.setattr(demo, "OUT", tmp_path / "demo-output")
    assert demo.main() == 0
    lines = capfd.readouterr().out.strip().splitlines()
    with Image.open(tmp_path / lines[-1].removeprefix("Open ")) as crop:
        assert 1000 < crop.width <= 1280
        assert 300 < crop.height <= 720
        assert len(crop.convert("RGB").getcolors(crop.width * crop.height)) > 1000
    for model in demo.MODELS:
        assert any(line.lstrip().startswith(f"{model} (") for line in lines)
        files = {path.name for path in (tmp_path / "demo-output" / model).iterdir()}
        named = re.findall(r"^  (\w+\.\w+) ", "\n".join(lines), re.MULTILINE)
        assert len(named) == 5
        assert {f"astronaut.{name}" for name in named} <= files


def test_git_ignores_what_commands_write():
    """A stranger who follows README keeps a clean clone."""
    readme = (ROOT / "README.md").read_text("utf-8")
    folders = {"demo-output", "evaluation-report", *re.findall(r"--out (\S+)", readme)}
    assert len(folders) > 3
    command = ["git", "check-ignore", *(f"{folder}/file.png" for folder in sorted(folders))]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert len(ignored.splitlines()) == len(folders)
