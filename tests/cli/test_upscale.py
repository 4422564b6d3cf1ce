"""`trustscale upscale`: files in, files out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from app.serving.answer import Result
from tests.factories import pictures

NAMES = ["image.png", "mask.png", "overlay.png", "result.json", "trust.png"]


@pytest.fixture
def picture(place):
    """A file to upscale."""
    return pictures(place, "bird.png", side=24, first=50) / "bird.png"


def test_five_files(run, place, calibrated, picture):
    """Image, mask, trust level, overlay and document lie side by side in --out.

    They are the result: the data folder keeps none.
    """
    asked = ("upscale", picture, "--alpha", 0.12, "--seed", 5)
    outcome = run(*asked, "--out", "answers/today")
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
    assert list((place / "data" / "blobs").glob("result-*")) == []
    assert run(*asked, "--out", "other").code == 0  # same seed, same bytes
    for name in ("bird.image.png", "bird.mask.png"):
        assert (place / "other" / name).read_bytes() == (folder / name).read_bytes()


def test_only_what_can_be_believed(run, place, calibrated, picture):
    """--believed writes a sixth file; without it the answer would be another."""
    command = ("upscale", picture, "--alpha", 0.12, "--believed")
    assert run(*command).code == 0
    mask, image, believed = (
        np.asarray(Image.open(place / f"bird.{name}.png")) for name in ("mask", "image", "believed")
    )
    np.testing.assert_array_equal(believed[mask], image[mask])
    assert "(kept)" in run(*command).out
    (place / "bird.believed.png").unlink()
    assert "(kept)" not in run(*command).out
    run("upscale", picture, "--alpha", 0.12).check_error(2, "believed")


def test_why_this_upscaler(run, monkeypatch, calibrated, picture):
    """Where the class of the file decides, the summary says which upscaler and why."""
    upscalers = [{"name": name, "kind": "embedded"} for name in ("fake", "sharp")]
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps(upscalers))
    monkeypatch.setenv("TRUSTSCALE_AUTO", json.dumps({"other": "sharp", "*": "fake"}))
    outcome = run("upscale", picture)
    assert outcome.code == 0, outcome.err
    assert "fake was chosen, as for every upload of this class" in outcome.out


def test_json(run, place, calibrated, picture):
    """--json prints one document per line, the one that is written."""
    pictures(place, "cat.png", side=24, first=51)
    outcome = run("upscale", picture, place / "cat.png", "--json")
    documents = {d["source"]["name"]: d for d in map(json.loads, outcome.out.splitlines())}
    assert documents == {
        f"{name}.png": json.loads((place / f"{name}.result.json").read_text())
        for name in ("bird", "cat")
    }


def test_warnings_are_shown(run, calibrated, picture):
    """What a careful reader must know is printed below the line."""
    assert "warning: alpha=0.005 is below" in run("upscale", picture, "--alpha", 0.005).out


def test_no_calibration(run, place, picture):
    """Without a calibration the ways out are told, and the picture alone can be had."""
    run("upscale", picture).check_error(1, "trustscale calibrate", "--mask none")
    alone = ("upscale", picture, "--mask", "none", "--out", "alone")
    assert "without a mask" in run(*alone).out
    files = {path.name for path in (place / "alone").iterdir()}
    assert files == {"bird.image.png", "bird.result.json"}
    assert "(kept)" in run(*alone).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.txt"], ["a.txt", "not a PNG"]),
        (["missing.png"], ["missing.png", "No such file"]),
        (["bird.png", "--upscaler", "other"], ["'other'", "fake"]),
        (["bird.png", "--group", "dusk"], ["dusk"]),
        (["bird.png", "--format", "bmp"], ["format", "'webp'"]),
        (["bird.png", "--mask", "none", "--alpha", "0.1"], ["mask=none"]),
        (["bird.png", "--out", "bird.png/x"], ["bird.png"]),
    ],
    ids=str,
)
def test_failures(run, place, calibrated, picture, arguments, words):
    """One line says what cannot be read, asked for, or written."""
    (place / "a.txt").write_bytes(b"text")
    run("upscale", *arguments).check_error(1, *words)
