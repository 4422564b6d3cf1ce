"""What people see and draw of a calibration's pairs, and when it is removed.

Of the labels that people draw every save is a new version, and the newest counts. So that two
annotators cannot overwrite each other unseen, a version is a file that is never replaced: a save
names the version it was drawn on, and only one save per version creates the next. Versions are
removed with the job's files.

The pictures of the pairs are for people, as long as the job's uploads are kept. Until then X as the
upscaler got it, Y as uploaded and the prediction can be shown; the calibration's key lists the jobs
that measured its pairs.

What a crash left between two writes or removals is removed, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from pydantic import BaseModel

from trustscale_server.calibration import canaries
from trustscale_server.calibration.config import CalibrationRequest
from trustscale_server.calibration.intake import Files
from trustscale_server.calibration.layout import NamedFile, claimed_predictions, placed
from trustscale_server.calibration.measure import PairState, Unlabelled, record_state, unlabelled
from trustscale_server.calibration.pairs import bad_pairs, decode_label
from trustscale_server.errors import BadImage, BadInput, Conflict, NotFound, Superseded
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.encode import to_png
from trustscale_server.images.sandbox import decoding
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.stores import repositories
from trustscale_server.stores.base import UPLOADS, Blobs, JobState, JobStatus, Stores, few_at_once
from trustscale_server.upscalers.base import RGB

# --- Labels that people draw: every save is a new version, the newest counts; and what admins do.

FIRST = "labels"
"""The folder of the first versions, drawn here or uploaded with the pairs."""

_USED = "labels-used.json"

# The number is part of a file name, whose length is limited (`layout.MAX_NAME_BYTES`).
MOST_VERSIONS = 99_999


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
    # A save then checks whether labels are settled, so one that this misses twice is known as late.
    while (present := versions(await blobs.names(job))) != settled:
        await blobs.put(job, _USED, json.dumps(present).encode())
        settled = present


async def is_late(blobs: Blobs, job: str, name: str, version: int) -> bool:
    """Return whether the labels were fixed without this version."""
    try:
        settled: dict[str, int] = json.loads(await blobs.get(job, _USED))
    except NotFound:
        return False
    return settled.get(name) != version


async def frozen(blobs: Blobs, job: str) -> Mapping[str, int]:
    """Return the fixed versions by name of the pair; the first ones, if none were fixed."""
    try:
        settled: dict[str, int] = json.loads(await blobs.get(job, _USED))
    except NotFound:
        return versions(await blobs.names(job))
    return settled


async def used(blobs: Blobs, job: str, name: str, settled: Mapping[str, int]) -> bytes:
    """Return the label file of a pair that the calibration is made with; NotFound without one."""
    if name not in settled:
        raise NotFound(f"The pair {name!r} has no label.")
    return await blobs.get(job, _file(settled[name], name))


async def save(blobs: Blobs, job: str, name: str, data: bytes, *, seen: int | None) -> int:
    """Store the next version of the label of a pair; its number.

    `seen`: the version that it was drawn on, 0 for none; None: whatever there is.

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
    if version > MOST_VERSIONS:
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


class WaitingPair(BaseModel):
    """A pair of a job; sizes and digest are known once its prediction is made."""

    name: str
    state: PairState
    labelled: bool
    label_version: int | None
    width: int | None = None
    height: int | None = None
    prediction_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Labelling:
    """The labels of one job: lists, stores and finishes them."""

    stores: Stores
    queue: JobQueue

    async def pairs(self, job: JobStatus) -> list[WaitingPair]:
        """Return the pairs of a job, each measured, labelled, or waiting for its label."""
        labelled = versions(await self.stores.blobs.names(job.id))
        records = {name: data async for name, data in self.stores.jobs.records(job.id)}
        pairs = []
        for spec in CalibrationRequest.of(await self.stores.jobs.load(job.id)).pairs:
            version, record = labelled.get(spec.name), records.get(spec.name)
            pair = WaitingPair(
                name=spec.name,
                state=record_state(record) if record else "queued",
                labelled=version is not None,
                label_version=version,
            )
            if record and (drawn := unlabelled(record)):
                pair.width, pair.height = drawn.info.width, drawn.info.height
                pair.prediction_sha256 = drawn.prediction_sha256
            pairs.append(pair)
        return pairs

    async def put(self, job: JobStatus, name: str, data: bytes, *, seen: int | None = None) -> int:
        """Store the next version of a label, while the job waits for labels.

        Raises:
            Conflict: the job does not wait for labels.
            Superseded: there is a newer version than the one seen.
            BadImage: not an image of the prediction's size.
        """
        waiting = (await self._waiting(job)).get(name)
        if waiting is None:
            raise NotFound(f"No pair {name!r} awaits a label.")
        try:
            return await self._put(job, waiting, data, seen)
        except BadImage as error:
            raise BadImage(f"The {error.detail.rstrip('.')}.") from error

    async def put_all(self, job: JobStatus, files: Files) -> None:
        """Store many labels; bad ones do not keep the good ones out.

        Raises:
            Conflict: the job does not wait for labels.
            BadPairs: labels that cannot be used, or were drawn on other predictions; each is named.
        """
        waiting = await self._waiting(job)
        items: dict[int, dict[str, str]] = {}  # by the place among the files
        claimed = await asyncio.to_thread(_claimed, files())
        iterator, total = iter(files()), 0

        async def keep(place: int, pair: Unlabelled, data: bytes) -> None:
            try:
                await self._put(job, pair, data)
            except BadInput as error:
                items[place] = {"name": pair.info.name, "reason": error.detail.rstrip(".")}

        async with few_at_once() as start:
            while (sent := await asyncio.to_thread(next, iterator, None)) is not None:
                total += 1
                match _of_file(sent, waiting, claimed):
                    case Unlabelled() as pair:
                        await start(keep(total, pair, sent.read()))
                    case dict(reason):
                        items[total] = reason
        if items:
            raise bad_pairs([items[place] for place in sorted(items)], total)

    async def _waiting(self, job: JobStatus) -> dict[str, Unlabelled]:
        _check_awaits(job)
        records = [
            (name, unlabelled(data)) async for name, data in self.stores.jobs.records(job.id)
        ]
        return {name: pair for name, pair in records if pair is not None}

    async def _put(
        self, job: JobStatus, pair: Unlabelled, data: bytes, seen: int | None = None
    ) -> int:
        shape = (pair.info.height, pair.info.width)
        label = await asyncio.to_thread(decode_label, data, shape)
        png = await asyncio.to_thread(to_png, label)
        version = await save(self.stores.blobs, job.id, pair.info.name, png, seen=seen)
        if await is_late(self.stores.blobs, job.id, pair.info.name, version):
            raise Conflict("The labels were finished before this one came; it does not count.")
        await self.stores.jobs.touch(job.id)
        return version

    async def finish(self, job: JobStatus) -> JobStatus:
        """Resume a job whose labels are complete.

        Raises:
            Conflict: it does not await labels.
            BadPairs: labels are missing; each is named.
        """
        _check_awaits(job)
        missing = [
            {"name": pair.name, "reason": "the label is missing"}
            for pair in await self.pairs(job)
            if pair.state == "awaiting_label" and not pair.labelled
        ]
        if missing:
            raise bad_pairs(missing, len(missing))
        await freeze(self.stores.blobs, job.id)
        return await self.queue.resume(job.id)


def _check_awaits(job: JobStatus) -> None:
    if job.state is not JobState.AWAITING_LABELS:
        raise Conflict(f"Labels are taken while the job awaits them; it is {job.state}.")


def _claimed(files: Iterable[NamedFile]) -> dict[str, str]:
    """By pair, the digests of the predictions that labels were drawn on, if the files say so."""
    return next((claimed_predictions(sent.read()) for sent in files if sent.is_predictions), {})


def _of_file(
    sent: NamedFile, waiting: Mapping[str, Unlabelled], claimed: Mapping[str, str]
) -> Unlabelled | dict[str, str] | None:
    """The pair that a file labels, or why there is none; None for the list of predictions."""
    place = placed(sent.path)
    if place is None:
        return None if sent.is_predictions else {"name": sent.path, "reason": "not an image"}
    if place.role not in {None, "labels"}:
        return {"name": place.name, "reason": f"{place.role}/ holds no labels"}
    if place.reason:
        return {"name": sent.path, "reason": place.reason}
    name = place.name if place.role else place.stem
    pair = waiting.get(name)
    if pair is None:
        return {"name": name, "reason": "no such pair awaits a label"}
    if claimed.get(name, pair.prediction_sha256) != pair.prediction_sha256:
        return {"name": name, "reason": "the label was not drawn on this prediction"}
    return pair


# --- The pictures of the pairs, for people, as long as the job's uploads are kept.

Part = Literal["x", "y", "prediction"]

_STORED: Final[dict[Part, str]] = {"x": "x-shown", "y": "y", "prediction": "prediction"}
_JOBS: Final = "jobs.json"

KEY: Final = "pictures-"
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


async def of_job(blobs: Blobs, job: str, name: str, part: Part) -> bytes:
    """Return a picture of a pair of a job as a PNG file.

    Raises:
        NotFound: the pair is not measured yet, unknown, or its files have been removed.
    """
    try:
        data = await blobs.get(job, f"{_STORED[part]}/{name}")
    except NotFound:
        source, mark, _ = name.rpartition("~")
        if part != "y" or not mark:
            raise
        data = await blobs.get(job, f"{_STORED[part]}/{source}")  # the variants of one Y share it
    if data.startswith(b"\x89PNG"):
        return data
    return await asyncio.to_thread(to_png, (await decoding(decode, data, PAIR_LIMITS)).rgb)


async def of_calibration(blobs: Blobs, calibration: str, name: str, part: Part) -> bytes:
    """Return a picture of a pair as a PNG file; NotFound if none is kept."""
    for job in await _jobs(blobs, calibration):
        try:
            return await of_job(blobs, job, name, part)
        except NotFound:
            continue
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
        try:
            return await used(blobs, job, name, await frozen(blobs, job))
        except NotFound:
            continue
    raise NotFound(f"There is no label of the pair {name!r}, or no longer.")


async def _jobs(blobs: Blobs, calibration: str) -> list[str]:
    try:
        return [str(job) for job in json.loads(await blobs.get(_key(calibration), _JOBS))]
    except NotFound:
        return []


def _key(calibration: str) -> str:
    return f"{KEY}{calibration}"


# --- Removes files left by a crash between two writes or removals.

# Other keys are of runs from the command line.
_OF_JOBS: Final = "job-"
_OF_CALIBRATIONS: Final = (canaries.KEY, KEY)

# An upload without a job may still be arriving; none takes a day.
_ORPHAN_LIFE: Final = timedelta(days=1)


async def remove_orphans(stores: Stores) -> int:
    """Remove files older than a day whose job, result or calibration is unknown.

    Also uploads to the object store that no request has used.
    """
    removed = 0
    calibrations: set[str] | None = None
    for key in await stores.blobs.untouched(_ORPHAN_LIFE):
        if key.startswith(_OF_JOBS):
            known = await _is_job(stores, key.partition(".")[0])  # or samples of its task
        elif key.startswith(_OF_CALIBRATIONS):
            if calibrations is None:
                calibrations = {head.id for head in await stores.calibrations.heads()}
            known = any(key.removeprefix(prefix) in calibrations for prefix in _OF_CALIBRATIONS)
        elif key.startswith(repositories.KEY):
            known = await stores.results.holds(key)
        elif key.startswith(UPLOADS):
            known = False
        else:
            continue
        if not known:
            await stores.blobs.delete(key)
            removed += 1
    return removed


async def _is_job(stores: Stores, job: str) -> bool:
    try:
        await stores.jobs.get(job)
    except NotFound:
        return False
    return True
