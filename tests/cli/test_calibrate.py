"""`trustscale calibrate`: options, pairs and words; `test_resume.py` stops and goes on."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial

import pytest

import app.cli.local
from app.assembly import open_parts
from app.calibration import file
from tests.api.admin import label
from tests.api.gateway import ADMIN_KEY, gateway
from tests.cli.conftest import FORCED
from tests.factories import encoded, photo, pictures, truths
from tests.fakes import FakeUpscaler
from tests.live import serving

MAKE = ("calibrate", "photos", "--samples", 2, "--json")
PLAIN = (*MAKE, "--mixture", "none")


def test_here_and_there(at, run, place):
    """The same folder and options give the same calibration, described and exported alike."""
    names = [f"day/{k}.png" for k in range(4)] + ["night/4.png", "night/5.png"]
    pictures(place / "photos" / "y", *names)
    (place / "names.txt").write_text("A by B\nC by D\n", "utf-8")
    arguments = (*MAKE, "--name", "mine", "--alpha", 0.3, "--grey", "--noise", 2, "--jpeg", 90)
    arguments += ("--note", "a note", "--attributions", "names.txt", "--group-by", "folder")
    arguments += ("--guarantee", "high_probability", "--delta", 0.3, "--method", "wsr")
    here = run(*arguments, "--export", "here.calibration").json
    there = at(*arguments, "--export", "there.calibration")
    assert there.err.startswith("job-")
    assert (here["n"], here["name"], here["default_alpha"]) == (6, "mine", 0.3)
    assert (here["degradation"]["noise"], here["degradation"]["jpeg"]) == (2, 90)
    assert [(row["group"], row["n"]) for row in here["groups"]] == [("day", 4), ("night", 2)]
    assert (here["guarantee"]["delta"], here["guarantee"]["method"]) == (0.3, "wsr")
    assert here["thresholds"][0] == {"alpha": 0.025, "threshold": "-inf", "trusted_fraction": 0}
    for made, name in ((here, "here"), (there.json, "there")):
        assert made["state"] == "ready"
        assert made["provenance"]["attributions"] == ["A by B", "C by D"]
        assert made["provenance"]["note"] == "a note"
        assert file.load((place / f"{name}.calibration").read_bytes()).id == made["id"]
    same = here.keys() - {"id", "created_at", "provenance", "pictures"}
    assert {name: there.json[name] for name in same} == {name: here[name] for name in same}
    text = run("calibrations", "show", here["id"]).out
    assert "with probability 0.7 (wsr)" in text
    assert "night: 2 scenes" in text


def test_only_its_upscaler_is_opened(run, place, monkeypatch):
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


@pytest.mark.parametrize("is_served", [False, True])
def test_auto_is_chosen(run, place, monkeypatch, is_served):
    """One command measures both models, and uploads get the better; too few are refused."""
    both = [{"name": name, "kind": "embedded"} for name in ("soft", "sharp")]
    table = {"lossless*": "soft", "*": "soft", "no such class": "sharp"}
    made = {
        "soft": FakeUpscaler("soft", fingerprint="fake:2", strength=9.0),
        "sharp": FakeUpscaler("sharp"),
    }
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps(both))
    monkeypatch.setenv("TRUSTSCALE_AUTO", json.dumps(table))
    opened = partial(open_parts, build=lambda config, _: made[config.name])
    monkeypatch.setattr(app.cli.local, "open_parts", opened)
    command = ["--samples", 2, "--mixture", "none", "--upscaler", "auto", "--alpha", 0.15]
    command += ["--fit-indecision", 0]
    truths(place / "few", 39)
    truths(place / "photos", 90)
    with ExitStack() as stack:
        if is_served:
            server = gateway(place / "server", *made.values(), auto=table)
            url = f"http://{stack.enter_context(serving(server))}"
            monkeypatch.setenv("TRUSTSCALE_KEY", ADMIN_KEY)
            command += ["--server", url]
        run("calibrate", "few", *command).check_error(1, "39 scenes are too few to choose")
        outcome = run("calibrate", "photos", *command, *FORCED)
        assert outcome.code == 0, outcome.err
        at = ["--server", url] if is_served else []
        found = run("calibrations", "list", "--json", *at).json
    active = [(one["upscaler"], one["n"]) for one in found if one["active"]]
    assert sorted(active) == [("sharp", 63), ("soft", 63)]
    assert "auto, smoothed/lossless: sharp; measured on 2" in outcome.out
    assert run("calibrate", "photos", *command, "--export", "x").code == 2


@pytest.mark.parametrize("where", ["run", "at"])
def test_worse_stays_inactive(request, place, where):
    """It is stored, both figures are said, and the code is that of a failure."""
    command = request.getfixturevalue(where)
    truths(place / "photos", 3)
    first = command(*PLAIN, *FORCED).json["id"]
    arguments = (*PLAIN, "--seed", 3, "--activate")
    outcome = command(*arguments)
    assert (outcome.code, outcome.json["state"]) == (1, "ready")
    assert all(word in outcome.err for word in (outcome.json["id"], "smallest α 0.", "force"))
    assert command("calibrations", "show", first, "--json").json["state"] == "active"
    forced = command(*arguments, "--force")
    assert (forced.code, forced.json["state"]) == (0, "active")


@pytest.mark.parametrize("where", ["run", "at"])
def test_pairs_that_cannot_be_used(request, place, where):
    """Each is named before anything is generated; --skip-bad-pairs goes on and still names them."""
    command = request.getfixturevalue(where)
    pictures(place / "photos", "0.png", "1.png")
    (place / "photos" / "bad.png").write_bytes(b"text")
    (place / "photos" / "copy.png").write_bytes((place / "photos" / "0.png").read_bytes())
    refused = command(*MAKE)
    assert (refused.code, refused.out) == (1, "")
    *named, last = refused.err.splitlines()
    assert {line.partition(":")[0] for line in named} == {"bad", "copy"}
    assert last.startswith("trustscale: 2 of 4 pairs cannot be used")
    outcome = command(*PLAIN, "--skip-bad-pairs")
    assert "skipped bad: y: The file is not a PNG" in outcome.err
    assert [item["name"] for item in outcome.json["skipped"]] == ["bad", "copy"]


def test_scenes(run, place):
    """pool_id of manifest.csv is read without being asked for; folders are scenes when asked."""
    table = truths(place / "photos", 4) / "manifest.csv"
    table.write_text("file,pool_id\n000.png,a\n001.png,a\n002.png,b\n", "utf-8")
    (place / "photos" / "copy.png").write_bytes(encoded(photo(1, 48, 48) // 2 + 100))
    outcome = run(*PLAIN)
    assert (outcome.json["n"], outcome.json["pairs"]) == (4, 5)
    assert "001, copy look alike" in " ".join(outcome.err.split())
    run(*PLAIN, "--scene-by", "day").check_error(1, "no column 'day'")
    run(*PLAIN, "--scene-by", "folder", "--group-by", "folder").check_error(1, "not both")


def test_inputs_like_uploads(run, place):
    """Classes that occur are made at the qualities that occur; the others are named.

    The pictures are edges without detail, which is what smoothed ones are.
    """
    truths(place / "photos", 3)
    pictures(place / "uploads", "c.png", "d.avif")
    for quality in (82, 88):
        upload = encoded(photo(quality, 48, 48), "JPEG", quality=quality)
        (place / "uploads" / f"{quality}.jpg").write_bytes(upload)
    (place / "uploads" / "broken.png").write_bytes(b"text")
    outcome = run(*MAKE, "--like", "uploads")
    parts = outcome.json["degradation"]["mixture"]
    assert {tuple(part["jpeg"]) for part in parts if part["jpeg"]} == {(82, 88)}
    words = " ".join(outcome.err.split())
    assert all(
        found in words
        for found in ("50% smoothed/jpeg-80", "broken.png", "no upload is so: lossless")
    )


def test_labels_with_their_predictions(at, place, server):
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
    assert at(*MAKE, "--metric", "semantic").json["n"] == 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--upscaler", "other"), 1, "'other'"),
        (("--export", "no/such/file"), 1, "no/such/file"),
        (("--attributions", "missing.txt"), 1, "missing.txt"),
        (("--attributions", "photos/000.png"), 1, "000.png"),
        (("--metric", "semantic"), 1, "label"),
        (("--group-by", "subject"), 1, "manifest.csv is missing"),
        (("--like", "missing"), 1, "missing is not a folder"),
        (("--mixture", "missing.json"), 1, "missing.json is not a JSON file"),
        (("--mixture", "usual", "--noise", 2), 2, "either a mixture or the steps"),
        (("--like", "photos", "--jpeg", 80), 2, "name no degradation with it"),
        (("--delta", 1.5), 2, "less than 1"),
        (("--inpaint", 0.2, "--inpaint-shape", "dots"), 2, "inpaint"),
        (("--estimator", "guess"), 2, "estimator"),
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


@pytest.mark.parametrize(("folder", "words"), [("missing", "not a folder"), ("data", "no images")])
def test_folders_without_pairs(run, place, folder, words):
    """One line and code 1."""
    (place / "data").mkdir()
    run("calibrate", folder).check_error(1, words)
