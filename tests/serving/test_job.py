"""The job of one upscaling: an upscaler that is away is waited for, but not for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from app.errors import UpscalerFailed, UpscalerUnavailable
from app.jobs.handlers import JobContext
from app.serving import job as upscale
from app.serving.job import UpscaleHandler
from app.serving.work import UpscaleRequest
from app.stores.base import Job


class Service:
    """Fails as it is told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0

    async def prepare(self, upload, request, *, patient):
        assert patient  # whoever has an accepted job has waited already
        assert await upload() == b"image"
        return request

    async def run(self, prepared, **options):
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return SimpleNamespace(result=SimpleNamespace(links=SimpleNamespace(self="/v1/results/a")))


@pytest.fixture
def run():
    """Runs the job on a service, with short pauses."""

    async def get(job, name):
        return b"image"

    async def run(service, patience_s=600.0):
        job = Job(
            id="job-a",
            kind="upscale",
            created_at=datetime.now(UTC),
            request=upscale.spooled_request(UpscaleRequest(), 3),
        )
        spool = SimpleNamespace(get=get)
        handler = UpscaleHandler(service, spool, patience_s=patience_s, pause_s=0.01)
        return await handler(job, JobContext(job.id, None))

    return run


def away(retry_after=0.0):
    return UpscalerUnavailable("It restarts.", retry_after=retry_after)


async def test_waits_for_an_upscaler_that_is_away(run):
    """It is asked again until it answers."""
    service = Service(away(), away(), away())
    assert await run(service) == "/v1/results/a"
    assert service.asked == 4


async def test_not_longer_than_its_patience(run):
    """An upscaler that stays away fails the job; so does one that says it will."""
    with pytest.raises(UpscalerUnavailable):
        await run(Service(*(away() for _ in range(100))), patience_s=0.1)
    service = Service(away(retry_after=3600))
    with pytest.raises(UpscalerUnavailable):
        await run(service)
    assert service.asked == 1


async def test_other_failures_are_final(run):
    """What an upscaler answers wrongly is not asked again."""
    service = Service(UpscalerFailed("It is broken."))
    with pytest.raises(UpscalerFailed):
        await run(service)
    assert service.asked == 1
