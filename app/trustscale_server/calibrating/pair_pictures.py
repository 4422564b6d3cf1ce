"""The pictures of the pairs, for people, as long as the job's uploads are kept.

These are X as the upscaler got it, Y as uploaded, and the prediction. The calibration's key lists
the jobs that measured its pairs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibrating.labels import frozen, used
from trustscale_server.calibrating.rewritten import Rewritten, worst
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.encoding.png import to_png
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.blobs import Blobs
from trustscale_server.upscalers.base import RGB

_Picture = Literal["x", "y", "prediction"]

_STORED: Final[dict[_Picture, str]] = {"x": "x-shown", "y": "y", "prediction": "prediction"}
_JOBS: Final = "jobs.json"

Reading = Callable[[str, _Picture], Awaitable[bytes]]
"""Reads a picture of a pair: its name, and which picture."""

PICTURES_KEY: Final = "pictures-"
"""Begins the key of a calibration among the blobs."""


async def keep(blobs: Blobs, job: str, name: str, x: RGB, prediction: RGB) -> None:
    """Store X and the prediction, which are not among the uploads."""
    await blobs.put(job, f"{_STORED['x']}/{name}", await asyncio.to_thread(to_png, x))
    png = await asyncio.to_thread(to_png, prediction)
    await blobs.put(job, f"{_STORED['prediction']}/{name}", png)


async def link(blobs: Blobs, job: str, calibration: str, *, parent: str | None) -> None:
    """Note that a job measured the pairs of a calibration, and the parent's jobs the others."""
    jobs = [job, *(await _jobs(blobs, parent) if parent else [])]
    await blobs.put(_key(calibration), _JOBS, json.dumps(jobs).encode())


async def inherit(blobs: Blobs, parent: str, calibration: str) -> None:
    """Note that a calibration has the pairs of another one."""
    if jobs := await _jobs(blobs, parent):
        await blobs.put(_key(calibration), _JOBS, json.dumps(jobs).encode())


async def forget(blobs: Blobs, calibration: str) -> None:
    """Remove the note of a calibration that is deleted."""
    await blobs.delete(_key(calibration))


async def of_job(blobs: Blobs, job: str, name: str, picture: _Picture) -> bytes:
    """Return a picture of a pair of a job as a PNG file.

    Raises:
        NotFound: the pair is not measured yet, unknown, or its files have been removed.
    """
    try:
        data = await blobs.get(job, f"{_STORED[picture]}/{name}")
    except NotFound:
        upload, mark, _ = name.rpartition("~")
        if picture != "y" or not mark:
            raise
        # The variants of one Y share it.
        data = await blobs.get(job, f"{_STORED[picture]}/{upload}")
    if data.startswith(b"\x89PNG"):
        return data
    return await asyncio.to_thread(to_png, (await decoding(decode, data, PAIR_LIMITS)).rgb)


async def most_rewritten(read: Reading, name: str) -> Rewritten | None:
    """Return the place of a pair that the model rewrote most; None: nothing that can be seen.

    read: a picture of the pair by its name and which picture. Raises NotFound.
    """

    async def pixels_of(picture: _Picture) -> NDArray[np.uint8]:
        decoded = await decoding(decode, await read(name, picture), PAIR_LIMITS)
        return to_8_bit(decoded.rgb)

    truth, prediction = await pixels_of("y"), await pixels_of("prediction")
    if truth.shape != prediction.shape:
        raise NotFound(f"The pictures of the pair {name!r} are of two sizes.")
    return next(iter(await in_spare_thread(worst, truth, prediction)), None)


async def of_calibration(blobs: Blobs, calibration: str, name: str, picture: _Picture) -> bytes:
    """Return a picture of a pair as a PNG file; NotFound if none is kept."""
    for job in await _jobs(blobs, calibration):
        with suppress(NotFound):
            return await of_job(blobs, job, name, picture)
    raise NotFound(
        f"There are no pictures of the pair {name!r}, or no longer: a calibration holds no image, "
        "and the files of the job that made it are removed after a while."
    )


async def kept(blobs: Blobs, calibration: str) -> bool:
    """Return whether a finished calibration may have pictures."""
    for job in await _jobs(blobs, calibration):
        if await blobs.names(job):
            return True
    return False


async def label_of_calibration(blobs: Blobs, calibration: str, name: str) -> bytes:
    """Return the label that a finished calibration was made with."""
    for job in await _jobs(blobs, calibration):
        with suppress(NotFound):
            return await used(blobs, job, name, await frozen(blobs, job))
    raise NotFound(f"There is no label of the pair {name!r}, or no longer.")


async def _jobs(blobs: Blobs, calibration: str) -> list[str]:
    try:
        return [str(job) for job in json.loads(await blobs.get(_key(calibration), _JOBS))]
    except NotFound:
        return []


def _key(calibration: str) -> str:
    return f"{PICTURES_KEY}{calibration}"
