"""Scenes, classes of uploads and cut losses on the command line."""

from __future__ import annotations

import pytest

from tests.factories import encoded, photo, truths

MAKE = ("calibrate", "photos", "--samples", 4, "--json")
PLAIN = (*MAKE, "--mixture", "none")


def uploads(place, **files):
    """A folder of low-resolution uploads."""
    folder = place / "uploads"
    folder.mkdir()
    for name, (form, options) in files.items():
        picture = encoded(photo(sum(map(ord, name)), 48, 48), form, **options)
        (folder / f"{name}.{form.lower()}").write_bytes(picture)
    return folder


class TestScenes:
    def test_by_folder(self, run, place):
        """DIR/y/SCENE/NAME: folders are scenes and no groups; n counts them."""
        for k in range(6):
            truths(place / "photos" / "y" / f"s{k // 2}", 1)
            (place / "photos" / "y" / f"s{k // 2}" / f"{k}.png").write_bytes(
                encoded(photo(50 + k, 48, 48))
            )
        for k in range(3):
            (place / "photos" / "y" / f"s{k}" / "000.png").unlink()
        made = run(*PLAIN, "--scene-by", "folder").json
        assert (made["n"], made["pairs"], made["groups"]) == (3, 6, [])
        assert made["min_alpha"] == pytest.approx(0.5 / 4)

    def test_by_a_table(self, run, place):
        """pool_id of manifest.csv is read without being asked for; a missing column is named."""
        truths(place / "photos", 4)
        table = place / "photos" / "manifest.csv"
        table.write_text("file,pool_id\n000.png,a\n001.png,a\n002.png,b\n", "utf-8")
        assert run(*PLAIN).json["n"] == 3
        run(*PLAIN, "--scene-by", "day").check_error(1, "no column 'day'")
        outcome = run(*PLAIN, "--scene-by", "folder", "--group-by", "folder")
        outcome.check_error(1, "not both")

    def test_pictures_that_look_alike(self, run, place):
        """A slightly other copy is named before anything is generated, and is no mistake."""
        truths(place / "photos", 3)
        lighter = photo(1, 48, 48) // 2 + 100
        (place / "photos" / "copy.png").write_bytes(encoded(lighter))
        outcome = run(*PLAIN)
        assert outcome.code == 0
        assert "001, copy look alike" in " ".join(outcome.err.split())


class TestLike:
    def test_inputs_like_the_uploads(self, run, place):
        """Classes that occur are made at the qualities that occur; the others are named."""
        truths(place / "photos", 3)
        uploads(
            place,
            a=("JPEG", {"quality": 82}),
            b=("JPEG", {"quality": 88}),
            c=("PNG", {}),
            d=("AVIF", {}),
        )
        (place / "uploads" / "broken.png").write_bytes(b"text")
        outcome = run(*MAKE, "--like", "uploads")
        parts = outcome.json["degradation"]["mixture"]
        assert {tuple(part["jpeg"]) for part in parts if part["jpeg"]} == {(82, 88)}
        assert (outcome.json["n"], outcome.json["pairs"]) == (3, 6)
        words = " ".join(outcome.err.split())
        for said in (
            "50% jpeg-80",
            "other: compressed in an unknown way; not covered",
            "broken.png",
        ):
            assert said in words
        assert "no upload is so: jpeg-90, jpeg-68, jpeg-50, webp-80, webp-50" in words

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--like", "missing"), "missing is not a folder"),
            (("--like", "photos", "--jpeg", 80), "name no degradation with it"),
            (("--mixture", "missing.json"), "missing.json is not a JSON file"),
            (("--mixture", "usual", "--noise", 2), "either a mixture or the steps"),
            (("--input-rule", "mood"), "input_rule must be"),
        ],
    )
    def test_mistakes(self, run, place, options, words):
        """One line, before anything is generated."""
        truths(place / "photos", 1)
        outcome = run(*MAKE, *options)
        assert outcome.code in {1, 2}
        assert words in " ".join(outcome.err.replace("│", "").split())


def test_a_smaller_bound_without_generating(run, place, upscaler):
    """`derive --bound` counts stored errors up to c, and keeps the guarantee."""
    truths(place / "photos", 3)
    made = run(*PLAIN).json
    calls = len(upscaler.calls)
    derived = run("calibrations", "derive", made["id"], "--bound", 0.2, "--json").json
    assert derived["pipeline"]["fidelity"]["bound"] == 0.2
    assert derived["min_alpha"] == pytest.approx(0.05)
    assert derived["guarantee"] == made["guarantee"]
    assert len(upscaler.calls) == calls
    run("calibrations", "derive", derived["id"], "--bound", 0.4).check_error(1, "were cut")


def test_an_upload_of_a_missing_class(run, place):
    """A JPEG under a calibration of clean inputs is answered with the warning first."""
    truths(place / "photos", 6)
    run(*PLAIN, "--activate")
    (place / "a.jpg").write_bytes(encoded(photo(9, 24, 24), "JPEG", quality=80))
    answer = run("upscale", "a.jpg", "--alpha", 0.4, "--json").json
    answer = answer[0] if isinstance(answer, list) else answer
    assert answer["guarantee"]["applicability"] == "unknown"
    assert answer["input_class"]["name"] == "jpeg-80"
    assert answer["input_class"]["n"] == 0
    assert "promises nothing" in answer["warnings"][0]
