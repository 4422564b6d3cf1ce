"""`trustscale calibrate`, here and on a server."""

from __future__ import annotations

import json

import pytest

import app.cli.local
from app.calibration import file
from app.calibration.guarantee import HighProbability
from tests.api.admin import label
from tests.cli.conftest import FORCED
from tests.factories import encoded, photo, pictures, truths
from tests.fakes import FakeUpscaler

MAKE = ("calibrate", "photos", "--samples", 2, "--json")
PLAIN = (*MAKE, "--mixture", "none")


class TestSettings:
    def test_here_and_there(self, at, run, place):
        """The same folder and options give the same calibration, described and exported alike."""
        truths(place / "photos", 4)
        (place / "names.txt").write_text("A by B\nC by D\n", "utf-8")
        arguments = (*MAKE, "--name", "mine", "--alpha", 0.3, "--noise", 2, "--note", "a note")
        arguments += ("--attributions", "names.txt")
        here = run(*arguments, "--export", "here.calibration").json
        there = at(*arguments, "--export", "there.calibration")
        assert there.err.startswith("job-")
        assert (here["n"], here["name"], here["default_alpha"]) == (4, "mine", 0.3)
        assert here["pipeline"]["fingerprint"] == "fake:1"
        assert here["degradation"]["noise"] == 2
        assert here["thresholds"][0] == {"alpha": 0.025, "threshold": "-inf", "trusted": 0}
        for made, name in ((here, "here"), (there.json, "there")):
            assert made["active"] is False
            assert made["provenance"]["attributions"] == ["A by B", "C by D"]
            assert made["provenance"]["note"] == "a note"
            assert file.load((place / f"{name}.calibration").read_bytes()).id == made["id"]
        same = here.keys() - {"id", "created_at", "provenance", "skipped"}
        assert {name: there.json[name] for name in same} == {name: here[name] for name in same}

    def test_fit_indecision(self, run, place):
        """σ is fitted on a share of the photographs, and the others calibrate."""
        truths(place / "photos", 40, side=32)
        shown = run(*PLAIN, "--fit-indecision", 0.5).json
        fit = shown["pipeline"]["indecision"]["fit"]
        assert (shown["n"], fit["scenes"], fit["samples"]) == (20, 20, 2)

    def test_given_inputs_have_no_degradation(self, command, place):
        """With x/ the record claims no degradation, whatever the names of the files."""
        names = [f"é {k}.png" for k in range(3)]
        pictures(place / "photos" / "y", *names)
        pictures(place / "photos" / "x", *names, side=24)
        made = command(*MAKE, "--noise", 3).json
        assert (made["n"], made["degradation"]) == (3, None)

    def test_only_its_upscaler_is_opened(self, run, place, monkeypatch):
        """Nobody is warned of upscalers that the command does not use; a wrong name lists them."""
        others = [{"name": name, "kind": "embedded"} for name in ("fake", "b", "c")]
        monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps(others))
        opened = []
        local = app.cli.local.open_parts

        def open_parts(settings, *rest, **more):
            opened.append([one.name for one in settings.upscalers])
            return local(settings, *rest, **more)

        monkeypatch.setattr(app.cli.local, "open_parts", open_parts)
        truths(place / "photos", 1)
        assert run(*PLAIN, "--upscaler", "fake").code == run(*PLAIN).code == 0
        run(*PLAIN, "--upscaler", "d").check_error(1, "'d'")
        assert opened == [["fake"], ["fake"], ["fake", "b", "c"]]

    def test_worse_stays_inactive(self, command, two, place):
        """It is stored, both figures are said, and the code is that of a failure."""
        arguments = (*PLAIN, "--seed", 3, "--activate")
        outcome = command(*arguments)
        assert (outcome.code, outcome.json["active"]) == (1, False)
        assert all(word in outcome.err for word in (outcome.json["id"], "smallest α 0.", "force"))
        refused = command("calibrations", "activate", outcome.json["id"])
        refused.check_error(1, "smallest α 0.", "force")
        assert command("calibrations", "show", two[1], "--json").json["active"]
        forced = command(*arguments, "--force")
        assert (forced.code, forced.json["active"]) == (0, True)


class TestPairs:
    def test_that_cannot_be_used(self, run, at, place, upscaler, server):
        """Each is named; --skip-bad-pairs goes on and still names them."""
        pictures(place / "photos", "0.png", "1.png")
        (place / "photos" / "bad.png").write_bytes(b"text")
        (place / "photos" / "copy.png").write_bytes((place / "photos" / "0.png").read_bytes())
        run(*MAKE).check_error(1, "bad: y: The file is not a PNG", "copy: ")
        there = at(*MAKE)
        assert (there.code, there.out) == (1, "")
        *named, last = there.err.splitlines()
        assert {line.partition(":")[0] for line in named} == {"bad", "copy"}
        assert last.startswith("trustscale: 2 of 4 pairs cannot be used")
        assert upscaler.calls == server.upscaler.calls == []
        outcome = run(*PLAIN, "--skip-bad-pairs")
        assert "skipped bad: " in outcome.err
        assert [item["name"] for item in outcome.json["skipped"]] == ["bad", "copy"]

    def test_groups_by_folder(self, command, place):
        """Folders are groups with curves of their own, under the guarantee that was chosen."""
        names = [f"day/{k}.png" for k in range(4)] + ["night/4.png", "night/5.png"]
        pictures(place / "photos", *names)
        likely = ("--guarantee", "high_probability", "--delta", 0.3, "--method", "wsr")
        made = command(*PLAIN, "--group-by", "folder", *likely).json
        assert made["guarantee"] == HighProbability(delta=0.3, method="wsr").facts()
        assert [(row["group"], row["n"]) for row in made["groups"]] == [("day", 4), ("night", 2)]
        night = command("calibrations", "show", made["id"], "--group", "night", "--json").json
        assert (night["n"], night["id"]) == (2, made["id"])
        assert night["min_alpha"] == made["groups"][1]["min_alpha"]
        text = command("calibrations", "show", made["id"]).out
        assert "with probability 0.7 (wsr)" in text
        assert "night: 2 scenes" in text
        assert "with probability 0.7" in command("calibrations", "list").out

    def test_groups_by_column(self, run, place, upscaler):
        """A column of manifest.csv does it too; groups change nothing that is measured."""
        rows = [f"{k:03}.png,{'old' if k % 2 else 'new'}" for k in range(6)]
        (truths(place / "photos", 6) / "manifest.csv").write_text("\n".join(["file,camera", *rows]))
        plain = run(*PLAIN).json
        assert plain["guarantee"]["kind"] == "expectation"
        calls = len(upscaler.calls)
        made = run(*PLAIN, "--group-by", "camera").json
        assert len(upscaler.calls) == 2 * calls
        assert [(row["group"], row["n"]) for row in made["groups"]] == [("new", 3), ("old", 3)]
        assert made["thresholds"] == plain["thresholds"]

    def test_scenes_by_folder(self, run, place):
        """DIR/y/SCENE/NAME: folders are scenes and no groups; n counts them."""
        pictures(place / "photos" / "y", *(f"s{k // 2}/{k}.png" for k in range(6)))
        made = run(*PLAIN, "--scene-by", "folder").json
        assert (made["n"], made["pairs"], made["groups"]) == (3, 6, [])
        assert made["min_alpha"] == pytest.approx(0.5 / 4)

    def test_scenes_by_a_table(self, run, place):
        """pool_id of manifest.csv is read without being asked for; a missing column is named."""
        table = truths(place / "photos", 4) / "manifest.csv"
        table.write_text("file,pool_id\n000.png,a\n001.png,a\n002.png,b\n", "utf-8")
        assert run(*PLAIN).json["n"] == 3
        run(*PLAIN, "--scene-by", "day").check_error(1, "no column 'day'")
        run(*PLAIN, "--scene-by", "folder", "--group-by", "folder").check_error(1, "not both")

    def test_pictures_that_look_alike(self, run, place):
        """A slightly other copy is named before anything is generated, and is no mistake."""
        truths(place / "photos", 2)
        (place / "photos" / "copy.png").write_bytes(encoded(photo(1, 48, 48) // 2 + 100))
        outcome = run(*PLAIN)
        assert outcome.code == 0
        assert "001, copy look alike" in " ".join(outcome.err.split())

    def test_inputs_like_uploads(self, run, place):
        """Classes that occur are made at the qualities that occur; the others are named."""
        truths(place / "photos", 3)
        pictures(place / "uploads", "c.png", "d.avif")
        for quality in (82, 88):
            upload = encoded(photo(quality, 48, 48), "JPEG", quality=quality)
            (place / "uploads" / f"{quality}.jpg").write_bytes(upload)
        (place / "uploads" / "broken.png").write_bytes(b"text")
        outcome = run(*MAKE, "--like", "uploads")
        parts = outcome.json["degradation"]["mixture"]
        assert {tuple(part["jpeg"]) for part in parts if part["jpeg"]} == {(82, 88)}
        assert (outcome.json["n"], outcome.json["pairs"]) == (3, 9)
        words = " ".join(outcome.err.split())
        assert "50% jpeg-80" in words
        assert "avif-65: AVIF of quality 65 to 100" in words
        assert "broken.png" in words
        assert "no upload is so: jpeg-90, jpeg-68, jpeg-50, jpeg-30, webp-80, webp-50" in words


class TestLabels:
    def test_people_are_waited_for(self, at, place):
        """Without labels the job waits for them; the command says where, and is done."""
        truths(place / "photos", 2)
        (place / "photos" / "bad.png").write_bytes(b"text")
        outcome = at(*MAKE, "--metric", "semantic", "--skip-bad-pairs")
        assert (outcome.code, outcome.out) == (0, "")
        job = outcome.err.split()[0]
        assert f"{job} awaits labels" in outcome.err
        shown = at("calibrations", "show", job).out
        assert shown == f"{job} is awaiting_labels, 2 of 2 pairs, 1 left out\n"

    def test_labels_with_their_predictions(self, at, place, server):
        """labels/ and its predictions.json travel with the pairs."""
        truths(place / "photos" / "y", 2)
        job = at(*MAKE, "--metric", "semantic").err.split()[0]
        pairs = server.client.get(f"/v1/admin/calibrations/{job}/pairs").json()
        labels = place / "photos" / "labels"
        labels.mkdir()
        for item in pairs:
            (labels / f"{item['name']}.png").write_bytes(label(differs=True))
        claimed = {item["name"]: item["prediction_sha256"] for item in pairs}
        (labels / "predictions.json").write_text(json.dumps(claimed))
        made = at(*MAKE, "--metric", "semantic").json
        assert (made["n"], made["pipeline"]["fidelity"]["bound"]) == (2, 1)

    def test_synthetic(self, run, place):
        """Without people: every answer names the synthetic annotator."""
        truths(place / "photos", 3)
        made = run(*PLAIN, "--metric", "semantic", "--labels", "synthetic", *FORCED).json
        assert made["pipeline"]["fidelity"]["annotator"]["synthetic"] is True
        pictures(place, "a.png", first=50)
        assert (
            "synthetic annotator"
            in run("upscale", "a.png", "--json").json["guarantee"]["statement"]
        )


class TestRestoration:
    @pytest.fixture
    def upscaler(self):
        """An upscaler that restores."""
        return FakeUpscaler(scale=1)

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
        truths(place / "photos", 3)
        made = run(*MAKE, *arguments, *FORCED)
        assert made.code == 0, made.err
        assert made.json["pipeline"]["scale"] == 1
        assert made.json["degradation"][recorded[0]] == recorded[1]
        pictures(place, "old.png", first=50)
        assert "of 48×48 trusted at α = 0.4" in run("upscale", "old.png", "--alpha", 0.4).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "missing is not a folder"),
        (["empty"], "no images"),
        (["photos", "--upscaler", "other"], "'other'"),
        (["photos", "--export", "no/such/file"], "no/such/file"),
        (["photos", "--export", "empty"], "empty"),
    ],
)
def test_mistakes_here_and_there(command, place, arguments, words):
    """One line and code 1, before anything is sent or generated."""
    truths(place / "photos", 2)
    (place / "empty").mkdir()
    command("calibrate", *arguments).check_error(1, words)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--attributions", "missing.txt"), 1, "missing.txt"),
        (("--attributions", "photos/000.png"), 1, "000.png"),
        (("--metric", "semantic"), 1, "label"),
        (("--group-by", "subject"), 1, "manifest.csv is missing"),
        (("--like", "missing"), 1, "missing is not a folder"),
        (("--mixture", "missing.json"), 1, "missing.json is not a JSON file"),
        (("--mixture", "usual", "--noise", 2), 2, "either a mixture or the steps"),
        (("--like", "photos", "--jpeg", 80), 2, "name no degradation with it"),
        (("--input-rule", "mood"), 2, "input_rule must be"),
        (("--delta", 1.5), 2, "less than 1"),
        (("--guarantee", "luck"), 2, "expectation"),
        (("--method", "hope"), 2, "wsr"),
        (("--inpaint", 0.95), 2, "inpaint"),
        (("--inpaint", 0.2, "--inpaint-color", "pink"), 2, "inpaint"),
        (("--inpaint", 0.2, "--inpaint-shape", "dots"), 2, "inpaint"),
        (("--samples", 0), 2, "samples"),
        (("--prediction", "best"), 2, "prediction"),
        (("--estimator", "guess"), 2, "estimator"),
        (("--size", 0), 2, "size"),
        (("--metric", "lpips"), 2, "metric"),
        (("--bound", "nan"), 2, "bound"),
        (("--alpha", "inf"), 2, "alpha"),
        (("--alpha", -1), 2, "alpha"),
        (("--jpeg", 101), 2, "jpeg"),
    ],
    ids=str,
)
def test_mistakes(run, place, upscaler, options, code, words):
    """A few words and a code, before anything is generated."""
    truths(place / "photos", 1)
    outcome = run("calibrate", "photos", *options)
    assert (outcome.code, outcome.out, upscaler.calls) == (code, "", [])
    assert words in " ".join(outcome.err.replace("│", "").split())
    assert "Traceback" not in outcome.err
