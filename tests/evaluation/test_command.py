"""`trustscale evaluate`."""

from __future__ import annotations

import sys

import pytest

from app.calibration import file
from app.upscalers.base import Capabilities
from tests.evaluation.conftest import photographs


@pytest.fixture
def photos(place):
    """Six photographs, two images of each."""
    return photographs(place / "photos", 6, side=32)


class TestEvaluate:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("scenes", "options"),
        [
            pytest.param(6, [], id="classes"),
            pytest.param(42, ["--noise", 1], id="fitted"),  # enough to fit σ by itself
        ],
    )
    def test_what_is_judged_is_what_is_served(self, run, place, upscaler, scenes, options):
        """By default: the calibration of `calibrate`, to the last digit, and its answers."""
        photographs(place / "photos" / "calibration", scenes, side=32, crops=1)
        test = photographs(place / "photos" / "test", 3, side=40, crops=1)
        made = place / "made.calibration"
        asked = ("photos/calibration", "--scene-by", "scene", *options, "--export", made)
        assert run("calibrate", *asked, "--skip-bad-pairs").code == 0
        levels = ("--alpha", 0.2, "--alpha", 0.4, "--json")
        outcome = run("evaluate", "photos", *options, *levels, "--skip-bad-pairs")
        assert outcome.code == 0, outcome.err
        shown = outcome.json
        settings = shown["upscalers"][0]["variants"][0]
        calibration = file.load(made.read_bytes())
        assert settings["scenes"] == calibration.n == (6 if scenes == 6 else 22)
        assert (calibration.pipeline.indecision.fit is None) == (scenes == 6)
        own = run("evaluate", test, "--calibration", made, "--out", "own", *levels)
        assert own.code == 0, own.err
        made_name = own.json["upscalers"][0]["variants"][0]["name"]
        judged, again = (
            [{**row, "variant": None} for row in rows if row["variant"] in {"served", made_name}]
            for rows in (shown["table"], own.json["table"])
        )
        assert judged == again
        assert "as the calibration" in own.json["findings"][0]
        assert "0.2 was promised" in shown["findings"][0]

    @pytest.mark.slow
    def test_json(self, run, place, upscaler):
        """The report in the paper's setting is written, and described as JSON.

        It draws what the upscaler can give.
        """
        upscaler.capabilities = Capabilities(max_samples=3)
        photographs(place / "photos", 6, side=64)
        options = ["--settings", "paper", "--alpha", 0.5, "--split", 0.5, "--out", "first"]
        outcome = run("evaluate", "photos", *options, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        shown = outcome.json
        assert shown["report"] == "first/report.html"
        assert (place / "first" / "report.html").stat().st_size > 10_000
        sides = [shown[name] for name in ("calibration_images", "test_images", "split")]
        assert sides == [6, 6, "scene"]
        assert {row["alpha"] for row in shown["table"]} == {0.5, None}
        (found,) = shown["upscalers"]
        assert (found["images_generated"], len(upscaler.calls)) == (12, 12 * 3)
        drawn = {one["name"]: one["samples"] for one in found["variants"]}
        assert (drawn["paper"], drawn["recipe"], drawn["one call"]) == (3, 3, 1)

    @pytest.mark.slow
    def test_text(self, run, place, photos):
        """Without --json a person reads the verdict, the price, and where the report is."""
        (place / "settings.toml").write_text('[small]\nsamples = 2\ninput_rule = "none"\n')
        outcome = run("evaluate", "photos", "--settings", "settings.toml", "--samples", "2,3")
        assert outcome.code == 0
        assert "The promise was" in outcome.out or "too few" in outcome.out
        assert "fake, with the settings “small”" in outcome.out
        assert "is enough." in outcome.out
        assert "12 uploads were generated for; the report is evaluation/report.html." in outcome.out
        assert "Earlier methods" not in (place / "evaluation" / "report.html").read_text("utf-8")

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["empty"], 1, "no images"),
            (["photos", "--upscaler", "other"], 1, "'other'"),
            (["photos", "--settings", "missing.toml"], 1, "missing.toml"),
            (["photos", "--calibration", "active"], 1, "no active calibration"),
            (["photos", "--group-column", "camera"], 1, "no column 'camera'"),
            (["photos", "--jpeg", 101], 1, "jpeg"),
            (["photos", "--cache", "file"], 2, "file cannot be written"),
            (["photos", "--settings", "paper"], 1, "smaller than the window of 31 pixels"),
        ],
    )
    def test_mistakes(self, run, place, upscaler, arguments, code, words):
        """One line, and nothing generated."""
        photographs(place / "photos", 3, side=16)
        (place / "empty").mkdir()
        (place / "file").write_bytes(b"")
        run("evaluate", *arguments).check_error(code, words)
        assert upscaler.calls == []

    @pytest.mark.parametrize("option", ["--split", "--delta", "--alpha", "--samples"])
    def test_wrong_usage(self, run, place, photos, option):
        """Numbers out of range are wrong usage."""
        assert run("evaluate", "photos", option, -1).code == 2

    @pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
    def test_without_the_extra(self, run, place, photos, monkeypatch, package, upscaler):
        """What is missing is named before any work is done."""
        monkeypatch.setitem(sys.modules, package, None)
        run("evaluate", "photos").check_error(2, package, "extra “evaluate”")
        assert upscaler.calls == []

    def test_bad_images_are_named(self, run, place, photos, upscaler):
        """As in a calibration."""
        (photos / "bad.png").write_bytes(b"text")
        (photos / "twice.png").write_bytes((photos / "000-0.png").read_bytes())
        run("evaluate", "photos").check_error(1, "2 of 14", "bad: y: The file is not a PNG")
        assert upscaler.calls == []
