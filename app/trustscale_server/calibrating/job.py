"""The calibration job: one task per pair, on all job workers; then `make.py` makes the calibration.

A task ends in a checkpoint: the measured pair, a pair that waits for its label (semantic metric),
or an unusable pair, with the reason. With labels missing the job ends in `awaiting_labels`, until
the admin has drawn them.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog
from msgspec.structs import asdict

from trustscale_server.calibrating import pair_pictures, semantic
from trustscale_server.calibrating.deferred import drawn
from trustscale_server.calibrating.make import CalibrationMaker
from trustscale_server.calibrating.measure import PairTask
from trustscale_server.calibrating.packing import pack
from trustscale_server.calibrating.pair_source import Role
from trustscale_server.calibrating.pairs import Pair, Truths, load_pair
from trustscale_server.calibrating.records import MeasuredRecord, PairRecord, Unusable, dump_record
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibrating.unusable import bad_pairs
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.canary_store import CanaryStore, CanaryTaker
from trustscale_server.jobs.handler import JobContext
from trustscale_server.platform.errors import BadInput, BadPairs, NotFound
from trustscale_server.sampling.kept_samples import KeptSamples, samples_named
from trustscale_server.sampling.measure import Measurement
from trustscale_server.sampling.spec import identify
from trustscale_server.sampling.throughput import PAIRS, Throughput
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.canary_states import CanaryStates
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import Job
from trustscale_server.stores.uploads import folder_of_samples
from trustscale_server.upscalers.base import Upscaler

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class CalibrationHandler:
    """Runs calibration jobs (`trustscale_server.jobs.tasks.FanOut`).

    watched: upscalers whose calibrations keep canaries.
    path_prefix: of the paths that jobs name.
    """

    upscalers: Mapping[str, Upscaler]
    calibrations: Calibrations
    blobs: Blobs
    states: CanaryStates
    watched: Collection[str] = ()
    keeps_pictures: bool = True
    throughput: Throughput = field(default_factory=Throughput)
    truths: Truths = field(default_factory=Truths)
    path_prefix: str = ""
    _running: int = field(default=0, init=False)
    _requests: OrderedDict[tuple[str, datetime], CalibrationRequest] = field(
        default_factory=OrderedDict, init=False
    )

    async def tasks(self, job: Job) -> Sequence[str]:
        """Return one task per pair that is not measured yet."""
        request = await self._request(job)
        return [] if request.done else request.names

    async def run(self, job: Job, task: str) -> bytes:
        """Generate for one pair and reduce it."""
        request = await self._request(job)
        upscaler = self.upscalers.get(request.upscaler)
        if upscaler is None:
            raise NotFound(f"The upscaler {request.upscaler!r} is no longer configured.")
        await identify(upscaler)
        record: PairRecord
        self._running += 1
        beside, started = self._running, time.perf_counter()
        try:
            pair = await self._load(job.id, request, task)
            samples_of = KeptSamples(upscaler, self.blobs, folder_of_samples(job.id), task)
            canary = await self._canary(job.id, request, task)
            record = await self._record(PairTask(job.id, request, pair, samples_of, canary))
            # Those beside it took their share of the time.
            seconds = (time.perf_counter() - started) / max(beside, self._running)
            height, width, _ = pair.x.shape
            samples = request.pipeline.samples
            self.throughput.note(samples_of, height * width, samples, seconds, PAIRS)
        except BadInput as error:
            record = Unusable(request.pair(task).upload, error.detail.rstrip("."))
            if request.config.on_bad_pair == "fail":
                raise bad_pairs([asdict(record)], len(request.pairs)) from error
        finally:
            self._running -= 1
        return dump_record(record)

    async def after_recording(self, job: Job, task: str) -> None:
        """Delete the samples of a pair once it is measured."""
        with suppress(StoreUnavailable):  # they go with the job
            await self.blobs.delete(folder_of_samples(job.id), samples_named(task))

    async def _record(self, task: PairTask) -> PairRecord:
        record: PairRecord
        if task.request.pipeline.fidelity.spec.needs_label:
            record, measurement = await semantic.awaiting_label(self.blobs, task)
        elif task.request.fit_split.fitted:
            record, measurement = await drawn(self.blobs, task)
        else:
            measurement = await task.measure()
            record = MeasuredRecord(await asyncio.to_thread(_packed, task, measurement))
        if self.keeps_pictures:
            pair, prediction = task.pair, measurement.prediction
            await pair_pictures.keep(self.blobs, task.job, pair.name, pair.x, prediction)
        return record

    async def reduce(self, job: Job, context: JobContext) -> str:
        """Make the calibration, or wait for labels."""
        request = await self._request(job)
        maker = CalibrationMaker(
            self.calibrations, self.blobs, self._canaries, self.keeps_pictures, self.path_prefix
        )
        if request.done is not None:
            return await maker.make_again(job.id, request)
        return await maker.make(job, request, context, partial(self._load, job.id, request))

    @property
    def _canaries(self) -> CanaryStore:
        return CanaryStore(self.blobs, self.states)

    async def _request(self, job: Job) -> CalibrationRequest:
        """The request of a job, which may have thousands of pairs: checked once, in a thread."""
        key = (job.id, job.created_at)  # a job that is made anew has another time
        if key not in self._requests:
            self._requests[key] = await asyncio.to_thread(_checked, job)
            while len(self._requests) > 4:  # of some megabytes each
                self._requests.popitem(last=False)
        return self._requests[key]

    async def _canary(self, job: str, request: CalibrationRequest, name: str) -> CanaryTaker | None:
        if request.upscaler not in self.watched:
            return None
        if name not in await self._canaries.wanted(request.names, request.parent):
            return None
        return CanaryTaker(self.blobs, job, name)

    async def _load(self, job: str, request: CalibrationRequest, name: str) -> Pair:
        source = request.pair(name)
        files: dict[Role, bytes] = {
            role: await self.blobs.get(job, f"{role}/{source.upload}")
            for role in source.sha256
            if role != "labels"
        }

        def loaded() -> Pair:
            # What was checked is what is measured.
            for role, data in files.items():
                if hashlib.sha256(data).hexdigest() != source.sha256[role]:
                    raise BadPairs("its files were changed after they were checked", items=[])
            return load_pair(
                source,
                files,
                request.pipeline,
                degradation=request.config.degradation,
                seed=request.config.seed,
                truths=self.truths,
            )

        return await asyncio.to_thread(loaded)


def _packed(task: PairTask, measurement: Measurement) -> bytes:
    return pack(reduce_pair(task.pair, measurement, task.request.pipeline))


def _checked(job: Job) -> CalibrationRequest:
    request = CalibrationRequest.from_job(job)
    _ = request.fit_split  # which takes as long
    return request
