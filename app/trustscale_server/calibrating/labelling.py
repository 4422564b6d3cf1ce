"""What admins do with the labels of a job: they list, store and finish them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from trustscale_server.calibrating.intake.layout import NamedFile, claimed_predictions, place_of
from trustscale_server.calibrating.intake.take_in import NamedFiles
from trustscale_server.calibrating.labels import freeze, is_late, save, versions
from trustscale_server.calibrating.pair_files import decode_label
from trustscale_server.calibrating.records import AwaitsLabel, PairState, load_record
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibrating.unusable import bad_pairs
from trustscale_server.images.encoding.png import to_png
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.errors import BadImage, BadInput, Conflict, NotFound
from trustscale_server.platform.tasks import few_at_once
from trustscale_server.platform.telemetry.logs import log_action
from trustscale_server.stores.job_status import JobState, JobStatus
from trustscale_server.stores.opened import Stores


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
    """Lists, stores and finishes the labels of jobs."""

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
        """Store the next version of a label while the job waits for labels; return its number.

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
        log_action("calibration.label", actor, job=job.id, pair=name, version=version)
        return version

    async def put_all(self, job: JobStatus, files: NamedFiles, actor: str) -> None:
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
            while (file := await asyncio.to_thread(next, iterator, None)) is not None:
                total += 1
                match _labelled_by(file, waiting, claimed):
                    case AwaitsLabel() as pair:
                        await start(keep(total, pair, file.read()))
                    case dict(reason):
                        items[total] = reason
        if items:
            raise bad_pairs([items[place] for place in sorted(items)], total)
        log_action("calibration.labels", actor, job=job.id)

    async def _waiting(self, job: JobStatus) -> dict[str, AwaitsLabel]:
        _raise_unless_awaited(job)
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
        await self.stores.job_retention.touch(job.id)
        return version

    async def finish(self, job: JobStatus, actor: str) -> JobStatus:
        """Resume a job whose labels are complete.

        Raises:
            Conflict: it does not await labels.
            BadPairs: labels are missing; each is named.
        """
        _raise_unless_awaited(job)
        missing = [
            {"name": pair.name, "reason": "the label is missing"}
            for pair in await self.pairs(job)
            if pair.state == "awaiting_label" and not pair.labelled
        ]
        if missing:
            raise bad_pairs(missing, len(missing))
        await freeze(self.stores.blobs, job.id)
        resumed = await self.queue.resume(job.id)
        log_action("calibration.finish", actor, job=job.id)
        return resumed


def _raise_unless_awaited(job: JobStatus) -> None:
    if job.state is not JobState.AWAITING_LABELS:
        raise Conflict(f"Labels are taken while the job awaits them; it is {job.state}.")


def _claimed(files: Iterable[NamedFile]) -> dict[str, str]:
    """By pair, the digests of the predictions that labels were drawn on, if the files say so."""
    return next((claimed_predictions(file.read()) for file in files if file.is_predictions), {})


def _labelled_by(
    file: NamedFile, waiting: Mapping[str, AwaitsLabel], claimed: Mapping[str, str]
) -> AwaitsLabel | dict[str, str] | None:
    """The pair that a file labels, or why there is none; None for the list of predictions."""
    place = place_of(file.path)
    if place is None:
        return None if file.is_predictions else {"name": file.path, "reason": "not an image"}
    if place.role not in {None, "labels"}:
        return {"name": place.name, "reason": f"{place.role}/ holds no labels"}
    if place.reason:
        return {"name": file.path, "reason": place.reason}
    name = place.name if place.role else place.stem
    pair = waiting.get(name)
    if pair is None:
        return {"name": name, "reason": "no such pair awaits a label"}
    if claimed.get(name, pair.prediction_sha256) != pair.prediction_sha256:
        return {"name": name, "reason": "the label was not drawn on this prediction"}
    return pair
