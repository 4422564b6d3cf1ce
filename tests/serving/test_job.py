"""The job of one upscaling: an upscaler that is away is waited for, but not for ever."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from app.errors import Conflict, UpscalerFailed, UpscalerUnavailable
from app.serving import job as upscale
from app.serving.job import UpscaleHandler
from app.serving.work import UpscaleRequest
from app.stores.base import Job


class Service:
    """Fails as it is told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0

    async def prepare(self, upload, request, *, patient, as_job):
        assert (patient, as_job) == (True, True)
        assert await upload() == b"image"
        return request

    async def run(self, prepared, **options):
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        for done in (1, 2):
            options["on_progress"](done, 2, "samples")
        return SimpleNamespace(result=SimpleNamespace(links=SimpleNamespace(self="/v1/results/a")))


class Context:
    """Hears of progress, after a while."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.told = []

    async def progress(self, done, total, _):
        for _ in range(20):  # turns of the loop
            await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop()
        self.told.append((done, total))


@pytest.fixture
def run():
    """Runs the job on a service, with short pauses."""

    async def get(job, name):
        return b"image"

    async def run(service, patience_s=600.0, context=None):
        job = Job(
            id="job-a",
            kind="upscale",
            created_at=datetime.now(UTC),
            request=upscale.spooled_request(UpscaleRequest(), 3),
        )
        spool = SimpleNamespace(get=get)
        handler = UpscaleHandler(service, spool, patience_s=patience_s, pause_s=0.01)
        return await handler(job, context or Context())

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


async def test_progress_is_told_before_the_end(run):
    """All of it and in order; what forbids that, such as the end of the job, ends this attempt."""
    context = Context()
    await run(Service(), context=context)
    assert context.told == [(1, 2), (2, 2)]
    with pytest.raises(Conflict):
        await run(Service(), context=Context(Conflict("It has ended.")))
