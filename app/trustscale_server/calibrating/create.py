"""A calibration is asked for: pairs are checked, priced and stored, and the job is queued.

What a calibration would take (`CalibrationCreator.plan`) is known by the same steps.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Unpack

from pydantic import BaseModel, Field

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.costs import Costs, PairCosts
from trustscale_server.calibrating.fit import is_fitted_on
from trustscale_server.calibrating.intake.find import find_pairs
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.calibrating.intake.near_duplicates import alike_in_words
from trustscale_server.calibrating.intake.take_in import IntakeOptions, NamedFiles, take_in
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibrating.unusable import raise_if_bad_pairs
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.errors import BadCalibration, BadPairs, Conflict, NotFound
from trustscale_server.platform.tasks import few_at_once
from trustscale_server.platform.telemetry.logs import log_action
from trustscale_server.sampling.spec import (
    identify,
    raise_if_pipeline_differs,
    raise_if_unmeasurable,
)
from trustscale_server.stores.job_status import JOB_PREFIX, Job, JobStatus
from trustscale_server.stores.opened import Stores
from trustscale_server.stores.uploads import uploads_for
from trustscale_server.upscalers.base import SUPPLIED, Upscaler, named


class Plan(BaseModel):
    """What a calibration would take; nothing is stored or generated for it."""

    pictures: int = Field(description="How many pictures can be used.")
    pairs: int = Field(description="How many pairs they make, each as several kinds of upload.")
    calls: int = Field(
        description="The calls of the upscaler, with those for canaries and without retries; none "
        "for measured pairs."
    )
    price: float | None = Field(
        description="The price of these calls, if that of one is configured."
    )
    estimate_s: float | None = Field(
        description="How long the calls will take, by earlier ones, in seconds; null if "
        "none was measured yet."
    )
    done: str | None = Field(
        description="The calibration in which all of these pairs are measured already."
    )
    skipped: list[dict[str, str]] = Field(description="Pictures that cannot be used, and why.")
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Submission:
    """What an admin sends to calibrate with.

    naming, table: name groups and scenes (`find.find_pairs`).
    parent: a calibration that is extended; only new pairs are then generated.
    """

    files: NamedFiles
    created_by: str
    naming: GroupingRule = field(default_factory=GroupingRule)
    table: bytes | None = None
    parent: Calibration | None = None


class CheckedRequest(NamedTuple):
    """A job's request, warnings, and the mean pixels of X."""

    request: CalibrationRequest
    warnings: list[str]
    pixels: float


@dataclass(frozen=True, slots=True)
class CalibrationCreator:
    """Begins the jobs that make calibrations, or extend them."""

    upscalers: Mapping[str, Upscaler]
    default: str
    calibrations: Calibrations
    stores: Stores
    queue: JobQueue
    costs: Costs = field(default_factory=Costs)

    async def create(
        self, config: CalibrationConfig, submission: Submission, *, webhook: str | None = None
    ) -> JobStatus:
        """Check and store the pairs, then queue the job; a parent's config is its own.

        Raises:
            BadPairs: some pairs cannot be used and the config says "fail", or none can.
            BadRequest: the config asks for what the upscaler cannot do.
            CalibrationMismatch: the upscaler is no longer the parent's.
            Conflict: X of the new pairs would be made unlike X of the parent's.
        """
        job, parent = await self.begin(config, submission, webhook), submission.parent
        action, about = "calibration.create", {"job": job.id}
        if parent is not None:
            action, about = "calibration.extend", {"parent": parent.id, **about}
        log_action(action, submission.created_by, **about)
        return job

    async def begin(
        self, config: CalibrationConfig, submission: Submission, webhook: str | None
    ) -> JobStatus:
        """Check and store the pairs, and queue the job: what `create` does but for the log.

        Raises as `create`. A creator that keeps files elsewhere has a `begin` of its own.
        """
        job_id = f"{JOB_PREFIX}{secrets.token_urlsafe(15)}"

        async with uploads_for(self.stores, job_id):
            async with few_at_once() as start:

                async def keep(name: str, data: bytes) -> None:
                    await start(self.stores.blobs.put(job_id, name, data))

                checked = await self.check(config, submission, keep=keep)
            begun = await self.queue.submit(await self.job_of(checked, job_id, webhook=webhook))
        try:  # from now on the job keeps others from deleting its parent
            if submission.parent is not None:
                await self.calibrations.stored(submission.parent.id)
        except NotFound as error:
            await self.queue.cancel(job_id)
            raise Conflict("The calibration was deleted while the pairs came.") from error
        return begun

    async def job_of(
        self,
        checked: CheckedRequest,
        job_id: str,
        *,
        webhook: str | None,
        measured: Collection[str] = (),
    ) -> Job:
        """Return the job of this id; its costs leave out the pairs that are `measured`."""
        request = checked.request
        costs = (await self._costs(checked, measured))._asdict()
        return request.as_job(job_id, webhook=webhook, warnings=checked.warnings, **costs)

    async def fitted_on(
        self, config: CalibrationConfig, photographs: Mapping[str, str]
    ) -> set[str]:
        """Return which of these photographs σ of such a calibration was fitted on.

        photographs: the digest of the pixels of each (`image_digest`), by any name.

        Raises:
            NotFound, BadRequest, UpscalerUnavailable: as `create`.
        """
        sigma = config.pipeline(await self._identified(config.upscaler)).indecision
        return {name for name, digest in photographs.items() if is_fitted_on(sigma, digest)}

    async def plan(self, config: CalibrationConfig, submission: Submission) -> Plan:
        """Return what `create` with the same arguments would take. Raises as it does."""
        return await self.plan_of(await self.check(config, submission), ())

    async def plan_of(self, checked: CheckedRequest, measured: Collection[str]) -> Plan:
        """Return what a checked request would take without `measured` pairs."""
        costs, request = await self._costs(checked, measured), checked.request
        return Plan(
            pictures=len({pair.upload for pair in request.pairs}),
            pairs=len(request.pairs),
            calls=costs.calls,
            price=costs.price,
            estimate_s=costs.estimate_s,
            done=request.done,
            skipped=request.skipped,
            warnings=checked.warnings,
        )

    async def _costs(self, checked: CheckedRequest, measured: Collection[str]) -> PairCosts:
        request, upscaler = checked.request, self.upscalers[checked.request.upscaler]
        left = set() if request.done else {*request.names} - {*measured}
        repeated = set[str]()
        if left and self.costs.repeats(upscaler):
            canaries = CanaryStore(self.stores.blobs, self.stores.canary_states)
            repeated = left & {*await canaries.wanted(request.names, request.parent)}
        return await self.costs.estimate(
            upscaler,
            request.pipeline,
            pairs=len(left),
            pixels=checked.pixels,
            repeated=len(repeated),
        )

    async def _done(self, request: CalibrationRequest) -> CalibrationRequest:
        """The request, with the calibration that has measured all of it already, if there is one.

        New labels or pairs make a new one.
        """
        if request.parent is not None or request.pipeline.fidelity.spec.needs_label:
            return request
        for head in await self.stores.calibrations.heads(request.upscaler):
            with suppress(BadCalibration, NotFound):
                known = await self.calibrations.get(head.id)
                if known.manifest.provenance.request == request.key:
                    return request.model_copy(update={"done": head.id})
        return request

    async def check(
        self, config: CalibrationConfig, submission: Submission, **options: Unpack[IntakeOptions]
    ) -> CheckedRequest:
        """Return the request of a job for the pairs that can be used. Raises as `create`."""
        parent = submission.parent
        arranged = await asyncio.to_thread(
            lambda: find_pairs(submission.files(), submission.naming, submission.table)
        )
        known = parent.manifest.pairs if parent else ()
        upscaler = await self._identified(config.upscaler)
        if parent is not None:
            raise_if_pipeline_differs(parent.pipeline, upscaler)
        _check_supplied(upscaler, arranged.pairs)
        pipeline = parent.pipeline if parent else config.pipeline(upscaler)
        raise_if_unmeasurable(pipeline.fidelity)
        intake = await take_in(submission.files, arranged, pipeline, known=known, **options)
        raise_if_bad_pairs(intake.skipped, len(intake.usable), config.on_bad_pair)
        if parent is not None:
            _check_same_origin(parent, given="x" in intake.usable[0].sha256)
        request = CalibrationRequest.from_uploads(
            config,
            pipeline,
            upscaler,
            intake.usable,
            skipped=intake.skipped,
            created_by=submission.created_by,
            parent=parent.id if parent else None,
        )
        alike = [alike_in_words(pairs) for pairs in intake.alike]
        return CheckedRequest(await self._done(request), alike, intake.pixels)

    async def _identified(self, name: str | None) -> Upscaler:
        upscaler = named(self.upscalers, name, self.default)
        await identify(upscaler)
        return upscaler


def _check_supplied(upscaler: Upscaler, pairs: Sequence[PairSource]) -> None:
    """Raise BadPairs unless enlarged pictures come with the pairs where they must."""
    is_given = any("enlarged" in pair.paths for pair in pairs)
    if is_given and upscaler.kind != SUPPLIED:
        raise BadPairs(
            f"The upscaler {upscaler.name!r} makes its own pictures: send no enlarged/, or name an "
            "upscaler of the kind supplied.",
            items=[],
        )
    if pairs and upscaler.kind == SUPPLIED and not is_given:
        raise BadPairs(
            f"The upscaler {upscaler.name!r} has no address: send what it made of x/, too, in "
            "enlarged/.",
            items=[],
        )


def _check_same_origin(parent: Calibration, *, given: bool) -> None:
    """Pairs whose X was made in different ways must not share a calibration."""
    if given and parent.manifest.degradation is not None:
        raise Conflict("X of its pairs was made by a degradation: send only y.")
    if not given and parent.manifest.degradation is None:
        raise Conflict("X of its pairs was given: send x and y.")
