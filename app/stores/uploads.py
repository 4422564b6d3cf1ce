"""Where uploads lie, and what becomes of them: before there is a job, and after its end."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from app.errors import NotFound
from app.stores.base import Blobs, JobState, JobStatus, Stores, StoreUnavailable

KEY: Final = "upload-"
"""Begins the folders of uploads that go to the object store directly."""

IMAGE: Final = "image"
"""The upload, in the folder of its job or in one of its own."""


def direct_folder(owner: str | None, upload: str) -> str:
    """Where such an upload lies; by the same id another key finds another folder."""
    return KEY + hashlib.sha256(f"{owner or ''}\0{upload}".encode()).hexdigest()


@asynccontextmanager
async def uploads_for(stores: Stores, job_id: str) -> AsyncIterator[None]:
    """When the block fails, delete the uploads of a job, unless the job was stored.

    A store may have stored the job although its answer got lost; the job then runs and needs its
    files. If the store cannot answer now, the files are left to the sweep.
    """
    try:
        yield
    except BaseException:
        with suppress(StoreUnavailable):
            try:
                await stores.jobs.get(job_id)
            except NotFound:
                await stores.blobs.delete(job_id)
        raise


async def forget_uploads(blobs: Blobs, job: JobStatus) -> None:
    """Delete the uploads of an ended job, unless they are still of use.

    A calibration's X, Y, predictions and labels are kept until the job is removed, but not if it
    was cancelled.
    """
    if job.kind == "upscale" or job.state is JobState.CANCELLED:
        await blobs.delete(job.id)
