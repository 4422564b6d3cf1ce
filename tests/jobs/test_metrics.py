"""What job workers count, and the port that tells it."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import httpx
import pytest

from harness.factories import calibration_of
from harness.fakes import FakeUpscaler
from harness.gateway import IMAGE
from harness.servers import free_port
from tests.jobs.conftest import ended, memory_place
from tests.numbers import numbers_of, parsed_metrics
from tests.upscalers.resilient import guarded as limited
from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.worker_port import listening, worker_app
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.job_status import Job


@pytest.fixture
def place(tmp_path):
    return memory_place(tmp_path)


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_calibration(place, stores, lost):
    if lost:
        await stores.jobs.create(place.job("c", pairs=4))
        await stores.jobs.start("c", "pair0001", "one who died")
    metrics = Metrics()
    async with place.queue(stores, metrics=metrics) as queue, place.worker(queue, stores, slots=4):
        await queue.submit(place.job("c", pairs=4))
        await ended(stores, "c")
    found = numbers_of(metrics)
    assert found["trustscale_calibration_pairs_total", "ok"] == 4
    assert found["trustscale_job_task_seconds_count",] == 4
    assert found["trustscale_job_attempts_total", "calibration", "succeeded"] == 1
    assert found["trustscale_job_seconds_count", "calibration", "succeeded"] == 1
    assert found["trustscale_job_lost_leases_total", "calibration"] == lost


async def test_slots_of_a_worker(tmp_path):
    """A job worker takes as many upscalings at once as it has slots, also for remote models."""
    upscalers = [
        {"name": "fake", "kind": "embedded"},
        {"name": "pool", "kind": "worker", "urls": ["http://a"], "concurrency": 5},
    ]
    settings = Settings(data_dir=tmp_path, upscalers=upscalers, max_in_flight=8)
    async with AsyncExitStack() as stack:
        parts = await open_parts(settings, stack, lambda *_: FakeUpscaler())
        assert (parts.concurrency["upscale"], parts.service.context.slots.capacity) == (13, 13)


async def test_port_a_worker(tmp_path):
    upscaler = FakeUpscaler()
    guarded = limited(upscaler, max_calls_per_hour=100)
    settings = Settings(data_dir=tmp_path, upscalers=[{"name": "fake", "kind": "embedded"}])
    metrics, port = Metrics(), free_port()
    async with AsyncExitStack() as stack:
        parts = await open_parts(settings, stack, lambda *_: guarded, metrics)
        await parts.calibrations.add(await calibration_of(upscaler), activate=True)
        served = listening(worker_app(parts.gauges), "127.0.0.1", port)
        await stack.enter_async_context(served)
        asking = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
        client = await stack.enter_async_context(asking)
        assert (await client.get("/healthz")).text == "ok\n"
        await parts.stores.blobs.put("job-1", "image", IMAGE)
        request = UpscaleRequest().model_dump()
        await parts.queue.submit(
            Job(id="job-1", kind="upscale", created_at=datetime.now(UTC), request=request)
        )
        found = parsed_metrics((await client.get("/metrics")).text)
        assert found["trustscale_jobs", "upscale", "queued"] == 1
        assert found["trustscale_upstream_breaker_open", "fake"] == 0
        stop = asyncio.Event()
        work = asyncio.create_task(parts.queue.run(parts.handlers, stop=stop))
        assert (await ended(parts.stores, "job-1")).state == "succeeded"
        stop.set()
        await work
        found = parsed_metrics((await client.get("/metrics")).text)
        assert found["trustscale_jobs", "upscale", "queued"] == 0
        assert found["trustscale_upstream_calls_last_hour", "fake"] == 4
        assert found["trustscale_upstream_calls_limit", "fake"] == 100
        assert found["trustscale_job_seconds_count", "upscale", "succeeded"] == 1
    async with httpx.AsyncClient() as after:
        with pytest.raises(httpx.ConnectError):
            await after.get(f"http://127.0.0.1:{port}/healthz")
