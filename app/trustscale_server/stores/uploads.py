"""What is uploaded: the folders of its files, and when these are deleted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JobState, JobStatus
from trustscale_server.stores.opened import Stores

UPLOADS: Final = "upload-"
"""Prefix of folders of uploads that go to the object store directly."""

IMAGE: Final = "image"
"""The name of an upload in its folder."""

ENLARGED: Final = "enlarged"
"""The name of what somebody made of it, in the same folder."""


def direct_folder(owner: str | None, upload: str) -> str:
    """Return the folder of a direct upload, which depends on the key as well as the id."""
    return UPLOADS + hashlib.sha256(f"{owner or ''}\0{upload}".encode()).hexdigest()


def folder_of_samples(job: str) -> str:
    """Return the folder of the samples of a job's tasks that are not measured yet."""
    return f"{job}.samples"


@asynccontextmanager
async def uploads_for(stores: Stores, job: str) -> AsyncIterator[None]:
    """Delete the uploads of a job if the block fails, unless the job was stored.

    A stored job whose answer got lost needs its files. If the store does not answer, the sweep
    deletes them.
    """
    try:
        yield
    except BaseException:
        with suppress(StoreUnavailable):
            try:
                await stores.jobs.get(job)
            except NotFound:
                await stores.blobs.delete(job)
        raise


async def forget_files(blobs: Blobs, job: str) -> None:
    """Delete all files of a job."""
    for folder in (job, folder_of_samples(job)):
        await blobs.delete(folder)


async def forget_uploads(blobs: Blobs, job: JobStatus) -> None:
    """Delete the uploads of an ended job, and samples that a killed process has left.

    X, Y, predictions and labels of a calibration stay until the job is removed, unless it was
    cancelled.
    """
    if job.kind == "upscale" or job.state is JobState.CANCELLED:
        await forget_files(blobs, job.id)
    elif job.kind == "calibration":
        await blobs.delete(folder_of_samples(job.id))
