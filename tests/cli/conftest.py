"""The program, run in this process with upscalers that need no model."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import httpx
import pytest
import structlog

import trustscale_server.cli.in_process
from harness.factories import truths
from harness.fakes import FakeUpscaler
from harness.gateway import ADMIN_KEY, gateway
from tests.live import serving
from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.cli.main import main

PARTS = ["image.png", "mask.png", "result.json"]  # of an answer
FORCED = ("--activate", "--force")  # so few pairs trust nothing at the default α


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def check_error(self, code, *words):
        """It failed with this code, one line without a traceback, and these words in it."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("trustscale: ")
        for word in words:
            assert word in self.err, self.err


@pytest.fixture
def upscaler():
    return FakeUpscaler()


@pytest.fixture
def place(tmp_path, monkeypatch, upscaler):
    """An empty working folder with its own settings; the data folder is `data` inside."""
    for name in os.environ:
        if name.startswith("TRUSTSCALE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", '[{"name": "fake", "kind": "embedded"}]')
    opened = functools.partial(open_parts, build=lambda *_: upscaler)
    monkeypatch.setattr(trustscale_server.cli.in_process, "open_parts", opened)
    monkeypatch.setattr(trustscale_server.cli.in_process, "configure_logs", lambda *_: None)
    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield tmp_path
    structlog.configure(**logs)


@pytest.fixture
def run(place, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["trustscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Outcome(caught.value.code, captured.out, captured.err)

    return run


def stopped(number, condition, *words):
    """Send the program of `faked` a signal once the condition holds: its exit code, its words."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.faked", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not condition():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait(), process.stderr.read()


@pytest.fixture(scope="session")
def calibrated_once(tmp_path_factory):
    """Where the data folder that is calibrated first is kept for the other tests."""
    return tmp_path_factory.mktemp("calibrated") / "data"


@pytest.fixture
def calibrated(run, place, upscaler, calibrated_once):
    """The id of an active calibration of 20 pairs, none of whose calls are remembered."""
    if calibrated_once.is_dir():
        shutil.copytree(calibrated_once, place / "data")
        return run("calibrations", "list", "--json").json[0]["id"]
    truths(place / "truths", 20)
    plain = ("calibrate", "truths", "--mixture", "none", "--samples", 2)
    outcome = run(*plain, "--activate", "--json")
    assert outcome.code == 0, outcome.err
    shutil.copytree(place / "data", calibrated_once)
    upscaler.calls.clear()
    return outcome.json["id"]


@pytest.fixture(scope="module")
def running_server(tmp_path_factory):
    logs = structlog.get_config()
    # It shares our output; the processors of a command that ran before need another logger.
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    upscaler = FakeUpscaler()
    served = gateway(tmp_path_factory.mktemp("gateway"), upscaler, client_keys=["client-key"])
    asked = []  # paths of all requests

    async def noted(scope, receive, send):
        asked.append(scope.get("path", ""))
        await served(scope, receive, send)

    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with (
        serving(noted) as address,
        httpx.Client(base_url=f"http://{address}", headers=admin, timeout=60) as client,
    ):
        yield SimpleNamespace(
            url=f"http://{address}", upscaler=upscaler, asked=asked, client=client
        )
    structlog.configure(**logs)


@pytest.fixture
def server(place, running_server, monkeypatch):
    """The gateway, with the upscaler as new and the key in the environment."""
    monkeypatch.setenv("TRUSTSCALE_KEY", ADMIN_KEY)
    vars(running_server.upscaler).clear()
    running_server.upscaler.__init__()
    return running_server


@pytest.fixture
def at(run, server):
    return lambda *arguments: run(*arguments, "--server", server.url)
