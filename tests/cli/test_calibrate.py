"""`trustscale calibrate` and `trustscale calibrations`."""

from __future__ import annotations

import json

import pytest

import app.cli.local
from app.calibration import file
from app.conformal.indecision import LEARNED_STATE
from tests.factories import encoded, photo, truths


class TestCalibrate:
    def test_json(self, run, place, upscaler):
        """The calibration is stored, active, exported, and described."""
        truths(place / "photos", 6)
        (place / "names.txt").write_text("A by B\nC by D\n", "utf-8")
        outcome = run(
            "calibrate",
            "photos",
            *("--samples", 4, "--name", "mine", "--alpha", 0.3, "--noise", 2, "--note", "a note"),
            *("--attributions", "names.txt", "--export", "mine.calibration", "--json"),
            "--activate",
        )
        assert (outcome.code, outcome.err) == (0, "")
        shown = outcome.json
        assert (shown["n"], shown["name"], shown["default_alpha"]) == (6, "mine", 0.3)
        assert shown["active"] is True
        assert shown["pipeline"]["fingerprint"] == "fake:1"
        assert shown["degradation"]["noise"] == 2
        assert shown["provenance"]["attributions"] == ["A by B", "C by D"]
        assert shown["provenance"]["note"] == "a note"
        assert shown["thresholds"][0] == {"alpha": 0.025, "threshold": "-inf", "trusted": 0}
        assert file.load((place / "mine.calibration").read_bytes()).id == shown["id"]
        assert len(upscaler.calls) == 6 * 4

    def test_text(self, run, place):
        """Without --json a person reads it."""
        truths(place / "photos", 6)
        outcome = run("calibrate", "photos", "--samples", 4, "--activate", "--force")
        assert outcome.code == 0
        for words in ("(active)", "scenes       6 (", "fake, ×2", "threshold", "1 is enough"):
            assert words in outcome.out

    def test_fit_indecision(self, run, place):
        """σ is fitted on a share of the photographs, and the others calibrate."""
        truths(place / "photos", 50)
        arguments = ["photos", "--fit-indecision", 0.4, "--samples", 2, "--json"]
        shown = run("calibrate", *arguments).json
        fit = shown["pipeline"]["indecision"]["fit"]
        assert (shown["n"], fit["scenes"], fit["samples"]) == (30, 20, 2)
        assert {point["samples"] for point in shown["price"]} == {1, 2}

    def test_worse_stays_inactive(self, run, place, calibrated):
        """Four pairs do not take the place of twenty by chance: stored, both figures said."""
        truths(place / "photos", 4)
        outcome = run("calibrate", "photos", "--samples", 4, "--activate", "--json")
        assert (outcome.code, outcome.json["active"]) == (1, False)
        for words in (outcome.json["id"], "smallest α 0.0", "→ 0.0%", "force"):
            assert words in outcome.err
        assert run("calibrations", "show", calibrated, "--json").json["active"]
        run("calibrations", "activate", outcome.json["id"]).check_error(1, "→ 0.0%", "force")
        done = run("calibrate", "photos", "--samples", 4, "--activate", "--force", "--json")
        assert (done.code, done.json["active"]) == (0, True)

    def test_pairs_that_cannot_be_used(self, run, place, upscaler):
        """They are named; --skip-bad-pairs goes on and still names them."""
        truths(place / "photos", 4)
        (place / "photos" / "bad.png").write_bytes(b"text")
        run("calibrate", "photos", "--samples", 4).check_error(1, "bad: y: The file is not a PNG")
        assert upscaler.calls == []
        outcome = run("calibrate", "photos", "--samples", 4, "--skip-bad-pairs", "--json")
        assert outcome.code == 0
        assert "skipped bad: " in outcome.err
        assert (outcome.json["n"], outcome.json["skipped"][0]["name"]) == (4, "bad")

    def test_only_its_upscaler_is_opened(self, run, place, upscaler, monkeypatch):
        """Nobody is warned of upscalers that the command does not use; a wrong name lists them."""
        others = [{"name": name, "kind": "embedded"} for name in ("fake", "b", "c")]
        monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps(others))
        opened = []
        local = app.cli.local.open_parts

        def open_parts(settings, *rest, **more):
            opened.append([one.name for one in settings.upscalers])
            return local(settings, *rest, **more)

        monkeypatch.setattr(app.cli.local, "open_parts", open_parts)
        truths(place / "photos", 4)
        made = ("calibrate", "photos", "--samples", 4, "--mixture", "none")
        assert run(*made, "--upscaler", "fake").code == run(*made).code == 0
        run(*made, "--upscaler", "d").check_error(1, "'d'")
        assert opened == [["fake"], ["fake"], ["fake", "b", "c"]]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["photos", "--attributions", "missing.txt"], "missing.txt"),
            (["photos", "--attributions", "photos/000.png"], "000.png"),
            (["photos", "--metric", "semantic"], "label"),
        ],
    )
    def test_mistakes(self, run, place, upscaler, arguments, words):
        """One line, exit code 1, and nothing generated."""
        truths(place / "photos", 2)
        run("calibrate", *arguments).check_error(1, words)
        assert upscaler.calls == []

    def test_given_inputs_have_no_degradation(self, run, place):
        """With x/ the record claims no degradation."""
        for k in range(3):
            for side, part in ((48, "y"), (24, "x")):
                (place / "pairs" / part).mkdir(parents=True, exist_ok=True)
                (place / "pairs" / part / f"{k}.png").write_bytes(encoded(photo(k, side, side)))
        made = run("calibrate", "pairs", "--samples", 4, "--noise", 3, "--json").json
        assert (made["degradation"], made["active"]) == (None, False)
        assert run("calibrations", "show", made["id"], "--json").json["active"] is False

    def test_the_learned_sigma(self, run, place):
        """The pipeline of the new calibration names the estimator and its weights."""
        truths(place / "photos", 3)
        made = run("calibrate", "photos", "--samples", 4, "--estimator", "learned", "--json").json
        assert made["pipeline"]["indecision"]["estimator"] == "learned"
        assert made["pipeline"]["indecision"]["state"] == LEARNED_STATE


class TestCalibrations:
    def test_export_and_import(self, run, place, calibrated, monkeypatch):
        """A file travels to another installation unchanged, and serves there."""
        assert run("calibrations", "export", calibrated, "a.calibration").code == 0
        monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(place / "elsewhere"))
        outcome = run("calibrations", "import", "a.calibration", "--activate")
        assert outcome.out == f"{calibrated}\n"
        assert run("calibrations", "export", calibrated, "b.calibration").code == 0
        first, second = ((place / name).read_bytes() for name in ("a.calibration", "b.calibration"))
        assert first == second
        assert run("calibrations", "show", calibrated, "--json").json["active"]
        (place / "bird.png").write_bytes(encoded(photo(9, 24, 24)))
        assert run("upscale", "bird.png").code == 0

    def test_missing_files(self, run, calibrated):
        """A path that cannot be written is named."""
        run("calibrations", "export", calibrated, "no/such/file").check_error(1, "no/such/file")
