"""What a stranger runs first: `make demo`, and the commands of README."""

import json
import re
import subprocess

import pytest
from PIL import Image

from examples import demo, repainted
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


@pytest.mark.slow
def test_the_pictures_of_the_pages_stay(tmp_path, monkeypatch, capfd):
    """What repaints them writes elsewhere, and says where, unless it is to replace them."""
    monkeypatch.setattr(repainted, "LIES", repainted.LIES[repainted.FIRST_LIE :][:1])
    monkeypatch.setattr(repainted, "OUT", tmp_path / "out")
    monkeypatch.setattr(repainted, "FIRST_LIE", 0)
    monkeypatch.setattr(repainted, "PROMISES", ())
    pages = tmp_path / "pages"
    for page in {page for page, _, _ in repainted.SAID}:
        (pages / page).parent.mkdir(parents=True, exist_ok=True)
        (pages / page).write_text((ROOT / page).read_text("utf-8"), "utf-8")
    monkeypatch.setattr(repainted, "PAGES", pages)
    for name in ("IMAGES", "FIRST"):
        monkeypatch.setattr(repainted, name, tmp_path / "tracked" / name)
    assert repainted.main([]) == 0
    assert not (tmp_path / "tracked").exists()
    assert str(tmp_path / "out") in capfd.readouterr().out
    made = {path.name for path in (tmp_path / "out").rglob("*.*")}
    assert {"badge.webp", "alpha.webp", "repainted-skyline.webp", "lie.webp"} <= made
    assert repainted.main(["--replace"]) == 0
    replaced = {path.name for path in (tmp_path / "tracked").rglob("*.*")}
    assert replaced == made | {repainted.SHARES}


def test_captions_are_made_from_the_files():
    """Every share beside a picture is that of the run that drew it."""
    shares = json.loads((repainted.IMAGES / repainted.SHARES).read_text("utf-8"))
    assert {whose for _, _, whose in repainted.SAID} <= shares.keys()
    for page in {page for page, _, _ in repainted.SAID}:
        text = (ROOT / page).read_text("utf-8")
        assert repainted.captioned(text, page, shares) == text
    with pytest.raises(ValueError, match="no share"):
        repainted.captioned("", "README.md", shares)


@pytest.mark.parametrize(("index", "count"), [("https://index.example/cpu", 1), ("", 0)])
def test_torch_without_a_gpu(index, count):
    """`make test` takes torch from the index for CPUs, unless there is none to take."""
    command = ["make", "--dry-run", "--always-make", "install", f"TORCH_INDEX={index}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in said.replace("\\\n", "").splitlines() if "torchvision" in line]
    assert line.count(f"--extra-index-url {index or 'h'}") == count
    usual = (ROOT / "Makefile").read_text("utf-8")
    assert "TORCH_INDEX ?= https://download.pytorch.org/whl/cpu" in usual


def test_git_ignores_what_commands_write():
    """A stranger who follows README keeps a clean clone."""
    readme = (ROOT / "README.md").read_text("utf-8")
    folders = {"demo-output", "evaluation-report", *re.findall(r"--out (\S+)", readme)}
    assert len(folders) > 3
    command = ["git", "check-ignore", *(f"{folder}/file.png" for folder in sorted(folders))]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert len(ignored.splitlines()) == len(folders)
