"""Labels that people draw: every save is a new version of its pair's label, the newest counts.

So that two annotators cannot overwrite each other unseen, a version is a file that is never
replaced: a save names the version it was drawn on, and only one save per version creates the next.
A crash leaves the older version. Versions are removed with the job's files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from app.errors import Conflict, NotFound, Superseded
from app.stores.base import Blobs

FIRST = "labels"
"""The folder of the first versions, drawn here or uploaded with the pairs."""

_USED = "labels-used.json"

# The number is part of a file name, whose length is limited (`uploads.MAX_NAME_BYTES`).
MOST_VERSIONS = 99_999


def versions(names: Iterable[str]) -> dict[str, int]:
    """The newest version of every label among the files of a job, by name of its pair."""
    newest: dict[str, int] = {}
    for file in names:
        folder, _, name = file.partition("/")
        base, _, number = folder.partition(".")
        if base == FIRST and name and (number.isdecimal() or not number):
            newest[name] = max(newest.get(name, 0), int(number or 1))
    return newest


async def read(blobs: Blobs, job: str, name: str) -> tuple[bytes, int]:
    """The newest label of a pair as a file, and its version.

    Raises:
        NotFound: it has none.
    """
    version = await _newest(blobs, job, name)
    if not version:
        raise NotFound(f"The pair {name!r} has no label.")
    return await blobs.get(job, _file(version, name)), version


async def freeze(blobs: Blobs, job: str) -> None:
    """Settle that the calibration is made with the versions that are the newest now."""
    settled: dict[str, int] | None = None
    # A save then checks whether labels are settled, so one that this misses twice is known as late.
    while (present := versions(await blobs.names(job))) != settled:
        await blobs.put(job, _USED, json.dumps(present).encode())
        settled = present


async def is_late(blobs: Blobs, job: str, name: str, version: int) -> bool:
    """Whether the labels were settled without this version."""
    try:
        found: dict[str, int] = json.loads(await blobs.get(job, _USED))
    except NotFound:
        return False
    return found.get(name) != version


async def frozen(blobs: Blobs, job: str) -> Mapping[str, int]:
    """The settled versions by name of the pair; the first ones, if none were settled."""
    try:
        found: dict[str, int] = json.loads(await blobs.get(job, _USED))
    except NotFound:
        return versions(await blobs.names(job))
    return found


async def used(blobs: Blobs, job: str, name: str, settled: Mapping[str, int]) -> bytes:
    """The label file of a pair that the calibration is made with.

    Raises:
        NotFound: it has none.
    """
    if name not in settled:
        raise NotFound(f"The pair {name!r} has no label.")
    return await blobs.get(job, _file(settled[name], name))


async def save(blobs: Blobs, job: str, name: str, data: bytes, *, seen: int | None) -> int:
    """Store the next version of the label of a pair; its number.

    `seen` is the version that it was drawn on, 0 for none; None: whatever there is.

    Raises:
        Superseded: there is a newer version than the one seen; nothing was stored.
    """
    if seen is not None:
        # Versions have no gaps: if this one exists and the next does not, it is the newest.
        known = seen == 0 or await _exists(blobs, job, _file(seen, name))
        if known and await _create(blobs, job, seen + 1, name, data):
            return seen + 1
        newest = await _newest(blobs, job, name)
        raise Superseded(
            f"Somebody else has saved the label of {name!r} meanwhile: it is at version "
            f"{newest}, yours was drawn on version {seen}.",
            version=newest,
        )
    while True:
        newest = await _newest(blobs, job, name)
        if await _create(blobs, job, newest + 1, name, data):
            return newest + 1


async def _create(blobs: Blobs, job: str, version: int, name: str, data: bytes) -> bool:
    if version > MOST_VERSIONS:
        raise Conflict(f"The label of {name!r} was saved too often.")
    return await blobs.create(job, _file(version, name), data)


async def _exists(blobs: Blobs, job: str, file: str) -> bool:
    try:
        await blobs.get(job, file)
    except NotFound:
        return False
    return True


async def _newest(blobs: Blobs, job: str, name: str) -> int:
    """The newest version, 0 for none, without a listing, which takes long in a large set."""
    # Versions have no gaps; a page saves one at every pause of the hand.
    there, missing = 0, 1
    while await _exists(blobs, job, _file(missing, name)):
        there, missing = missing, 2 * missing
    while missing - there > 1:
        middle = (there + missing) // 2
        if await _exists(blobs, job, _file(middle, name)):
            there = middle
        else:
            missing = middle
    return there


def _file(version: int, name: str) -> str:
    return f"{FIRST}/{name}" if version == 1 else f"{FIRST}.{version}/{name}"
