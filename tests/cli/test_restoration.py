"""`trustscale calibrate` and `upscale` at scale 1, and with synthetic labels."""

from __future__ import annotations

import json

import pytest

from tests.factories import encoded, photo, truths
from tests.fakes import FakeUpscaler


@pytest.fixture
def upscaler():
    """An upscaler that restores."""
    return FakeUpscaler(scale=1)


class TestTasks:
    @pytest.mark.parametrize(
        ("arguments", "recorded"),
        [
            (("--grey", "--jpeg", 30), ("jpeg", 30)),
            (
                ("--inpaint", 0.25, "--inpaint-shape", "strokes", "--inpaint-color", "#00FF00"),
                ("inpaint", {"share": 0.25, "shape": "strokes", "color": "#00ff00"}),
            ),
        ],
    )
    def test_from_photographs_to_a_mask(self, run, place, arguments, recorded):
        """The damage is recorded, and an image of the size of the input comes out."""
        truths(place / "photos", 20)
        made = run("calibrate", "photos", "--samples", 4, *arguments, "--activate", "--json")
        assert made.code == 0, made.err
        assert made.json["pipeline"]["scale"] == 1
        assert made.json["degradation"][recorded[0]] == recorded[1]
        (place / "old.png").write_bytes(encoded(photo(50, 48, 48)))
        outcome = run("upscale", "old.png", "--alpha", 0.4)
        assert outcome.code == 0, outcome.err
        assert "old.png: 48×48" in outcome.out

    @pytest.mark.parametrize(
        "arguments",
        [("--inpaint", 0.95), ("--inpaint", 0.2, "--inpaint-color", "pink"),
         ("--inpaint", 0.2, "--inpaint-shape", "dots")],
    )  # fmt: skip
    def test_wrong_holes(self, run, place, arguments):
        """A wrong setting is wrong usage."""
        truths(place / "photos", 2)
        outcome = run("calibrate", "photos", *arguments)
        assert outcome.code == 2
        assert "inpaint" in outcome.err


class TestSyntheticLabels:
    def test_without_people(self, run, place):
        """A semantic calibration is made, and every answer names the synthetic annotator."""
        truths(place / "photos", 20)
        arguments = ("--samples", 4, "--metric", "semantic", "--labels", "synthetic", "--activate")
        made = run("calibrate", "photos", *arguments, "--json")
        assert made.code == 0, made.err
        assert made.json["pipeline"]["fidelity"]["annotator"]["synthetic"] is True
        (place / "a.png").write_bytes(encoded(photo(50, 48, 48)))
        assert run("upscale", "a.png", "--out", "out").code == 0
        document = json.loads((place / "out" / "a.result.json").read_text("utf-8"))
        assert "synthetic annotator" in document["guarantee"]["statement"]
