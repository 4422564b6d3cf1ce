"""`trustscale check`: a picture against its enlargement, and exit codes for scripts."""

import numpy as np
import pytest
from PIL import Image

from tests.proof.test_check import SMALL, TRUTH, scene
from trustscale_server.serving.finders import FaceFinder
from trustscale_server.things.faces import Face


@pytest.fixture
def files(tmp_path):
    patched = TRUTH.copy()
    patched[100:164, 60:124] = 255 - patched[100:164, 60:124]
    for name, pixels in {
        "small": SMALL,
        "large": TRUTH,
        "patched": patched,
        "other": scene(2),
    }.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_exit_codes(files, run):
    """0 nothing was found, 3 it contradicts, 4 they do not belong together."""
    small = files / "small.png"
    good = run("check", small, files / "large.png")
    assert (good.code, good.err) == (0, "")
    assert good.out.startswith("No contradiction was found.\n")
    found = run("check", small, files / "patched.png")
    assert found.code == 3
    assert "contradicts the small one at" in found.out
    other = run("check", small, files / "other.png")
    assert other.code == 4
    assert other.out.startswith("They do not belong together")


def test_outputs(files, run):
    """JSON on request, and a report as one file."""
    page = files / "report.html"
    done = run("check", files / "small.png", files / "patched.png", "--json", "--report", page)
    (one, *_) = done.json["contradictions"]
    assert one["box"][0] < 92 < one["box"][2]
    assert one["why"] in page.read_text("utf-8")


def test_cards_and_things(files, run, monkeypatch):
    """A card by the name of its file; faces are told after the contradictions."""
    found = iter([[], [Face(20, 30, 60, 70, 0.9)]])
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: next(found))
    card = files / "card.jpg"
    done = run("check", files / "small.png", files / "patched.png", "--card", card)
    assert done.code == 3
    assert "A face is found in the large picture only" in done.out
    with Image.open(card) as picture:
        assert (picture.format, picture.width) == ("JPEG", 384)
    wrong = run("check", files / "small.png", files / "large.png", "--card", files / "card.gif")
    wrong.check_error(2)
    assert not (files / "card.gif").exists()


def test_bad_files(files, run):
    """One line and exit code 1; a name that does not exist is wrong usage."""
    (files / "text.png").write_text("no picture")
    found = run("check", files / "small.png", files / "text.png")
    found.check_error(1)
    assert run("check", files / "small.png", files / "none.png").code == 2


def test_large_files_are_told_before(files, run):
    """What a check takes is told before it begins."""
    Image.fromarray(np.zeros((4100, 4100, 3), np.uint8)).save(files / "huge.png")
    told = run("check", files / "small.png", files / "huge.png")
    assert told.err == "Comparing 0 and 17 megapixels, in up to 0.3 GB of memory.\n"
    assert told.code == 4
