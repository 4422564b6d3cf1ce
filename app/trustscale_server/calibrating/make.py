"""All pairs of a calibration job make the calibration, which is activated if that was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from msgspec.structs import asdict

from trustscale_server.calibrating import labels, pair_pictures, semantic
from trustscale_server.calibrating.deferred import fit_and_measure
from trustscale_server.calibrating.packing import unpack
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibrating.records import (
    AwaitsFit,
    AwaitsLabel,
    MeasuredRecord,
    ToFitOn,
    Unusable,
    load_record,
)
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibrating.unusable import bad_pairs
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.calibration.manifest import Provenance
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.jobs.handler import JobContext
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.job_status import Job, JobState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationMaker:
    """Makes calibrations of what jobs have recorded, and stores them.

    path_prefix: of the paths that jobs name.
    """

    calibrations: Calibrations
    blobs: Blobs
    canaries: CanaryStore
    keeps_pictures: bool
    path_prefix: str

    async def make(
        self,
        job: Job,
        request: CalibrationRequest,
        context: JobContext,
        load: Callable[[str], Awaitable[Pair]],
    ) -> str:
        """Make the calibration and return its path, or `awaiting_labels`; `load` gives a pair."""
        recorded = await self._recorded(job.id, request, context)
        if recorded is None:
            return JobState.AWAITING_LABELS
        pipeline, late = await fit_and_measure(
            self.blobs, job.id, request, recorded.to_fit_on, recorded.waiting, load
        )
        measured = [
            _named(pair, request.pair(pair.info.name)) for pair in (*recorded.measured, *late)
        ]
        calibration = await self._calibration(
            request, pipeline, measured, recorded.skipped, job.created_at
        )
        await self.calibrations.add(calibration, activate=False)
        await self.canaries.publish(
            job.id,
            calibration.id,
            fingerprint=pipeline.fingerprint,
            samples=pipeline.samples,
            parent=request.parent,
        )
        if self.keeps_pictures:
            await pair_pictures.link(self.blobs, job.id, calibration.id, parent=request.parent)
        return await self._finished(request, calibration, job.id)

    async def make_again(self, job: str, request: CalibrationRequest) -> str:
        """Make the calibration of pairs that another one has measured; return its path.

        Names and the guarantee may be others.
        """
        known = await self.calibrations.stored(str(request.done))
        changed = {"note": _note(request), "attributions": request.config.attributions}
        fields = {
            **{name: value for name, value in known.manifest if name != "pairs"},
            **request.config.manifest_fields(),
            "provenance": known.manifest.provenance.model_copy(update=changed),
        }

        def renamed() -> Calibration:
            pairs = [_named(pair, request.pair(pair.info.name)) for pair in known.measured_pairs()]
            return Calibration.from_pairs(pairs, **fields)

        calibration = await asyncio.to_thread(renamed)
        if calibration.id != known.id:
            await self.canaries.inherit(known.id, calibration.id)
            await pair_pictures.inherit(self.blobs, known.id, calibration.id)
            await self.calibrations.add(calibration, activate=False)
        return await self._finished(request, calibration, job)

    async def _recorded(
        self, job: str, request: CalibrationRequest, context: JobContext
    ) -> Recorded | None:
        """What became of the pairs; None while labels are missing."""
        recorded = Recorded(skipped=[*request.skipped])
        settled = await labels.frozen(self.blobs, job)
        lacks_labels = False
        async for name, data in context.records():
            match load_record(data):
                case MeasuredRecord(pair):
                    recorded.measured.append(unpack(pair))
                case AwaitsLabel(info) if name in settled:
                    recorded.measured.append(
                        await semantic.labelled(self.blobs, job, request, info, settled)
                    )
                case AwaitsLabel():
                    lacks_labels = True
                case ToFitOn():
                    recorded.to_fit_on.append(name)
                case AwaitsFit():
                    recorded.waiting.append(name)
                case Unusable() as unusable:
                    if (item := asdict(unusable)) not in recorded.skipped:  # another variant's
                        recorded.skipped.append(item)
        return None if lacks_labels else recorded

    async def _calibration(
        self,
        request: CalibrationRequest,
        pipeline: MeasurementSpec,
        measured: list[MeasuredPair],
        skipped: list[dict[str, str]],
        created_at: datetime,
    ) -> Calibration:
        if request.parent is not None:
            parent = await self.calibrations.get(request.parent)
            measured = [*parent.measured_pairs(), *measured]
            skipped = [*parent.manifest.skipped, *skipped]
        if not measured:
            raise bad_pairs(skipped, len(skipped))
        return await asyncio.to_thread(
            Calibration.from_pairs,
            measured,
            **request.config.manifest_fields(),
            upscaler=request.upscaler,
            pipeline=pipeline,
            skipped=skipped,
            provenance=Provenance(
                created_by=request.created_by,
                parent=request.parent,
                note=_note(request),
                attributions=request.config.attributions,
                settings=request.settings,
                enlarged_by=request.enlarged_by,
                request=request.key,
            ),
            created_at=created_at,
        )

    async def _finished(
        self, request: CalibrationRequest, calibration: Calibration, job: str
    ) -> str:
        """Activate it if asked, unless that would serve worse; return its path."""
        await self.calibrations.report(calibration)
        if request.config.activate:
            changes = await self.calibrations.changes(calibration, force=True)
            if changes.is_worse and not request.config.force:
                log.warning(
                    "calibration_not_activated", calibration=calibration.id, why=str(changes)
                )
            else:
                await self.calibrations.switch(calibration, job=job)
        return f"{self.path_prefix}/v1/admin/calibrations/{calibration.id}"


@dataclass(slots=True)
class Recorded:
    """What became of the pairs of a job.

    to_fit_on, waiting: names of pairs that σ is fitted on, and that wait for it.
    """

    skipped: list[dict[str, str]]
    measured: list[MeasuredPair] = field(default_factory=list)
    to_fit_on: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


def _note(request: CalibrationRequest) -> str | None:
    return "\n".join(filter(None, (request.config.note, request.fit_split.note))) or None


def _named(pair: MeasuredPair, source: PairSource) -> MeasuredPair:
    """The pair with its group and scene, which may have been renamed."""
    info = pair.info.model_copy(update={"group": source.group, "scene": source.scene})
    return replace(pair, info=info)
