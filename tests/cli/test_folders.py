"""`trustscale upscale` of folders, patterns, streams and URLs, here and on a server."""

import asyncio
import functools
import io
import json
import re
import signal
import sys
import threading

import pytest
from PIL import Image

from harness.factories import encoded, photo, pictures, truths
from harness.fakes import FakeUpscaler
from harness.waiting import PATIENCE_S
from tests.cli.conftest import FORCED, PARTS, stopped
from trustscale_server.cli.bars import Bars
from trustscale_server.platform.errors import UpscalerFailed, UpscalerUnavailable
from trustscale_server.upscalers.base import Capabilities

MANIFEST = "trustscale.manifest.json"
small = functools.partial(pictures, side=24)


def made(folder):
    """What answers lie below a folder, each of which must be whole."""
    stems = sorted(p.with_name(p.name.removesuffix(".result.json")) for p in records(folder))
    for stem in stems:
        assert all(stem.with_name(f"{stem.name}.{part}").is_file() for part in PARTS), stem
    return [stem.relative_to(folder).as_posix() for stem in stems]


def records(folder):
    return list(folder.rglob("*.result.json"))


@pytest.fixture
def tree(place):
    """The working folder with pictures, and what is none, in folders."""
    names = ("a.png", "a.jpg", "sub/a.png", "sub/deep/b.PNG", ".c/d.png", ".e.png")
    small(place / "in", *names)
    (place / "in" / "notes.txt").write_text("no image")
    return small(place, "other/sub/a.png")


class TestPlaces:
    @pytest.mark.parametrize(
        ("arguments", "answers"),
        [
            (["in", "--recursive"], ["a.jpg", "a.png", "sub/a", "sub/deep/b"]),
            (["in"], ["a.jpg", "a.png"]),
            (["in", "other/sub"], ["in/a.jpg", "in/a.png", "sub/a"]),
            (["in/s*/**/*.*"], ["sub/a", "sub/deep/b"]),
        ],
        ids=str,
    )
    def test_trees(self, run, tree, calibrated, arguments, answers):
        """Trees are kept, of several each below its name; same stems are kept apart."""
        assert run("upscale", *arguments, "--out", "out").code == 0
        assert made(tree / "out") == answers

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["other"], "--recursive"),
            (["in/sub", "other/sub"], "one place"),
            (["in/*.webp"], "in/*.webp"),
            (["in/**.webp"], "in/**.webp"),
            (["in", "--out", "in/"], "--out"),
        ],
        ids=str,
    )
    def test_refusals(self, run, tree, calibrated, arguments, words):
        """No image, two answers in one place, answers among the images: nothing is made."""
        run("upscale", *arguments).check_error(2, words)
        assert records(tree) == []

    def test_beside_the_input(self, run, place, calibrated):
        """Answers are never input, and replace no file of somebody else's."""
        small(place / "in", "a.png")
        for _ in range(2):
            assert run("upscale", "in", "-r", "--out", "in/large").code == 0
        assert made(place / "in") == ["large/a"]
        (place / "a.mask.png").write_bytes(b"drawn by hand")
        run("upscale", "in/a.png").check_error(2, "a.mask.png would be lost")
        assert (place / "a.mask.png").read_bytes() == b"drawn by hand"


def test_in_and_out(run, calibrated, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded(photo(52, 24, 24)))))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out := io.BytesIO()))
    outcome = run("upscale", "-", "--format", "webp")
    picture = Image.open(out)
    assert (picture.size, picture.format) == ((48, 48), "WEBP")
    assert re.match(r"standard input  no promise  fake  .*\nwarning: ", outcome.err)
    assert "warning: The picture was compressed" in outcome.err


class TestGoingOn:
    def test_what_is_done_is_kept(self, run, place, calibrated, upscaler):
        small(place / "in", "a.png", "b.png", "c.png")
        command = ("upscale", "in", "--out", "out", "--json")
        outcome = run(*command)
        assert outcome.code == 0, outcome.err
        first = [json.loads(line) for line in outcome.out.splitlines()]
        calls = len(upscaler.calls)
        (place / "out" / "b.mask.png").unlink()
        again = run(*command)
        assert len(upscaler.calls) - calls == calls / 3
        assert "1 done, 2 kept, 0 failed" in again.err
        kept = {(d["source"]["name"], d["id"]) for d in map(json.loads, again.out.splitlines())}
        assert len(kept & {(d["source"]["name"], d["id"]) for d in first}) == 2

    @pytest.mark.parametrize("change", [["--alpha", 0.2], ["--format", "webp"]], ids=str)
    def test_other_settings(self, run, place, calibrated, upscaler, change):
        """Answers to something else are not replaced unless asked; then nothing of them stays."""
        small(place / "in", "a.png", "b.png")
        assert run("upscale", "in", "--out", "out").code == 0
        before = {p: p.read_bytes() for p in (place / "out").iterdir()}
        calls = len(upscaler.calls)
        name = change[0].removeprefix("--")
        run("upscale", "in", "--out", "out", *change).check_error(2, name, "--overwrite")
        assert {p: p.read_bytes() for p in (place / "out").iterdir()} == before
        assert len(upscaler.calls) == calls
        assert run("upscale", "in", "--out", "out", *change, "--overwrite").code == 0
        manifest = json.loads((place / "out" / MANIFEST).read_text())
        assert manifest["request"][name] == change[1]
        assert len(list((place / "out").glob("*.image.*"))) == 2
        assert "\n0 done, 2 kept" in run("upscale", "in", "--out", "out", *change).err

    @pytest.mark.slow
    def test_killed(self, run, place, calibrated, upscaler):
        folder, out = truths(place / "in", 24, side=8), place / "out"
        asked = ("upscale", folder, "--out", out)
        stopped(signal.SIGKILL, lambda: len(records(out)) >= 5, *asked)
        answers = [p for p in out.iterdir() if not p.name.startswith(".tmp-")]
        before = {path: path.stat().st_mtime_ns for path in answers}
        outcome = run(*asked)
        assert outcome.code == 0, outcome.err
        kept = int(outcome.err.split(" done, ")[1].split(" kept")[0])
        assert 0 < kept < 24
        assert len(upscaler.calls) == 2 * (24 - kept)
        assert len(made(out)) == 24
        unchanged = [path for path in before if path.stat().st_mtime_ns == before[path]]
        assert len(unchanged) == len(PARTS) * kept


class TestErrors:
    def test_are_listed_at_the_end(self, run, place, calibrated):
        small(place / "in", "a.png", "c.png")
        (place / "in" / "b.png").write_bytes(b"text")
        (place / "in" / "notes.txt").write_text("no image")
        outcome = run("upscale", "in", "--out", "out")
        assert outcome.code == 1
        promise, *_, failed, last = outcome.err.splitlines()
        assert promise.startswith("warning: The calibration has too few"), outcome.err
        assert promise.endswith(" (in/a.png, in/c.png)")
        assert failed.startswith("trustscale: in/b.png: ")
        assert last == "2 done, 0 kept, 1 failed, 1 skipped that is no image: in/notes.txt"
        manifest = json.loads((place / "out" / MANIFEST).read_text())
        assert (len(manifest["done"]), list(manifest["failed"])) == (2, ["in/b.png"])
        assert {entry["promised"] for entry in manifest["done"].values()} == {False}

    def test_what_would_fail_for_all(self, run, place, calibrated, upscaler):
        small(place / "in", *(f"{k}.png" for k in range(9)))
        upscaler.failure = UpscalerUnavailable("The model is away.")
        outcome = run("upscale", "in", "--out", "out", "--at-once", 1)
        assert outcome.code == 1
        assert "The model is away. 9 images are not done" in outcome.err
        assert len(upscaler.calls) <= 4
        upscaler.failure = UpscalerFailed("The model broke.")
        assert run("upscale", "in", "--out", "out").err.count("The model broke.") == 9
        upscaler.failure = None
        assert run("upscale", "in", "--out", "out").code == 0


class TestServer:
    @pytest.fixture
    def there(self, at, place):
        truths(place / "truths", 2)
        plain = ("--samples", 2, "--mixture", "none")
        assert at("calibrate", "truths", *plain, *FORCED).code == 0
        return at

    def test_as_here(self, there, run, place, server):
        small(place / "in", "a.png", "sub/b.jpg")
        command = ("upscale", "in", "-r", "--seed", 4, "--out")
        assert "2 done, 0 kept" in there(*command, "out").err
        assert made(place / "out") == ["a", "sub/b"]
        calls = len(server.upscaler.calls)
        assert "0 done, 2 kept" in there(*command, "out").err
        assert "2 done, 0 kept" in there(*command, "other").err  # under the keys of the first
        assert len(server.upscaler.calls) == calls
        record = json.loads((place / "out" / "a.result.json").read_text())
        assert record["request"]["calibration"] == record["calibration"]
        assert "links" not in record
        mask = Image.open(place / "out" / "a.mask.png")
        assert mask.text["trustscale:calibration"] == record["calibration"]


class Tiled(FakeUpscaler):
    """Makes half of its tiles, and the rest when a line of progress has been printed."""

    def __init__(self):
        super().__init__(capabilities=Capabilities(concurrency=1, by_tiles=True))
        self.has_made, self.told = threading.Event(), threading.Event()

    async def generate(self, source, seeds, permit=None):
        for part in permit.reporting_progress([lambda: None] * 6)[:3]:
            part()
        await asyncio.sleep(0)  # what they report is shown
        self.has_made.set()
        await asyncio.to_thread(self.told.wait, PATIENCE_S)
        return await super().generate(source, seeds, permit)


class TestOne:
    @pytest.fixture
    def upscaler(self):
        return Tiled()

    def test_its_tiles(self, run, place, upscaler, monkeypatch):
        """The progress of a single picture is in tiles, with the time that is left."""
        small(place, "a.png")
        monkeypatch.setattr("trustscale_server.cli.bars.LINE_EVERY_S", 0.01)
        print_lines = Bars.print_lines

        def telling(bars):
            is_half = upscaler.has_made.is_set()
            print_lines(bars)
            if is_half:
                upscaler.told.set()

        monkeypatch.setattr(Bars, "print_lines", telling)
        outcome = run("upscale", "a.png", "--mask", "none")
        assert outcome.code == 0, outcome.err
        assert re.search(r"upscaling: 3 of 6 tiles after .* left\n", outcome.err)
