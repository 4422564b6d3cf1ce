"""What a command opens when it does not ask a server."""

from __future__ import annotations

import pytest

from app.cli.local import local
from app.system import usable_cores
from app.upscalers.base import Upscaler


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
