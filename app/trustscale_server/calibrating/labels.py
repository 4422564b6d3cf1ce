"""The labels that people draw on the predictions of a calibration's pairs.

Every save of a label is a new version, and the newest counts. So that two
annotators cannot overwrite each other unseen, a version is a file that is never replaced: a save
names the version it was drawn on, and only one save per version creates the next. Versions are
removed with the job's files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from trustscale_server.platform.errors import Conflict, NotFound, Superseded
from trustscale_server.stores.blobs import Blobs

FIRST = "labels"
"""The folder of the first versions, drawn here or uploaded with the pairs."""

_USED = "labels-used.json"


def versions(names: Iterable[str]) -> dict[str, int]:
    """Return the newest version of every label among a job's files, by name of its pair."""
    newest: dict[str, int] = {}
    for file in names:
        folder, _, name = file.partition("/")
        base, _, number = folder.partition(".")
        if base == FIRST and name and (number.isdecimal() or not number):
            newest[name] = max(newest.get(name, 0), int(number or 1))
    return newest


async def newest_label(blobs: Blobs, job: str, name: str) -> tuple[bytes, int]:
    """Return the newest label of a pair as a file, and its version; NotFound without one."""
    version = await _newest(blobs, job, name)
    if not version:
        raise NotFound(f"The pair {name!r} has no label.")
    return await blobs.get(job, _file(version, name)), version


async def freeze(blobs: Blobs, job: str) -> None:
    """Fix the newest versions of the labels for the calibration."""
    settled: dict[str, int] | None = None
    # A save checks afterwards whether labels are settled: what both listings miss it calls late.
    while (present := versions(await blobs.names(job))) != settled:
        await blobs.put(job, _USED, json.dumps(present).encode())
        settled = present


async def is_late(blobs: Blobs, job: str, name: str, version: int) -> bool:
    """Return whether the labels were fixed without this version."""
    settled = await _settled(blobs, job)
    return settled is not None and settled.get(name) != version


async def frozen(blobs: Blobs, job: str) -> Mapping[str, int]:
    """Return the fixed versions by name of the pair; the newest ones, if none were fixed."""
    settled = await _settled(blobs, job)
    return versions(await blobs.names(job)) if settled is None else settled


async def _settled(blobs: Blobs, job: str) -> dict[str, int] | None:
    try:
        settled: dict[str, int] = json.loads(await blobs.get(job, _USED))
    except NotFound:
        return None
    return settled


async def used(blobs: Blobs, job: str, name: str, settled: Mapping[str, int]) -> bytes:
    """Return the label file of a pair that the calibration is made with; NotFound without one."""
    if name not in settled:
        raise NotFound(f"The pair {name!r} has no label.")
    return await blobs.get(job, _file(settled[name], name))


async def save(blobs: Blobs, job: str, name: str, data: bytes, *, seen: int | None) -> int:
    """Store the next version of the label of a pair, and return its number.

    seen: the version that it was drawn on, 0 for none; None: whatever there is.

    Raises:
        Superseded: there is a newer version than the one seen; nothing was stored.
    """
    if seen is not None:
        # Versions have no gaps: if this one exists and the next does not, it is the newest.
        known = seen == 0 or await blobs.has(job, _file(seen, name))
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
    # The number is part of a file name, whose length is limited (`arrange.MAX_NAME_BYTES`).
    if version > 99_999:
        raise Conflict(f"The label of {name!r} was saved too often.")
    return await blobs.create(job, _file(version, name), data)


async def _newest(blobs: Blobs, job: str, name: str) -> int:
    """The newest version, 0 for none, without a listing, which takes long in a large set."""
    # Versions have no gaps; a page saves one at every pause of the hand.
    there, missing = 0, 1
    while await blobs.has(job, _file(missing, name)):
        there, missing = missing, 2 * missing
    while missing - there > 1:
        middle = (there + missing) // 2
        if await blobs.has(job, _file(middle, name)):
            there = middle
        else:
            missing = middle
    return there


def _file(version: int, name: str) -> str:
    return f"{FIRST}/{name}" if version == 1 else f"{FIRST}.{version}/{name}"
