"""The guarantee and the groups on the command line."""

from __future__ import annotations

import json

import pytest

from tests.factories import encoded, photo


@pytest.fixture
def photos(place):
    """Six truths beside a table that groups them; `folders` groups the same otherwise."""
    folder = place / "photos"
    rows = ["file,camera"]
    for k in range(6):
        path = place / "folders" / ("day" if k < 4 else "night") / f"{k}.png"
        for each in (path, folder / path.name):
            each.parent.mkdir(parents=True, exist_ok=True)
            each.write_bytes(encoded(photo(k, 48, 48)))
        rows.append(f"{path.name},{'old' if k % 2 else 'new'}")
    (folder / "manifest.csv").write_text("\n".join(rows), "utf-8")
    return folder


MAKE = ("calibrate", "photos", "--samples", 4)
BY_FOLDER = ("calibrate", "folders", "--group-by", "folder", "--samples", 4)
LIKELY = ("--guarantee", "high_probability", "--delta", 0.3, "--method", "wsr")


class TestCalibrate:
    def test_by_folder(self, run, photos):
        """Folders are groups with curves of their own, under the guarantee that was chosen."""
        made = run(*BY_FOLDER, *LIKELY, "--json").json
        assert made["guarantee"] == {"kind": "high_probability", "delta": 0.3, "method": "wsr"}
        assert [(row["group"], row["n"]) for row in made["groups"]] == [("day", 4), ("night", 2)]
        night = run("calibrations", "show", made["id"], "--group", "night", "--json").json
        assert (night["n"], night["id"]) == (2, made["id"])
        assert night["min_alpha"] == made["groups"][1]["min_alpha"]
        text = run("calibrations", "show", made["id"]).out
        assert "with probability 0.7 (wsr)" in text
        assert "night: 2 scenes" in text
        assert "with probability 0.7" in run("calibrations", "list").out

    def test_by_column(self, run, photos, upscaler):
        """A column of manifest.csv does it too; groups change nothing that is measured."""
        plain = run(*MAKE, "--json").json
        assert plain["guarantee"] == {"kind": "expectation", "delta": None, "method": None}
        calls = len(upscaler.calls)
        made = run(*MAKE, "--group-by", "camera", "--json").json
        assert len(upscaler.calls) == 2 * calls
        assert [(row["group"], row["n"]) for row in made["groups"]] == [("new", 3), ("old", 3)]
        assert made["thresholds"] == plain["thresholds"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--group-by", "subject"), "column 'subject'"),
            (("--delta", 1.5), "less than 1"),
            (("--guarantee", "luck"), "expectation"),
            (("--method", "hope"), "wsr"),
        ],
    )
    def test_mistakes(self, run, photos, options, words):
        """One line and a code, before anything is generated."""
        outcome = run(*MAKE, *options)
        assert outcome.code in {1, 2}
        assert words in " ".join(outcome.err.split())
        assert "Traceback" not in outcome.err


class TestDerive:
    def test_another_guarantee(self, run, place, calibrated, upscaler):
        """The same pairs, nothing generated, stored beside the old one and active if asked."""
        calls = len(upscaler.calls)
        made = run("calibrations", "derive", calibrated, "--delta", 0.2, "--json").json
        assert made["guarantee"]["delta"] == 0.2
        assert (made["n"], made["active"]) == (20, False)
        assert made["provenance"]["parent"] == calibrated
        back = run(
            *("calibrations", "derive", made["id"], "--guarantee", "expectation"),
            *("--activate", "--name", "back", "--json"),
        ).json
        assert (back["name"], back["active"]) == ("back", True)
        assert len(upscaler.calls) == calls

    def test_mistakes(self, run, calibrated):
        """The same guarantee again, a δ that is none, and an unknown calibration."""
        same = run("calibrations", "derive", calibrated, "--guarantee", "expectation")
        same.check_error(1, "already")
        assert run("calibrations", "derive", calibrated, "--delta", 0).code == 2
        run("calibrations", "derive", "cal-0").check_error(1)


class TestUpscale:
    def test_of_a_group(self, run, place, photos):
        """--group names the curve; another name is an error that lists the groups."""
        run(*BY_FOLDER, "--activate", "--force")
        (place / "bird.png").write_bytes(encoded(photo(50, 24, 24)))
        outcome = run("upscale", "bird.png", "--alpha", 0.6, "--group", "day", "--json")
        assert outcome.code == 0, outcome.err
        answer = json.loads(outcome.out)
        assert (answer["group"], answer["guarantee"]["n"]) == ("day", 4)
        wrong = run("upscale", "bird.png", "--group", "dusk", "--out", "other")
        wrong.check_error(1, "day, night")
