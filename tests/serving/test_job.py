"""The job of one upscaling: how its progress is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from app.errors import Conflict
from app.serving import job as upscale
from app.serving.job import UpscaleHandler
from app.serving.options import UpscaleRequest
from app.stores.base import Job


class Service:
    """Draws two samples."""

    async def prepare(self, upload, request, *, patient, as_job):
        assert (patient, as_job) == (True, True)
        assert await upload() == b"image"
        return request

    async def run(self, prepared, **options):
        for done in (1, 2):
            options["on_progress"](done, 2, "samples")
        return SimpleNamespace(picture=SimpleNamespace(links=SimpleNamespace(self="/v1/results/a")))


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
    """Runs the job on a service."""

    async def get(job, name):
        return b"image"

    async def run(service, context=None):
        job = Job(
            id="job-a",
            kind="upscale",
            created_at=datetime.now(UTC),
            request=upscale.uploaded_request(UpscaleRequest(), 3),
        )
        blobs = SimpleNamespace(get=get)
        return await UpscaleHandler(service, blobs)(job, context or Context())

    return run


async def test_progress_is_told_before_the_end(run):
    """All of it and in order; what forbids that, such as the end of the job, ends this attempt."""
    context = Context()
    await run(Service(), context=context)
    assert context.told == [(1, 2), (2, 2)]
    with pytest.raises(Conflict):
        await run(Service(), context=Context(Conflict("It has ended.")))
