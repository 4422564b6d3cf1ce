"""The program, run in this process with upscalers that need no model."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

import app.assembly
import app.cli.local
from app.assembly import open_parts
from app.cli.main import main
from tests.factories import truths
from tests.fakes import FakeUpscaler


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value."""
        return json.loads(self.out)

    def check_error(self, code: int, *words: str) -> None:
        """It failed with this code, one line without a traceback, and these words in it."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("trustscale: ")
        for word in words:
            assert word in self.err, self.err


@pytest.fixture
def upscaler() -> FakeUpscaler:
    """The upscaler of every command."""
    return FakeUpscaler()


@pytest.fixture
def place(tmp_path, monkeypatch, upscaler):
    """An empty working folder with settings of its own; the data folder is `data` inside."""
    for name in os.environ:
        if name.startswith("TRUSTSCALE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TRUSTSCALE_COMPILED", "off")
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", '[{"name": "fake", "kind": "embedded"}]')
    opened = functools.partial(open_parts, build=lambda *_: upscaler)
    monkeypatch.setattr(app.cli.local, "open_parts", opened)
    monkeypatch.setattr(app.cli.local, "configure_logs", lambda *_: None)
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    monkeypatch.setattr(app.assembly, "log", structlog.wrap_logger(None, wrapper_class=quiet))
    return tmp_path


@pytest.fixture
def run(place, monkeypatch, capsys):
    """Runs `trustscale` with these arguments."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["trustscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Outcome(caught.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def calibrated(run, place):
    """The id of an active calibration of 20 pairs."""
    truths(place / "truths", 20)
    outcome = run("calibrate", "truths", "--samples", 4, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json["id"]
