"""`trustscale calibrate` keeps canaries of a remote upscaler, as the service does."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.calibration.canaries import CanaryStore
from app.errors import UpscalerRejected
from app.stores.open import open_stores
from app.upscalers.base import Capabilities
from tests.factories import truths
from tests.fakes import FakeUpscaler
from tests.watch.scenes import REMOTE, Scene


class Tiring(FakeUpscaler):
    """Refuses from a certain call on, until it is told not to."""

    async def generate(self, source, seeds, turn=None):
        if len(self.calls) == 23:
            self.failure = UpscalerRejected("Enough.")
        return await super().generate(source, seeds, turn)


@pytest.fixture
def upscaler():
    return Tiring(capabilities=Capabilities(concurrency=1))


def test_an_interrupted_run(run, place, upscaler, monkeypatch):
    """A run that goes on where it failed keeps them too, and a round finds them as they were."""
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([REMOTE]))
    truths(place / "truths", 10)
    command = ("calibrate", "truths", "--samples", 4, "--mixture", "none", "--json")
    failed = run(*command)
    assert failed.code == 1
    assert "Enough" in failed.err
    upscaler.failure = None
    made = run(*command).json
    assert made["n"] == 10

    async def watched() -> None:
        stores = open_stores("sqlite:///", place / "data", result_ttl_s=9, max_result_bytes=10**9)
        scene = Scene(upscaler, CanaryStore(stores.blobs, stores.monitor), made["id"])
        # Calls refused may have been the second of a canary.
        assert len((await scene.state()).items) >= 6
        await scene.round()
        kept = await scene.state()
        assert (kept.rounds, kept.alarm) == (1, False)
        await stores.close()

    asyncio.run(watched())
