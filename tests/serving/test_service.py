"""Requests that are cancelled while their answer is made."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from app.serving.options import UpscaleRequest
from tests.api.gateway import IMAGE, gateway
from tests.factories import calibration_of
from tests.fakes import FakeUpscaler


async def test_a_thread_keeps_its_slot(tmp_path):
    """A cancelled request gives its slot and bytes back when its thread has ended, not before."""
    upscaler = FakeUpscaler()
    app = gateway(tmp_path, upscaler, calibrations=[await calibration_of(upscaler)])
    started, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(_):
        started.set()
        may_end.wait(60)
        ended.set()

    async with app.router.lifespan_context(app) as state:
        service = state["trustscale"].service
        admitted = await service.prepare(IMAGE, UpscaleRequest())
        run = asyncio.create_task(service.run(admitted, on_first=slow))
        assert await asyncio.to_thread(started.wait, 60)
        run.cancel()
        for _ in range(20):  # turns of the loop, in which it would end if it could
            await asyncio.sleep(0)
        assert (service.slots.in_flight, ended.is_set()) == (1, False)
        assert service.slots.bytes_in_flight > 0
        may_end.set()
        with suppress(asyncio.CancelledError):
            await run
        assert run.cancelled()
        assert ended.is_set()
        assert (service.slots.in_flight, service.slots.bytes_in_flight) == (0, 0)
