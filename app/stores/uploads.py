"""Where uploads are stored, before there is a job and until its end."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from app.errors import NotFound
from app.stores.base import Blobs, JobState, JobStatus, Stores, StoreUnavailable

KEY: Final = "upload-"
"""Prefix of folders of uploads that go to the object store directly."""

IMAGE: Final = "image"
"""The name of the upload in its folder."""


def direct_folder(owner: str | None, upload: str) -> str:
    """The folder of a direct upload; another key gets another folder for the same id."""
    return KEY + hashlib.sha256(f"{owner or ''}\0{upload}".encode()).hexdigest()


@asynccontextmanager
async def uploads_for(stores: Stores, job_id: str) -> AsyncIterator[None]:
    """If the block fails, delete the uploads of a job, unless the job was stored.

    A stored job whose answer got lost needs its files. If the store does not answer, the sweep
    deletes them.
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
    """Delete the uploads of an ended job.

    X, Y, predictions and labels of a calibration stay until the job is removed, unless it was
    cancelled.
    """
    if job.kind == "upscale" or job.state is JobState.CANCELLED:
        await blobs.delete(job.id)
