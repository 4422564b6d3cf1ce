"""`trustscale evaluate`."""

from __future__ import annotations

import sys

import pytest

from app.upscalers.base import Capabilities
from tests.evaluation.conftest import photographs


@pytest.fixture
def photos(place):
    """Six photographs, two images of each."""
    return photographs(place / "photos", 6, side=32)


class TestEvaluate:
    @pytest.mark.slow
    def test_json(self, run, place, upscaler):
        """The report is written, and described as JSON.

        The built-in settings draw what the upscaler can give, and the price is told as far as that.
        """
        upscaler.capabilities = Capabilities(max_samples=3)
        photographs(place / "photos", 6, side=64)
        options = ["--alpha", 0.5, "--split", 0.5, "--out", "first", "--json"]
        outcome = run("evaluate", "photos", *options)
        assert (outcome.code, outcome.err) == (0, "")
        shown = outcome.json
        assert shown["report"] == "first/report.html"
        assert (place / "first" / "report.html").stat().st_size > 10_000
        sides = [shown[name] for name in ("calibration_images", "test_images", "split")]
        assert sides == [6, 6, "group"]
        assert {row["alpha"] for row in shown["table"]} == {0.5, None}
        (found,) = shown["upscalers"]
        assert (found["images_generated"], len(upscaler.calls)) == (12, 12 * 3)
        drawn = {one["name"]: one["samples"] for one in found["variants"]}
        assert drawn == dict.fromkeys(drawn, 1) | {"paper": 3, "paper-sigma": 3}
        assert {row["samples"] for row in shown["price"]} == {1, 2}
        table = (place / "first" / "price.csv").read_text("utf-8")
        assert table.startswith("upscaler,samples,alpha,trusted_area,seconds,calls,money")

    @pytest.mark.slow
    def test_text(self, run, place, photos):
        """Without --json a person reads the verdict and where the report is."""
        (place / "settings.toml").write_text(
            "[small]\nsamples = 3\nindecision = {size = 3, blur = 1}\nfidelity = {blur = 1}\n"
        )
        outcome = run("evaluate", "photos", "--settings", "settings.toml", "--no-baselines")
        assert outcome.code == 0
        assert "The promise was" in outcome.out or "too few" in outcome.out
        assert "12 images were generated for; the report is evaluation/report.html." in outcome.out
        assert "Earlier methods" not in (place / "evaluation" / "report.html").read_text("utf-8")

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["empty"], 1, "no images"),
            (["photos", "--upscaler", "other"], 1, "'other'"),
            (["photos", "--settings", "missing.toml"], 1, "missing.toml"),
            (["photos", "--group-column", "camera"], 1, "no column 'camera'"),
            (["photos", "--jpeg", 101], 1, "jpeg"),
            (["photos", "--cache", "file"], 2, "file cannot be written"),
            (["photos"], 1, "smaller than the window of 31 pixels"),
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
