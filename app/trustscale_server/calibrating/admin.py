"""What an admin does with calibrations: create, extend, derive, inspect, label, activate.

The id of its job leads to a calibration, also before it is made.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Unpack

from pydantic import BaseModel, Field

from trustscale_server.calibrating import pair_pictures
from trustscale_server.calibrating.config import CalibrationConfig, CalibrationRequest
from trustscale_server.calibrating.costs import Costs
from trustscale_server.calibrating.documents import (
    ActivationOut,
    CalibrationDetail,
    Leakage,
    activation_of,
    detail,
)
from trustscale_server.calibrating.fit import seen_by
from trustscale_server.calibrating.intake import (
    Files,
    IntakeOptions,
    alike_in_words,
    find_pairs,
    take_in,
)
from trustscale_server.calibrating.labels import Labelling
from trustscale_server.calibrating.layout import GroupingRule
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import check_left_out
from trustscale_server.calibration import file as calibration_file
from trustscale_server.calibration import validation
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.canaries import CanaryStore
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantees import GuaranteeSettings
from trustscale_server.calibration.insight import leaked
from trustscale_server.calibration.manifest import REMOVED
from trustscale_server.conformal.fidelity import clips
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import (
    BadCalibration,
    BadPairs,
    BadRequest,
    Conflict,
    NotFound,
)
from trustscale_server.sampling.spec import check_measurable, guard, identify
from trustscale_server.stores.base import (
    Activation,
    Job,
    JobState,
    JobStatus,
    Stores,
    few_at_once,
    uploads_for,
)
from trustscale_server.upscalers.base import SUPPLIED, Upscaler, named

_JOB_PREFIX = "job-"


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

    naming, table: name groups and scenes (`intake.find_pairs`).
    parent: a calibration that is extended; only new pairs are then generated.
    """

    files: Files
    created_by: str
    naming: GroupingRule = field(default_factory=GroupingRule)
    table: bytes | None = None
    parent: Calibration | None = None


class CheckedRequest(NamedTuple):
    """A job's request, warnings, and the mean pixels of X."""

    request: CalibrationRequest
    warnings: str | None
    pixels: float


@dataclass(frozen=True, slots=True)
class CalibrationAdmin:
    """Creates, derives, imports, activates and deletes calibrations."""

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
        job, parent = await self._begun(config, submission, webhook), submission.parent
        if parent is None:
            await self._note("create", submission.created_by, job=job.id)
        else:
            await self._note("extend", submission.created_by, parent=parent.id, job=job.id)
        return job

    async def _note(self, action: str, actor: str, **about: Any) -> None:
        await self.stores.audit.append(f"calibration.{action}", actor, about)

    async def _begun(
        self, config: CalibrationConfig, submission: Submission, webhook: str | None
    ) -> JobStatus:
        """The queued job of `create`."""
        job_id = f"{_JOB_PREFIX}{secrets.token_urlsafe(15)}"

        async with uploads_for(self.stores, job_id):
            async with few_at_once() as start:

                async def keep(name: str, data: bytes) -> None:
                    await start(self.stores.blobs.put(job_id, name, data))

                checked = await self._asked(config, submission, keep=keep)
            begun = await self.queue.submit(await self._job(checked, job_id, webhook=webhook))
        try:  # from now on the job keeps others from deleting its parent
            if submission.parent is not None:
                await self.calibrations.stored(submission.parent.id)
        except NotFound as error:
            await self.queue.cancel(job_id)
            raise Conflict("The calibration was deleted while the pairs came.") from error
        return begun

    async def _job(
        self,
        checked: CheckedRequest,
        job_id: str,
        *,
        measured: Collection[str] = (),
        **about: str | None,
    ) -> Job:
        """The job of this id; costs are without `measured` pairs."""
        request = checked.request
        costs = await self._costs(checked, measured)
        return request.as_job(job_id, warnings=checked.warnings, **about, **costs)

    async def seen(self, config: CalibrationConfig, photographs: Mapping[str, str]) -> set[str]:
        """Return which of these photographs σ of such a calibration was fitted on.

        photographs: the digest of the pixels of each (`image_digest`), by any name.

        Raises:
            NotFound, BadRequest, UpscalerUnavailable: as `create`.
        """
        sigma = config.pipeline(await self._identified(config.upscaler)).indecision
        return {name for name, digest in photographs.items() if seen_by(sigma, digest)}

    async def plan(self, config: CalibrationConfig, submission: Submission) -> Plan:
        """Return what `create` with the same arguments would take. Raises as it does."""
        return await self._planned(await self._asked(config, submission), ())

    async def _planned(self, checked: CheckedRequest, measured: Collection[str]) -> Plan:
        costs, request = await self._costs(checked, measured), checked.request
        return Plan(
            pictures=len({pair.upload for pair in request.pairs}),
            pairs=len(request.pairs),
            calls=int(costs["calls"]),
            price=float(costs["price"]) if "price" in costs else None,
            estimate_s=float(costs["estimate_s"]) if "estimate_s" in costs else None,
            done=request.done,
            skipped=request.skipped,
            warnings=(checked.warnings or "").splitlines(),
        )

    async def _costs(self, checked: CheckedRequest, measured: Collection[str]) -> Mapping[str, str]:
        request, upscaler = checked.request, self.upscalers[checked.request.upscaler]
        left = set() if request.done else {*request.names} - {*measured}
        repeated = set[str]()
        if left and self.costs.repeats(upscaler):
            canaries = CanaryStore(self.stores.blobs, self.stores.monitor)
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

    async def _asked(
        self, config: CalibrationConfig, submission: Submission, **options: Unpack[IntakeOptions]
    ) -> CheckedRequest:
        """Check the pairs. Raises as `create`."""
        parent = submission.parent
        arranged = await asyncio.to_thread(
            lambda: find_pairs(submission.files(), submission.naming, submission.table)
        )
        known = parent.manifest.pairs if parent else ()
        upscaler = await self._identified(config.upscaler)
        if parent is not None:
            guard(parent.pipeline, upscaler)
        _check_supplied(upscaler, arranged.pairs)
        pipeline = parent.pipeline if parent else config.pipeline(upscaler)
        check_measurable(pipeline.fidelity)
        intake = await take_in(submission.files, arranged, pipeline, known=known, **options)
        check_left_out(intake.skipped, len(intake.usable), config.on_bad_pair)
        if parent is not None:
            _check_same_origin(parent, given="x" in intake.usable[0].sha256)
        request = CalibrationRequest.asking(
            config,
            pipeline,
            upscaler,
            intake.usable,
            skipped=intake.skipped,
            created_by=submission.created_by,
            parent=parent.id if parent else None,
        )
        alike = "\n".join(map(alike_in_words, intake.alike)) or None
        return CheckedRequest(await self._done(request), alike, intake.pixels)

    async def derive(
        self,
        parent: Calibration,
        guarantee: GuaranteeSettings | None = None,
        *,
        bound: float | None = None,
        created_by: str,
        name: str | None = None,
        activate: bool = False,
        force: bool = False,
    ) -> Calibration:
        """Store a new calibration of the same pairs, and activate it if asked; generate nothing.

        Guarantee, Γ, bound (c, what errors are counted up to) and name are the parent's where
        None. What cannot be activated is not stored: one that would serve worse, unless forced.

        Raises:
            Conflict: nothing would change, errors were cut below `bound`, or it would serve worse.
            BadRequest: the bound is not a sensible positive number.
            CalibrationMismatch: the live upscaler is another, and it is to be activated.
        """
        if activate:
            await self.raise_if_mismatched(parent)
        if guarantee is not None and "robust" not in guarantee.model_fields_set:
            guarantee = guarantee.model_copy(update={"robust": parent.guarantee.robust})
        guarantee = (guarantee or parent.guarantee).fitted_to(parent.pipeline.indecision)
        bound = parent.error_bound if bound is None else bound
        if (guarantee, bound) == (parent.guarantee, parent.error_bound):
            raise Conflict("The calibration has this guarantee and bound already.")
        if bound > parent.error_bound and clips(parent.pipeline.fidelity):
            raise Conflict(
                f"Errors above {parent.error_bound:g} were cut when the pairs were measured; what "
                "they were is not known any more."
            )
        try:
            fidelity = replace(parent.pipeline.fidelity, bound=bound)
            guarantee.raise_if_unsuited(fidelity)
        except ValueError as error:
            raise BadRequest(f"{error}.") from error

        def derived() -> Calibration:
            pairs = [
                replace(pair, loss_curves=[curve.counted(bound) for curve in pair.loss_curves])
                for pair in parent.measured_pairs()
            ]
            pipeline = parent.pipeline.model_copy(update={"fidelity": fidelity})
            calibration = parent.with_pairs(
                pairs,
                created_by=created_by,
                name=name or parent.manifest.name,
                guarantee=guarantee,
                pipeline=pipeline,
            )
            _ = calibration.curve
            return calibration

        calibration = await in_spare_thread(derived)
        if activate:
            await self.calibrations.changes(calibration, force=force)
        await self._store(parent, calibration)
        is_active = False
        try:
            if activate:
                await self._activate(calibration, force=force)
                is_active = True
        finally:  # it is stored even if the activation fails
            await self._note(
                "derive", created_by, parent=parent.id, calibration=calibration.id,
                activate=is_active,
            )  # fmt: skip
        return calibration

    async def without_pair(self, parent: Calibration, name: str, *, created_by: str) -> Calibration:
        """Store a new calibration without one pair, or all of one Y, and activate nothing.

        Raises:
            NotFound: the parent has no such pair.
            Conflict: it has no other pair.
        """
        pairs = parent.measured_pairs()
        others = [pair for pair in pairs if name not in {pair.info.name, pair.info.upload}]
        if len(others) == len(pairs):
            raise NotFound(f"The calibration has no pair {name!r}.")
        if not others:
            raise Conflict(f"{name!r} is the only pair; delete the calibration instead.")
        smaller = await in_spare_thread(
            parent.with_pairs,
            others,
            skipped=[{"name": name, "reason": f"{REMOVED}{created_by}"}],
            created_by=created_by,
        )
        await self._store(parent, smaller)
        await self._note(
            "remove_pair", created_by, parent=parent.id, pair=name, calibration=smaller.id
        )
        return smaller

    async def _store(self, parent: Calibration, calibration: Calibration) -> None:
        await CanaryStore(self.stores.blobs, self.stores.monitor).inherit(parent.id, calibration.id)
        await pair_pictures.inherit(self.stores.blobs, parent.id, calibration.id)
        await self.calibrations.add(calibration, activate=False)

    async def resolve(self, calibration: str) -> Calibration | JobStatus:
        """Return the calibration of an id, or the job that is making it."""
        if not calibration.startswith(_JOB_PREFIX):
            return await self.calibrations.stored(calibration)
        job = await self.stores.jobs.get(calibration)
        if job.kind != "calibration":
            raise NotFound(f"{calibration!r} is not a calibration.")
        if job.state is JobState.SUCCEEDED and job.result:
            return await self.calibrations.stored(job.result.rsplit("/", 1)[-1])
        return job

    async def finished(self, calibration: str) -> Calibration:
        """Return the calibration of an id.

        Raises:
            Conflict: it is not finished.
        """
        resolved = await self.resolve(calibration)
        if isinstance(resolved, JobStatus):
            raise Conflict(f"The calibration is not finished: it is {resolved.state}.")
        return resolved

    async def detail(
        self, calibration: Calibration, group: str | None = None, *, n_leaked: int | None = None
    ) -> CalibrationDetail:
        """Return the document of a calibration, or of a group of it.

        n_leaked: how many of X were training images of the model.

        Raises:
            BadGroup: it has no such group.
            BadRequest: it has not so many scenes, or no bound is known.
        """
        document = await detail(
            self.calibrations, self.upscalers, self.stores.blobs, calibration, group
        )
        if n_leaked is not None:
            bound = leaked(calibration.subset(group), n_leaked)
            document.leakage = Leakage(n_leaked=n_leaked, bound=bound)
        return document

    async def import_file(
        self, data: bytes, actor: str, *, activate: bool, force: bool = False
    ) -> Calibration:
        """Check and store a calibration file, unless it may not be activated as asked."""
        calibration = await in_spare_thread(calibration_file.load, data)
        await in_spare_thread(
            validation.raise_if_unusable, calibration
        )  # before its changes are made out
        if activate:
            await self.raise_if_mismatched(calibration)
            await self.calibrations.changes(calibration, force=force)
        await self.calibrations.add(calibration, activate=activate)
        await self._note("import", actor, calibration=calibration.id, activate=activate)
        return calibration

    async def raise_if_mismatched(self, calibration: Calibration) -> None:
        """Raise CalibrationMismatch if this process has its upscaler under another pipeline."""
        if calibration.manifest.upscaler in self.upscalers:
            guard(calibration.pipeline, await self._identified(calibration.manifest.upscaler))

    async def delete(self, name: str, actor: str) -> None:
        """Remove a calibration with its canaries, its pictures, and the monitor's data.

        Raises:
            NotFound: there is none.
            Conflict: it is active, or a pending job extends it.
        """
        for job in await self.stores.jobs.pending("calibration"):
            if job.about["parent"] == name:
                raise Conflict(
                    f"The job {job.id} extends this calibration; cancel it, or let it end."
                )
        await self.stores.calibrations.delete(name)
        await CanaryStore(self.stores.blobs, self.stores.monitor).forget(name)
        await self.stores.monitor.forget(name)
        await pair_pictures.forget(self.stores.blobs, name)
        await self._note("delete", actor, calibration=name)

    async def activate(
        self, calibration: Calibration, actor: str, *, force: bool = False, only: bool = False
    ) -> ActivationOut:
        """Check a calibration against the live pipeline, and activate it, before others or alone.

        Raises:
            CalibrationMismatch: the live upscaler is another.
            Conflict: it would serve worse, and is not forced.
        """
        before = await self.calibrations.active_ids(calibration.manifest.upscaler)
        done, changes = await self._activate(calibration, force=force, only=only)
        await self._note(
            "activate", actor, calibration=done.calibration, previous=done.previous, only=only
        )
        return await activation_of(self.calibrations, done, changes, before)

    async def _activate(
        self, calibration: Calibration, *, force: bool, only: bool = False
    ) -> tuple[Activation, ServingChanges]:
        await self.raise_if_mismatched(calibration)
        return await self.calibrations.activate(calibration, force=force, only=only)

    @property
    def labelling(self) -> Labelling:
        """What an admin does with the labels of a job."""
        return Labelling(self.stores, self.queue)

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
