"""The labels that people draw on the predictions of a calibration's pairs.

Every save of a label is a new version, and the newest counts. So that two
annotators cannot overwrite each other unseen, a version is a file that is never replaced: a save
names the version it was drawn on, and only one save per version creates the next. Versions are
removed with the job's files.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from trustscale_server.calibrating.intake import Files
from trustscale_server.calibrating.layout import NamedFile, claimed_predictions, place_of
from trustscale_server.calibrating.pairs import decode_label
from trustscale_server.calibrating.records import AwaitsLabel, PairState, load_record
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibrating.unusable import bad_pairs
from trustscale_server.images.png import to_png
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.errors import BadImage, BadInput, Conflict, NotFound, Superseded
from trustscale_server.platform.tasks import few_at_once
from trustscale_server.stores.base import Blobs, JobState, JobStatus, Stores

FIRST = "labels"
"""The folder of the first versions, drawn here or uploaded with the pairs."""

_USED = "labels-used.json"

# The number is part of a file name, whose length is limited (`layout.MAX_NAME_BYTES`).
_MAX_VERSIONS = 99_999


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
    if version > _MAX_VERSIONS:
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
        for spec in CalibrationRequest.from_job(await self.stores.jobs.load(job.id)).pairs:
            version, data = labelled.get(spec.name), records.get(spec.name)
            record = load_record(data) if data else None
            pair = WaitingPair(
                name=spec.name,
                state=record.state if record else "queued",
                labelled=version is not None,
                label_version=version,
            )
            if isinstance(record, AwaitsLabel):
                pair.width, pair.height = record.info.width, record.info.height
                pair.prediction_sha256 = record.prediction_sha256
            pairs.append(pair)
        return pairs

    async def put(
        self, job: JobStatus, name: str, data: bytes, actor: str, *, seen: int | None = None
    ) -> int:
        """Store the next version of a label, while the job waits for labels; its number.

        Raises:
            Conflict: the job does not wait for labels.
            Superseded: there is a newer version than the one seen.
            BadImage: not an image of the prediction's size.
        """
        waiting = (await self._waiting(job)).get(name)
        if waiting is None:
            raise NotFound(f"No pair {name!r} awaits a label.")
        try:
            version = await self._put(job, waiting, data, seen)
        except BadImage as error:
            raise BadImage(f"The {error.detail.rstrip('.')}.") from error
        await self.stores.audit.append(
            "calibration.label", actor, {"job": job.id, "pair": name, "version": version}
        )
        return version

    async def put_all(self, job: JobStatus, files: Files, actor: str) -> None:
        """Store many labels; bad ones do not keep the good ones out.

        Raises:
            Conflict: the job does not wait for labels.
            BadPairs: labels that cannot be used, or were drawn on other predictions; each is named.
        """
        waiting = await self._waiting(job)
        items: dict[int, dict[str, str]] = {}  # by the place among the files
        claimed = await asyncio.to_thread(_claimed, files())
        iterator, total = iter(files()), 0

        async def keep(place: int, pair: AwaitsLabel, data: bytes) -> None:
            try:
                await self._put(job, pair, data)
            except BadInput as error:
                items[place] = {"name": pair.info.name, "reason": error.detail.rstrip(".")}

        async with few_at_once() as start:
            while (sent := await asyncio.to_thread(next, iterator, None)) is not None:
                total += 1
                match _of_file(sent, waiting, claimed):
                    case AwaitsLabel() as pair:
                        await start(keep(total, pair, sent.read()))
                    case dict(reason):
                        items[total] = reason
        if items:
            raise bad_pairs([items[place] for place in sorted(items)], total)
        await self.stores.audit.append("calibration.labels", actor, {"job": job.id})

    async def _waiting(self, job: JobStatus) -> dict[str, AwaitsLabel]:
        _check_awaits(job)
        records = [
            (name, load_record(data)) async for name, data in self.stores.jobs.records(job.id)
        ]
        return {name: pair for name, pair in records if isinstance(pair, AwaitsLabel)}

    async def _put(
        self, job: JobStatus, pair: AwaitsLabel, data: bytes, seen: int | None = None
    ) -> int:
        shape = (pair.info.height, pair.info.width)
        label = await asyncio.to_thread(decode_label, data, shape)
        png = await asyncio.to_thread(to_png, label)
        version = await save(self.stores.blobs, job.id, pair.info.name, png, seen=seen)
        if await is_late(self.stores.blobs, job.id, pair.info.name, version):
            raise Conflict("The labels were finished before this one came; it does not count.")
        await self.stores.jobs.touch(job.id)
        return version

    async def finish(self, job: JobStatus, actor: str) -> JobStatus:
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
        resumed = await self.queue.resume(job.id)
        await self.stores.audit.append("calibration.finish", actor, {"job": job.id})
        return resumed


def _check_awaits(job: JobStatus) -> None:
    if job.state is not JobState.AWAITING_LABELS:
        raise Conflict(f"Labels are taken while the job awaits them; it is {job.state}.")


def _claimed(files: Iterable[NamedFile]) -> dict[str, str]:
    """By pair, the digests of the predictions that labels were drawn on, if the files say so."""
    return next((claimed_predictions(sent.read()) for sent in files if sent.is_predictions), {})


def _of_file(
    sent: NamedFile, waiting: Mapping[str, AwaitsLabel], claimed: Mapping[str, str]
) -> AwaitsLabel | dict[str, str] | None:
    """The pair that a file labels, or why there is none; None for the list of predictions."""
    place = place_of(sent.path)
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
