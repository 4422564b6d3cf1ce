"""`trustscale calibrate`, and how it continues after an interruption."""

import asyncio
import functools
import io
import json
import signal
import sys

import pytest
from starlette.responses import JSONResponse

import trustscale_server.cli.in_process
from harness.factories import encoded, photo, pictures, truths
from harness.fakes import FakeUpscaler
from harness.pictures import sample
from harness.waiting import until
from tests.cli.conftest import FORCED, stopped
from tests.live import serving
from tests.upscalers.remote.hosted import base64_of
from tests.upscalers.test_connect import Api
from trustscale import Problem, Tar
from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.calibrating.in_place import path_table
from trustscale_server.calibration import file
from trustscale_server.cli.in_process import client_in_process
from trustscale_server.platform.errors import UpscalerRejected
from trustscale_server.upscalers.base import Capabilities

MAKE = ("calibrate", "photos", "--samples", 2, "--json")
PLAIN = (*MAKE, "--mixture", "none")


def test_here_and_there(at, run, place):
    names = [f"day/{k}.png" for k in range(4)] + ["night/4.png", "night/5.png"]
    pictures(place / "photos" / "y", *names)
    (place / "names.txt").write_text("A by B\nC by D\n", "utf-8")
    arguments = (*MAKE, "--name", "mine", "--alpha", 0.3, "--grey", "--noise", 2, "--jpeg", 90)
    arguments += ("--note", "a note", "--attributions", "names.txt", "--group-by", "folder")
    arguments += ("--guarantee", "high_probability", "--delta", 0.3)
    here = run(*arguments, "--export", "here.calibration").json
    there = at(*arguments, "--export", "there.calibration")
    assert there.err.startswith("job-")
    assert (here["n"], here["name"], here["default_alpha"]) == (6, "mine", 0.3)
    assert (here["degradation"]["noise"], here["degradation"]["jpeg"]) == (2, 90)
    assert [(row["group"], row["n"]) for row in here["groups"]] == [("day", 4), ("night", 2)]
    assert here["guarantee"]["delta"] == 0.3
    assert here["thresholds"][0] == {"alpha": 0.01, "threshold": "-inf", "trusted_fraction": 0}
    for made, name in ((here, "here"), (there.json, "there")):
        assert made["state"] == "ready"
        assert made["provenance"]["attributions"] == ["A by B", "C by D"]
        assert made["provenance"]["note"] == "a note"
        assert file.load((place / f"{name}.calibration").read_bytes()).id == made["id"]
    same = here.keys() - {"id", "created_at", "provenance", "pictures"}
    assert {name: there.json[name] for name in same} == {name: here[name] for name in same}
    text = run("calibrations", "show", here["id"]).out
    assert "with probability 0.7" in text
    assert "night: 2 scenes" in text


@pytest.mark.parametrize("where", ["run", "at"])
def test_nothing_is_spent_unasked(request, place, where, monkeypatch):
    """Calls of a provider are counted, with their price, before the first; of ours they begin."""
    command = request.getfixturevalue(where)
    model = request.getfixturevalue("server" if where == "at" else "place")
    model = model.upscaler if where == "at" else request.getfixturevalue("upscaler")
    truths(place / "photos", 3)
    model.kind = "http"
    arguments = ("calibrate", "photos", "--mixture", "none", "--json")
    said = "3 pictures: 3 calls of the upscaler, "  # and how long, as earlier calls took
    for answer, code in (("", 2), ("n\n", 1)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        refused = command(*arguments)
        assert (refused.code, refused.out.strip()) == (code, "")
        assert said in refused.err
    assert model.calls == []
    assert command("jobs", "list").out == "No job is queued or running.\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    made = command(*arguments)
    assert (made.code, len(model.calls)) == (0, 3)
    assert command(*arguments).json["id"] == made.json["id"]
    truths(place / "more", 5)
    assert command("calibrate", "more", "--mixture", "none", "--yes").code == 0
    assert len(model.calls) == 8


class Provider(Api):
    """A model behind a real address, which answers no call after so many, until it may."""

    def __init__(self):
        super().__init__(lambda rgb, seed: JSONResponse({"b": base64_of(sample(rgb, seed))}))
        self.most = 1000

    async def enhance(self, request):
        if self.calls < self.most:
            return await super().enhance(request)
        self.calls += 1
        await until(lambda: self.most == 1000)
        return JSONResponse({})


@pytest.fixture
def provider(place, monkeypatch):
    """It is the only upscaler, with one call at a time."""
    api = Provider()
    monkeypatch.setattr(trustscale_server.cli.in_process, "open_parts", open_parts)
    request = {"path": "/enhance", "form": "json"}
    request["json"] = {"image": "{image_data_uri}", "seed": "{seed}"}
    with serving(api.app) as address:
        entry = {"name": "paid", "kind": "http", "url": f"http://{address}", "scale": 2}
        entry |= {"request": request, "answer": {"image": "json", "pointer": "/b"}}
        entry |= {"seed": {"min": 1, "max": 2**31 - 1}, "concurrency": 1}
        monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([entry | {"price_per_call": 0.5}]))
        yield api


def test_what_is_quoted_is_called(run, place, provider):
    """The provider is called as often as was said.

    Each of the eight canaries is a call more; a calibration with more pairs inherits them.
    """
    truths(place / "photos", 10)
    pictures(place / "more", "new.png", side=56)
    made = run(*MAKE, "--mixture", "none", "--yes", "--activate", "--force")
    assert made.code == 0, made.err
    assert provider.calls == 2 * 10 + 8
    assert "28 calls of the upscaler, for 14" in made.err
    extended = run("calibrations", "extend", made.json["id"], "more", "--yes")
    assert "2 calls of the upscaler, for 1 in" in extended.err
    assert provider.calls == 30


@pytest.mark.parametrize("where", ["run", "at"])
def test_worse_stays_inactive(request, place, where):
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


def test_inputs_like_uploads(run, place):
    """Classes that occur are made as often, at the qualities that occur; the others are named."""
    truths(place / "photos", 3)
    pictures(place / "uploads", "c.png", "d.avif")
    for quality in (82, 88):
        upload = encoded(photo(quality, 48, 48), "JPEG", quality=quality)
        (place / "uploads" / f"{quality}.jpg").write_bytes(upload)
    (place / "uploads" / "broken.png").write_bytes(b"text")
    outcome = run(*MAKE, "--like", "uploads")
    made = outcome.json["degradation"]
    assert made["shares"] == {"smoothed": 50, "decoded": 25, "heic": 25}
    parts = made["mixture"]
    assert {tuple(part["jpeg"]) for part in parts if part["jpeg"]} == {(82, 88)}
    words = " ".join(outcome.err.split())
    assert all(
        found in words for found in ("50% smoothed", "broken.png", "no upload is so: lossless")
    )


@pytest.fixture
def two(place, monkeypatch):
    """Two models, of which `auto` takes the faithful one for sharp uploads saved without loss."""
    models = {name: FakeUpscaler(name) for name in ("faithful", "sharp")}
    entries = [{"name": name, "kind": "embedded"} for name in models]
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps(entries))
    monkeypatch.setenv("TRUSTSCALE_ROUTING", '{"lossless": "faithful", "*": "sharp"}')
    opened = functools.partial(open_parts, build=lambda entry, *_: models[entry.name])
    monkeypatch.setattr(trustscale_server.cli.in_process, "open_parts", opened)
    return models


def test_who_answers_is_calibrated(run, place, two):
    """Where auto chooses, each upscaler is calibrated for the classes that it answers."""
    truths(place / "photos", 2)
    ways = {"mixture": [{}, {"jpeg": 60}]}
    (place / "ways.json").write_text(json.dumps(ways))
    options = ("--mixture", "ways.json", "--samples", 2, "--export", "made.calibration")
    outcome = run("calibrate", "photos", *options)
    assert outcome.code == 0, outcome.err
    assert "faithful (lossless) and sharp (jpeg), each for its own" in outcome.err
    assert {name: len(model.calls) for name, model in two.items()} == {"faithful": 4, "sharp": 4}
    for name, quality in (("faithful", None), ("sharp", 60)):
        made = file.load((place / f"made-{name}.calibration").read_bytes())
        assert made.manifest.upscaler == name
        assert [part.jpeg for part in made.manifest.degradation.mixture] == [quality]


def test_uploads_like_these_are_answered_by_one(run, place, two):
    """A camera's JPEG files calibrate the model that answers JPEG files, and no other."""
    truths(place / "photos", 2)
    (place / "uploads").mkdir()
    upload = encoded(photo(1, 48, 48), "JPEG", quality=85)
    (place / "uploads" / "a.jpg").write_bytes(upload)
    outcome = run(*MAKE, "--like", "uploads")
    assert outcome.json["upscaler"] == "sharp"
    assert "auto answers such uploads with sharp." in outcome.err
    assert two["faithful"].calls == []
    assert len(two["sharp"].calls) > 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--upscaler", "other"), 2, "'other'"),
        (("--export", "no/such/file"), 1, "no/such/file"),
        (("--attributions", "photos/000.png"), 1, "000.png"),
        (("--metric", "semantic"), 1, "label"),
        (("--like", "missing"), 1, "missing is not a folder"),
        (("--mixture", "usual", "--noise", 2), 2, "either a mixture or the steps"),
        (("--like", "photos", "--jpeg", 80), 2, "name no degradation with it"),
        (("--estimator", "guess"), 2, "estimator"),
    ],
    ids=str,
)
def test_mistakes(run, place, upscaler, options, code, words):
    truths(place / "photos", 1)
    outcome = run("calibrate", "photos", *options)
    assert (outcome.code, outcome.out, upscaler.calls) == (code, "", [])
    assert words in " ".join(outcome.err.replace("│", "").split())
    assert "Traceback" not in outcome.err


MADE = ("calibrate", "photos", "--mixture", "none", "--samples", 4, "--json")


class Upset(FakeUpscaler):
    def __init__(self, call=None, act=lambda: None):
        super().__init__(capabilities=Capabilities(concurrency=1, align_colours=False))
        self.call = call
        self.act = act

    async def generate(self, source, seeds, permit=None):
        if len(self.calls) == self.call:
            self.act()
        return await super().generate(source, seeds, permit)


@pytest.fixture
def upscaler():
    return Upset()


def fail(upscaler):
    upscaler.failure = UpscalerRejected("The model broke.")


def test_only_missing_pairs_are_generated(run, place, upscaler, monkeypatch):
    """After a failure the same command continues, with the outcome of a whole run.

    What was measured serves a command with another name or α too; in the end nothing is left.
    """
    truths(place / "photos", 5)
    upscaler.call, upscaler.act = 12, lambda: fail(upscaler)
    outcome = run(*MADE)
    assert outcome.code == 1
    assert "The model broke. Run the same command again" in outcome.err
    assert "20 calls of the upscaler" in outcome.err
    upscaler.call, upscaler.failure, paid = None, None, len(upscaler.calls)
    resumed = run(*MADE, "--name", "mine", "--alpha", 0.15)
    left = len(upscaler.calls) - paid
    assert left in {8, 12, 16}  # of the 20; a pair whose samples had all come may not be recorded
    assert f"{left} calls of the upscaler" in resumed.err
    assert (resumed.json["name"], resumed.json["default_alpha"]) == ("mine", 0.15)
    for kept in ("blobs/calibrate-*", "*.lock"):
        assert list((place / "data").glob(kept)) == []
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(place / "other"))
    rows = run(*MADE).json["thresholds"]
    assert [row for row in resumed.json["thresholds"] if row["alpha"] != 0.2] == rows
    calls = len(upscaler.calls)
    again = run(*MADE)  # another guarantee or name of the same pairs
    assert "no calls of the upscaler" in again.err
    assert f"already done as {again.json['id']}" in again.err
    assert (again.json["name"], again.json["default_alpha"]) == (None, 0.05)
    assert run(*MADE).json["id"] == again.json["id"]
    assert again.json["thresholds"] == rows
    assert len(upscaler.calls) == calls


def test_files_that_changed(run, place, upscaler):
    """Bytes that were not checked are not measured; the error says why, and what to do."""
    folder = truths(place / "photos", 4)

    def change():
        for k, path in enumerate(sorted(folder.iterdir())):
            path.write_bytes(encoded(photo(50 + k, 48, 48)))

    upscaler.call, upscaler.act = 0, change
    outcome = run(*MADE)
    assert outcome.code == 1
    assert "changed after they were checked" in outcome.err
    assert "--skip-bad-pairs" in outcome.err
    assert "Run the same command" not in outcome.err
    upscaler.call = len(upscaler.calls)
    upscaler.act = lambda: [path.unlink() for path in folder.iterdir()]
    assert "cannot be read" in run(*MADE).err


async def test_twice_at_a_time(place, upscaler):
    folder = truths(place / "photos", 2)
    members = {path.name: path for path in folder.iterdir()}

    async def made():
        async with client_in_process(on_checked=lambda *_: None) as service:
            config = {"degradation": {}, "samples": 4}
            return await (await service.calibrate(Tar(path_table(members)), **config)).wait()

    upscaler.seconds = 3600
    first = asyncio.create_task(made())
    await until(lambda: upscaler.calls)
    with pytest.raises(Problem, match="Another process"):
        await made()
    first.cancel()
    await asyncio.wait({first})
    upscaler.seconds = 0
    assert (await made())["n"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_stopped(run, place, upscaler, number):
    truths(place / "photos", 12, side=16)
    code, said = stopped(number, (place / "waits").exists, *MADE)  # after 20 of 48 calls
    if number == signal.SIGINT:
        assert code == 130
        last = "What is measured is kept; run the same command again to continue."
        assert said.splitlines()[-1] == last
    resumed = run(*MADE)
    assert resumed.json["n"] == 12
    assert 28 <= len(upscaler.calls) < 48
