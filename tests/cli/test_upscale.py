"""`trustscale upscale`, here and against a server, and its keys."""

import errno
import json
import re
import signal

import numpy as np
import pytest
from PIL import Image

from harness.factories import pictures, truths
from harness.waiting import block_until
from tests.cli.conftest import FORCED, PARTS, stopped
from tests.reading import TEXTS, pretend
from trustscale_server.serving.document import Result


@pytest.fixture
def picture(place):
    return pictures(place, "bird.png", side=24, first=52) / "bird.png"


def test_five_files(run, place, calibrated, picture):
    asked = ("upscale", picture, "--alpha", 0.12, "--seed", 5)
    outcome = run(*asked, "--out", "answers/today")
    assert outcome.code == 0, outcome.err
    [line] = outcome.out.splitlines()
    assert re.fullmatch(rf"{picture}  no promise  fake  \d+\.\d s", line)
    assert outcome.err.count("the mask promises nothing about it") == 1
    folder = place / "answers" / "today"
    assert sorted(p.name for p in folder.iterdir()) == [f"bird.{name}" for name in PARTS]
    more = run(*asked, "--out", "answers/today", "--trust", "--overlay", "--verbose")
    assert more.out.startswith(f"{picture}: The model added detail.")
    assert "No promise. " in more.out
    assert re.search(r" % of the area of 48×48 can be relied on for colour at α = 0.12 ", more.out)
    assert {p.name for p in folder.iterdir()} == {
        f"bird.{name}" for name in (*PARTS, "trust.png", "overlay.png")
    }
    document = json.loads((folder / "bird.result.json").read_text("utf-8"))
    assert set(document) == {*Result.model_fields, "request", "source"} - {"links", "batch"}
    assert document["calibration"] == calibrated
    with Image.open(folder / "bird.mask.png") as mask:
        assert np.asarray(mask).mean() == document["trusted_fraction"]
    for name in ("image", "mask", "trust", "overlay"):
        with Image.open(folder / f"bird.{name}.png") as image:
            image.load()
            assert image.size == (48, 48)
            assert image.text["trustscale:calibration"] == calibrated
            assert image.text["trustscale:alpha"] == "0.12"
    assert list((place / "data" / "blobs").glob("result-*")) == []
    assert run(*asked, "--out", "other").code == 0  # same seed, same bytes
    for name in ("bird.image.png", "bird.mask.png"):
        assert (place / "other" / name).read_bytes() == (folder / name).read_bytes()


def test_words(run, place, calibrated, picture, monkeypatch):
    """--words asks the calibration for text, which need not be active, and prints what it reads."""
    pretend(monkeypatch)
    asked = ("calibrate", truths(place / "y", 4), "--metric", "text", "--note", "Signs.")
    assert run(*asked).code == 0
    outcome = run("upscale", picture, "--words", "--alpha", 0.3)
    assert outcome.code == 0, outcome.err
    first, *rest = outcome.out.splitlines()
    assert "2 of 3 words called right" in first
    assert rest == ["  reads: Exit 42", "  perhaps: Zg"]
    assert "Of the words called right at most 30 % are wrong" in outcome.err
    assert " Such pictures: Signs." in outcome.err
    document = json.loads((place / "bird.result.json").read_text("utf-8"))
    assert document["calibration"] != calibrated
    assert [word["text"] for word in document["words"]] == list(TEXTS)


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (1, "a.txt", ["a.txt", "not a PNG"]),
        (1, "missing.png", ["missing.png", "No such file"]),
        (1, "bird.png --group dusk", ["dusk"]),
        (1, "bird.png --to 4k", ["is 48; --to 3840 is more"]),
        (1, "bird.png --scale 5", ["×2; --scale 5 is more"]),
        (1, "bird.png --out bird.png/x", ["bird.png"]),
        (2, "bird.png --upscaler other", ["'other'", "fake"]),
        (2, "bird.png --mask none --alpha 0.1", ["--mask none"]),
        (2, "bird.png --format bmp", ["bmp", "webp"]),
        (2, "bird.png --to huge", ["'huge'", "4k"]),
        (2, "bird.png --print a9@300", ["a9@300", "a0 to a6"]),
        (2, "bird.png --print a3@300 --to 4k", ["--print"]),
        (2, "bird.png --scale 2 --to 4k", ["give one"]),
    ],
)
def test_mistakes(run, place, calibrated, picture, upscaler, code, arguments, words):
    """Wrong usage ends with code 2, before anything is generated, in words of the command line."""
    (place / "a.txt").write_bytes(b"text")
    outcome = run("upscale", *arguments.split())
    assert (outcome.code, outcome.out) == (code, "")
    assert all(word in outcome.err for word in words), outcome.err
    if code == 1:
        outcome.check_error(1)
    else:
        assert upscaler.calls == []


def test_what_was_added(run, place, picture):
    """It is said before what colours can be relied on for; `--safe` writes the safe copy beside."""
    truths(place / "photos", 12)
    made = ("--samples", 2, "--mixture", "none", "--alpha", 0.3, "--input-rule", "none")
    assert run("calibrate", "photos", *made, *FORCED).code == 0
    outcome = run("upscale", picture, "--safe", "--to", 30)
    assert outcome.code == 0, outcome.err
    added = json.loads((place / "bird.result.json").read_text("utf-8"))["added"]
    assert added["held"] == 0  # of a few scenes nothing is known for certain
    assert "  next to none of the added detail holds up, " in outcome.out
    for name, mode in (("safe", "RGB"), ("added", "L")):
        with Image.open(place / f"bird.{name}.png") as image:
            assert (max(image.size), image.mode) == (30, mode)
    again = run("upscale", picture, "--safe", "--to", 30)
    assert "(kept)" in again.out


@pytest.mark.parametrize(
    ("size", "side"), [(["--scale", 1.5], 36), (["--to", 30], 30), (["--print", "a6@7"], 41)]
)
def test_sizes(run, place, calibrated, picture, size, side):
    """Any size up to the model's; the mask is that of the reduced picture."""
    assert run("upscale", picture, *size).code == 0
    for name in ("image", "mask"):
        with Image.open(place / f"bird.{name}.png") as image:
            assert image.size == (side, side)


def test_a_folder_that_cannot_be_written(run, place, calibrated, picture, monkeypatch):
    """What cannot be written is named, and not the picture that was read."""

    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trustscale_server.cli.answers.AnswerFiles.write", full)
    outcome = run("upscale", picture, "--out", "answers")
    outcome.check_error(1, "answers cannot be written: No space left on device")
    assert "bird.png" not in outcome.err


def test_large_runs_are_announced(run, place, calibrated, picture, monkeypatch):
    """With their files and, as earlier answers took it, their time."""
    monkeypatch.setattr("trustscale_server.cli.forecast._LARGE_BYTES", 4_000)
    outcome = run("upscale", picture)
    assert "This takes some 4.6 kB of files." in outcome.err
    assert "This takes" not in run("upscale", picture, "--to", 24, "--out", "small").err
    path = place / "data" / "throughput.json"
    paces = json.loads(path.read_text())
    assert paces["fake:answers"]["seconds_per_megapixel"] > 0
    paces["fake:answers"]["seconds_per_megapixel"] = 120e6 / 24**2
    path.write_text(json.dumps(paces))
    said = run("upscale", picture, "--out", "again").err
    assert "This takes about 2 minutes and some 4.6 kB of files." in said


def test_key(at, server, place, monkeypatch):
    """A wrong one is refused before an upload is read; the error says that, not a broken pipe."""
    assert at("calibrations", "list").code == 0
    monkeypatch.setenv("TRUSTSCALE_KEY", "wrong")
    at("calibrations", "list").check_error(1, "key is not valid")
    (truths(place / "photos", 1) / "large.png").write_bytes(bytes(30_000_000))
    at("calibrate", "photos").check_error(1, "key is not valid")
    monkeypatch.setenv("TRUSTSCALE_KEY", "client-key")
    at("calibrations", "list").check_error(1, "admin")
    monkeypatch.delenv("TRUSTSCALE_KEY")
    outcome = at("calibrations", "list")
    outcome.check_error(2, "TRUSTSCALE_KEY", server.url)


@pytest.mark.slow
def test_interrupted(server, place):
    server.upscaler.seconds = 3600
    server.asked.clear()
    truths(place / "photos", 8)
    code, told = stopped(
        signal.SIGINT,
        lambda: any(path.startswith("/v1/jobs/") for path in server.asked),
        *("calibrate", "photos", "--samples", 4, "--server", server.url),
    )
    assert code == 130
    assert "is queued" in told
    assert "Traceback" not in told
    assert "The job continues" in told
    job = next(word for word in told.split() if word.startswith("job-"))
    client = server.client
    block_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "running")
    client.delete(f"/v1/jobs/{job}")
    assert '"cancelled"' in client.get(f"/v1/jobs/{job}/events").text


def test_nothing_is_paid_for_without_a_promise(run, place, calibrated, upscaler, monkeypatch):
    """The picture is listed as failed, with the way to have it, which the command then takes."""
    entry = {"name": "fake", "kind": "embedded", "price_per_call": 0.5}
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([entry]))
    pictures(place, "a.png", side=24)
    asked = ("upscale", "a.png", "--alpha", 0.001)
    refused = run(*asked)
    assert (refused.code, upscaler.calls) == (1, [])
    assert "No call was made" in refused.err
    assert "Send --yes" in refused.err
    assert run(*asked, "--yes").code == 0
    assert len(upscaler.calls) > 0


def test_cards(run, place, calibrated, picture):
    """--card writes one beside the picture, and an answer is done only with it."""
    ask = ("upscale", picture, "--alpha", 0.1, "--out", "out", "--card")
    assert run(*ask).code == 0
    [card] = place.glob("out/*.card.png")
    assert run("verify", card).code == 0
    card.unlink()
    assert run(*ask).code == 0
    assert card.exists()


def test_a_folder_adapts_its_masks(run, place, calibrated):
    """--adapt describes the folder by its pictures first; too few are refused before any call."""
    folder = pictures(place / "few", *(f"{k}.png" for k in range(5)), side=24)
    outcome = run("upscale", folder, "--adapt", "--out", "answers")
    assert outcome.code == 2
    assert "--adapt needs at least 6 pictures" in outcome.err
    folder = pictures(place / "many", *(f"{k}.png" for k in range(7)), side=24, first=60)
    asked = ("upscale", folder, "--adapt", "--out", "answers")
    outcome = run(*asked)
    assert outcome.code == 0, outcome.err
    documents = [json.loads(path.read_text()) for path in sorted(place.rglob("*.result.json"))]
    assert len(documents) == 7
    assert {document["batch"]["pictures"] for document in documents} == {7}
    assert "7 kept" in run(*asked).err  # the same pictures are the same batch
