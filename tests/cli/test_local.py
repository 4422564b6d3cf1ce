"""What a command opens when it does not ask a server."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from app.cli.bars import Bars
from app.cli.local import inside, local
from app.serving.service import watcher
from app.system import usable_cores
from app.upscalers.base import Upscaler
from tests.factories import encoded, photo


@pytest.mark.parametrize(
    ("lines", "together"),
    [("", True), ("threads = 1", False), ("concurrency = 1", False)],
)
async def test_many_images(tmp_path, monkeypatch, lines, together):
    """For many images an embedded upscaler makes a sample per core, unless settings forbid it."""
    config = tmp_path / "trustscale.toml"
    config.write_text(f'[[upscalers]]\nname = "mine"\nkind = "embedded"\n{lines}\n')
    monkeypatch.setenv("TRUSTSCALE_CONFIG", str(config))
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(tmp_path / "data"))
    # What is set up is that of the process, and would stay.
    monkeypatch.setattr("app.cli.local.configure_logs", lambda *_: None)

    async def opened(**how: bool) -> Upscaler:
        async with local(**how) as session:
            assert await session.calibrations.active_id("mine")  # the shipped one
            return session.service.upscaler("mine")

    one, many = await opened(), await opened(many=True)
    assert one.capabilities.concurrency == 1
    assert many.capabilities.concurrency == (min(8, usable_cores()) if together else 1)
    assert many.fingerprint == one.fingerprint


def test_progress_without_a_terminal():
    """A line every ten seconds says how far a long command is."""
    now = 0.0
    out = io.StringIO()
    with Progress(console=Console(file=out, width=80), disable=True) as progress:
        bars = Bars(progress, lambda: now)
        for done in range(25):
            now = float(done)
            bars("measuring pairs", done, 1200)
    assert out.getvalue() == "measuring pairs: 10 of 1,200\nmeasuring pairs: 20 of 1,200\n"


async def test_progress_within_a_picture(place):
    """Whoever asks the application of this process is told of the samples while they come."""
    told = []
    watcher.set(lambda *step: told.append(step))
    async with inside() as service:
        await service.upscale(encoded(photo(1, 24, 24)), mask="none")
    assert told[-1] == (1, 1, "samples")
