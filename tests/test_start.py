"""What a start waits for."""

import asyncio
from contextlib import AsyncExitStack

from harness.fakes import FakeUpscaler
from tests.logs import logging_as
from trustscale_server.bootstrap import assembly
from trustscale_server.bootstrap.settings import Settings

ENTRIES = [{"name": name, "kind": "embedded"} for name in ("first", "second", "third")]


async def test_upscalers_are_asked_side_by_side(tmp_path):
    """Each waits here until all have been asked."""
    together = asyncio.Barrier(len(ENTRIES))

    class Meeting(FakeUpscaler):
        async def probe(self):
            await together.wait()

    async with AsyncExitStack() as stack:
        settings = Settings(data_dir=tmp_path, upscalers=ENTRIES)
        parts = await assembly.open_parts(settings, stack, lambda *_: Meeting())
        assert list(parts.upscalers) == ["first", "second", "third"]


async def test_one_that_does_not_answer_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(assembly, "_REACHED_WITHIN_S", 0.01)

    class Silent(FakeUpscaler):
        async def probe(self):
            if self.name == "second":
                await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        settings = Settings(data_dir=tmp_path, upscalers=ENTRIES)
        with logging_as("json"):
            built = lambda config, _: Silent(config.name)  # noqa: E731
            parts = await assembly.open_parts(settings, stack, built)
        assert list(parts.upscalers) == ["first", "second", "third"]
    warned = [line for line in capsys.readouterr().err.splitlines() if "unavailable" in line]
    assert len(warned) == 1
    assert '"second"' in warned[0]
    assert "did not answer within 0.01 seconds" in warned[0]
