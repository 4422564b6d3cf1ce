"""`trustscale upscale`: files in, files out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from app.serving.answer import Result
from tests.cli.conftest import FORCED
from tests.factories import encoded, pictures

NAMES = ["image.png", "mask.png", "overlay.png", "result.json", "trust.png"]


@pytest.fixture
def picture(place):
    """A file to upscale."""
    return pictures(place, "bird.png", side=24, first=50) / "bird.png"


class TestFiles:
    def test_five_files(self, run, place, calibrated, picture):
        """Image, mask, trust level, overlay and document lie side by side in --out."""
        outcome = run("upscale", picture, "--out", "answers/today", "--alpha", 0.12)
        assert outcome.code == 0, outcome.err
        assert "bird.png: In 9 of 10 such pictures nothing" in outcome.out
        folder = place / "answers" / "today"
        assert sorted(p.name for p in folder.iterdir()) == [f"bird.{name}" for name in NAMES]
        document = json.loads((folder / "bird.result.json").read_text("utf-8"))
        assert set(document) == {*Result.model_fields, "request", "source"} - {"links"}
        assert document["calibration"] == calibrated
        with Image.open(folder / "bird.mask.png") as mask:
            assert np.asarray(mask).mean() == document["trusted_fraction"]
        for name in ("image", "mask", "trust", "overlay"):
            with Image.open(folder / f"bird.{name}.png") as image:
                image.load()
                assert image.size == (48, 48)
                assert image.text["trustscale:calibration"] == calibrated
                assert image.text["trustscale:alpha"] == "0.12"
                assert image.text["Software"].startswith("trustscale ")

    def test_why_this_upscaler(self, run, monkeypatch, calibrated, picture):
        """Where the class of the file decides, the summary says which upscaler and why."""
        names = ("fake", "sharp")
        upscalers = [{"name": name, "kind": "embedded"} for name in names]
        monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps(upscalers))
        monkeypatch.setenv("TRUSTSCALE_AUTO", json.dumps({"other": "sharp", "*": "fake"}))
        outcome = run("upscale", picture)
        assert outcome.code == 0, outcome.err
        assert "fake was chosen, as for every upload of this class" in outcome.out

    def test_nothing_is_left_in_the_store(self, run, place, calibrated, picture):
        """The files are the result; the data folder keeps none."""
        assert run("upscale", picture).code == 0
        assert list((place / "data" / "blobs").glob("result-*")) == []

    def test_the_same_seed(self, run, place, calibrated, picture):
        """Same seed, same bytes."""
        for out in ("one", "other"):
            assert run("upscale", picture, "--seed", 5, "--out", out).code == 0
        for name in NAMES:
            if name.endswith(".png"):
                one, other = (place / out / f"bird.{name}" for out in ("one", "other"))
                assert one.read_bytes() == other.read_bytes()

    def test_json(self, run, place, calibrated, picture):
        """--json prints one document per line, the one that is written."""
        pictures(place, "cat.png", side=24, first=51)
        outcome = run("upscale", picture, place / "cat.png", "--json")
        documents = {d["source"]["name"]: d for d in map(json.loads, outcome.out.splitlines())}
        assert documents == {
            f"{name}.png": json.loads((place / f"{name}.result.json").read_text())
            for name in ("bird", "cat")
        }

    def test_warnings_are_shown(self, run, calibrated, picture):
        """What a careful reader must know is printed below the line."""
        assert "warning: alpha=0.005 is below" in run("upscale", picture, "--alpha", 0.005).out

    def test_a_background(self, run, place, calibrated):
        """Of transparent images nothing is trusted, unless they are flattened."""
        (place / "clear.png").write_bytes(encoded(np.zeros((24, 24, 4), np.uint8)))
        assert "0.0% of the opaque part of 48×48 trusted" in run("upscale", "clear.png").out
        white = ("--background", "white", "--out", "white")
        assert run("upscale", "clear.png", *white).code == 0


def test_of_a_group(run, place, picture):
    """--group names the curve; another name is an error that lists the groups."""
    pictures(place / "photos", "day/0.png", "day/1.png", "night/2.png")
    grouped = ("--group-by", "folder", "--mixture", "none", "--samples", 2)
    assert run("calibrate", "photos", *grouped, *FORCED).code == 0
    answer = run("upscale", picture, "--alpha", 0.6, "--group", "day", "--json").json
    assert (answer["group"], answer["guarantee"]["n"]) == ("day", 2)
    run("upscale", picture, "--group", "dusk", "--out", "other").check_error(1, "day, night")


class TestFailures:
    def test_files_that_cannot_be_read(self, run, place, calibrated):
        """One line names the file and the reason."""
        (place / "a.png").write_bytes(b"text")
        run("upscale", "a.png").check_error(1, "a.png", "not a PNG")
        run("upscale", "missing.png").check_error(1, "missing.png", "No such file")

    def test_an_unknown_upscaler(self, run, calibrated, picture):
        """The known ones are listed."""
        run("upscale", picture, "--upscaler", "other").check_error(1, "'other'", "fake")

    def test_no_calibration(self, run, place, picture):
        """Without a calibration the ways out are told, and the picture alone can be had."""
        run("upscale", picture).check_error(1, "trustscale calibrate", "--mask none")
        alone = ("upscale", picture, "--mask", "none", "--out", "alone")
        assert "without a mask" in run(*alone).out
        files = {path.name for path in (place / "alone").iterdir()}
        assert files == {"bird.image.png", "bird.result.json"}
        assert "(kept)" in run(*alone).out

    def test_what_cannot_be_asked_for(self, run, picture):
        """A value that no option has is one line that names it."""
        run("upscale", picture, "--format", "bmp").check_error(1, "format", "'webp'")
        run("upscale", picture, "--mask", "none", "--alpha", 0.1).check_error(1, "mask=none")

    def test_a_folder_that_cannot_be_written(self, run, calibrated, picture):
        """--out inside a file is an error of one line."""
        run("upscale", picture, "--out", picture / "x").check_error(1, "bird.png")
