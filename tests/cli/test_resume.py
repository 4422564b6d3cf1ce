"""A calibration of this machine that was stopped goes on; what was measured is not paid twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.calibration.canaries import KEY
from app.calibration.config import CalibrationConfig
from app.calibration.local import listed
from app.calibration.pairs import load_pair
from app.cli.local import inside
from app.errors import UpscalerRejected
from app.sampling.measure import measure
from app.upscalers.base import Capabilities, Source, image_digest
from tests.factories import encoded, photo, truths
from tests.fakes import FakeUpscaler
from tests.waiting import until
from tests.watch.scenes import REMOTE
from trustscale import Problem, Tar

ROOT = Path(__file__).parents[2]
MAKE = ("calibrate", "photos", "--mixture", "none", "--samples", 4, "--json")


class Upset(FakeUpscaler):
    """Does something at a certain call."""

    def __init__(self, call=None, act=lambda: None):
        super().__init__(capabilities=Capabilities(concurrency=1))
        self.call = call
        self.act = act

    async def generate(self, source, seeds, turn=None):
        if len(self.calls) == self.call:
            self.act()
        return await super().generate(source, seeds, turn)


@pytest.fixture
def upscaler():
    return Upset()


def fail(upscaler):
    upscaler.failure = UpscalerRejected("The model broke.")


def test_only_missing_pairs_are_generated(run, place, upscaler, monkeypatch):
    """After a failure the same command goes on, with the outcome of a whole run.

    What was measured serves a command with another name or α too; in the end nothing is left.
    """
    truths(place / "photos", 5)
    upscaler.call, upscaler.act = 12, lambda: fail(upscaler)
    outcome = run(*MAKE)
    assert outcome.code == 1
    assert "The model broke. Run the same command again" in outcome.err
    assert "20 calls of the upscaler" in outcome.err
    upscaler.call, upscaler.failure, paid = None, None, len(upscaler.calls)
    resumed = run(*MAKE, "--name", "mine", "--alpha", 0.2)
    left = len(upscaler.calls) - paid
    assert left in {8, 12, 16}  # of the 20; a pair whose samples had all come may not be recorded
    assert f"{left} calls of the upscaler" in resumed.err
    assert (resumed.json["name"], resumed.json["default_alpha"]) == ("mine", 0.2)
    for kept in ("blobs/calibrate-*", "*.lock"):
        assert list((place / "data").glob(kept)) == []
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(place / "other"))
    assert run(*MAKE).json["thresholds"] == resumed.json["thresholds"]
    calls = len(upscaler.calls)
    assert run(*MAKE).code == 0  # what has succeeded is measured anew
    assert len(upscaler.calls) == calls + 20


def test_canaries(run, place, upscaler, monkeypatch):
    """Of a remote upscaler some inputs are kept, also by a run that goes on."""
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([REMOTE]))
    truths(place / "photos", 10)
    upscaler.call, upscaler.act = 23, lambda: fail(upscaler)
    assert run(*MAKE).code == 1
    upscaler.call, upscaler.failure = None, None
    made = run(*MAKE).json["id"]
    assert len(list((place / "data" / "blobs" / f"{KEY}{made}").iterdir())) >= 6


def test_a_file_that_vanished(run, place, upscaler):
    """Files are read where they lie; one that is gone is named."""
    folder = truths(place / "photos", 6)
    upscaler.call, upscaler.act = 0, lambda: [path.unlink() for path in folder.iterdir()]
    assert "cannot be read" in run(*MAKE).err


def test_files_that_changed(run, place, upscaler):
    """Bytes that were not checked are not measured; the error says why, and what goes on."""
    folder = truths(place / "photos", 4)

    def change():
        for k, path in enumerate(sorted(folder.iterdir())):
            path.write_bytes(encoded(photo(50 + k, 48, 48)))

    upscaler.call, upscaler.act = 0, change
    outcome = run(*MAKE)
    assert outcome.code == 1
    assert "changed after they were checked" in outcome.err
    assert "--skip-bad-pairs" in outcome.err
    assert "Run the same command" not in outcome.err


async def test_twice_at_a_time(place, upscaler):
    """Two processes do not pay for the same pairs; the first leaves its work to whoever comes."""
    folder = truths(place / "photos", 2)
    members = {path.name: path for path in folder.iterdir()}

    async def made():
        async with inside(on_checked=lambda *_: None) as service:
            config = {"degradation": {}, "samples": 4}
            return await (await service.calibrate(Tar(listed(members)), **config)).wait()

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
    """Ctrl-C ends it in a line that says how to go on, kill -9 at once; then it goes on."""
    truths(place / "photos", 30, side=16)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.faked", *map(str, MAKE)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (place / "waits").exists():  # after 50 of 120 calls
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(number)
        told = process.stderr.read()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert told.splitlines()[-1] == (
            "What is measured is kept; run the same command again to continue."
        )
    resumed = run(*MAKE)
    assert resumed.json["n"] == 30
    assert 70 <= len(upscaler.calls) < 120


def test_costs_are_said_first(run, place, upscaler, monkeypatch):
    """Calls, time and money, from the pace that was measured and what is configured."""
    entry = {"name": "fake", "kind": "embedded", "price_per_call": 0.02}
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([entry]))
    (place / "data").mkdir()
    pace = {"fingerprint": "fake:1", "seconds_per_megapixel": 1e5, "megapixels": 1}
    (place / "data" / "throughput.json").write_text(json.dumps({"fake": pace}))
    truths(place / "photos", 3)
    upscaler.call, upscaler.act = 0, lambda: fail(upscaler)
    # 3 pairs of 4 samples of 24×24 pixels at 10⁵ s a megapixel.
    assert "12 calls of the upscaler, about 12 minutes, for 0.24\n" in run(*MAKE).err


@pytest.mark.parametrize("claim", [{}, None, {"001": "0" * 64}])
async def test_labels(run, place, upscaler, claim):
    """Labels of the predictions at hand are used, and those that say nothing of them.

    A label says nothing about another prediction: the pair is named.
    """
    config = CalibrationConfig(degradation={}, samples=4, fidelity={"metric": "semantic"})
    pipeline = config.pipeline(FakeUpscaler())
    folder = place / "photos"
    truths(folder / "y", 2)
    (folder / "labels").mkdir()
    digests = {}
    for file in (folder / "y").iterdir():
        (folder / "labels" / file.name).write_bytes(encoded(photo(9, 48, 48)))
        pair = load_pair("", file.read_bytes(), None, pipeline, degradation=None, seed=0)
        made = await measure(FakeUpscaler(), Source(pair.x), pipeline, pair.seed)
        digests[file.stem] = image_digest(made.prediction)
    if claim is not None:
        claimed = json.dumps({**digests, **claim})
        (folder / "labels" / "predictions.json").write_text(claimed)
    outcome = await asyncio.to_thread(run, *MAKE, "--metric", "semantic")
    if claim:
        assert "001: the label was not drawn on this prediction" in outcome.err
    else:
        assert outcome.json["n"] == 2
