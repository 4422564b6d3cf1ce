"""A program without an address: pictures are reduced, calibrated and answered by commands."""

import json

import numpy as np
import pytest
from PIL import Image

from harness.factories import photo
from trustscale_server.upscalers.supplied import SuppliedConfig, SuppliedUpscaler

ENTRY = {"kind": "supplied", "name": "topaz", "scale": 2, "program": "Topaz Photo", "version": "4"}
ENTRY["align_colours"] = False


@pytest.fixture
def upscaler():
    return SuppliedUpscaler(SuppliedConfig(**ENTRY))


@pytest.fixture
def here(place, monkeypatch):
    """A working folder with the entry, and ten photographs in `photos`."""
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([ENTRY]))
    (place / "photos").mkdir()
    for k in range(10):
        Image.fromarray(photo(k, 97, 96)).save(place / "photos" / f"{k}.png")
    return place


def enlarged(source, target):
    """As a program does, which adds to names."""
    for path in sorted(source.iterdir()):
        with Image.open(path) as picture:
            size = 2 * picture.width, 2 * picture.height
            large = picture.resize(size, Image.Resampling.LANCZOS)
        large.save(target / f"{path.stem}-2x.webp")


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_from_photographs_to_a_mask(run, here):
    """Reduce, enlarge elsewhere, calibrate, upscale a file and a folder, and again for nothing."""
    made = run("reduce", "photos", "--out", "set", "--scale", 2)
    assert made.code == 0, made.err
    assert "Enlarge them ×2" in made.out
    truth, small = (pixels(here / "set" / role / "3.png") for role in ("y", "x"))
    assert (truth.shape, small.shape) == ((96, 96, 3), (48, 48, 3))
    assert np.array_equal(truth, photo(3, 97, 96)[:96])
    enlarged(here / "set/x", here / "set/enlarged")
    options = ("--spot", 48, "--activate", "--force", "--json")
    calibrated = run("calibrate", "set", "--upscaler", "topaz", *options)
    assert calibrated.code == 0, calibrated.err
    assert calibrated.json["pairs"] == 10
    assert "no calls" in calibrated.err

    asked = ("--upscaler", "topaz", "--alpha", 0.2, "--out", "out", "--json")
    one = run("upscale", "set/x/3.png", "--enlarged", "set/enlarged/3-2x.webp", *asked)
    assert one.code == 0, one.err
    assert one.json["guarantee"]["condition"].endswith("enlarged by Topaz Photo 4, ×2.")
    picture = pixels(here / "out/3.image.png")
    assert np.array_equal(picture, pixels(here / "set/enlarged/3-2x.webp"))

    whole = ("upscale", "set/x", "--enlarged", "set/enlarged", *asked)
    first = run(*whole)
    assert (first.code, len(first.out.splitlines())) == (0, 10), first.err
    assert "9 done, 1 kept" in first.err
    assert "10 kept" in run(*whole).err
    Image.fromarray(picture).save(here / "set/enlarged/4-2x.webp", quality=60)
    assert "would be lost" in run(*whole).err  # another picture is another answer


def test_a_picture_without_its_enlargement(run, here):
    """Each is named; the others are made."""
    run("reduce", "photos", "--out", "set", "--scale", 2, "--jpeg", 75)
    assert (here / "set/x/0.jpg").read_bytes().startswith(b"\xff\xd8")
    enlarged(here / "set/x", here / "set/enlarged")
    (here / "set/enlarged/5-2x.webp").unlink()
    Image.new("RGB", (96, 96)).save(here / "set/enlarged/6_again.png")
    refused = run("calibrate", "set", "--upscaler", "topaz", "--spot", 48)
    refused.check_error(1, "5: enlarged/ has no", "6: several files")
    some = ("upscale", "set/x", "--upscaler", "topaz", "--enlarged", "set/enlarged")
    outcome = run(*some, "--mask", "none", "--out", "out")
    assert outcome.code == 1
    assert "5.jpg: no file of set/enlarged has its name" in outcome.err
    assert "6.jpg: 2 files of set/enlarged have its name" in outcome.err
    assert "8 done" in outcome.err


def test_wrong_usage(run, here):
    """A folder needs a folder, a new folder is empty, and no picture is no answer."""
    run("reduce", "photos", "--out", "set", "--scale", 2)
    run("reduce", "photos", "--out", "set").check_error(2, "not empty")
    alone = run("upscale", "set/x", "--enlarged", "set/y/0.png", "--upscaler", "topaz")
    assert alone.code == 2
    missing = run("upscale", "set/x/0.png", "--mask", "none", "--upscaler", "topaz")
    assert missing.code == 1
    assert "--enlarged" in missing.err
    (here / "photos/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (40, 40)).save(here / "photos/tiny.png")
    damaged = run("reduce", "photos", "--out", "other", "--scale", 2)
    assert damaged.code == 1
    assert "10 pictures" in damaged.out
    assert "bad.png" in damaged.err
    assert "smaller than 64 pixels" in damaged.err
