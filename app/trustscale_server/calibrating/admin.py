"""What an admin does with calibrations: derive, inspect, label, import, activate, delete.

The id of its job leads to a calibration, also before it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trustscale_server.calibrating import pair_pictures
from trustscale_server.calibrating.activation import ActivationOut, activation_of
from trustscale_server.calibrating.derive import derived, terms_of
from trustscale_server.calibrating.detail import CalibrationDetail, detail
from trustscale_server.calibrating.labelling import Labelling
from trustscale_server.calibration import file as calibration_file
from trustscale_server.calibration import validation
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantees import GuaranteeSettings
from trustscale_server.calibration.manifest import REMOVED
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import Conflict, NotFound
from trustscale_server.platform.telemetry.logs import log_action
from trustscale_server.sampling.spec import identify, raise_if_pipeline_differs
from trustscale_server.stores.calibrations import Activation
from trustscale_server.stores.job_status import JOB_PREFIX, JobState, JobStatus
from trustscale_server.stores.opened import Stores
from trustscale_server.upscalers.base import Upscaler


@dataclass(frozen=True, slots=True)
class CalibrationAdmin:
    """Derives, imports, activates and deletes calibrations, and reads those in the making."""

    upscalers: Mapping[str, Upscaler]
    calibrations: Calibrations
    stores: Stores
    queue: JobQueue

    async def derive(
        self,
        parent: Calibration,
        guarantee: GuaranteeSettings | None = None,
        *,
        bound: float | None = None,
        actor: str,
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
        terms = terms_of(parent, guarantee, bound)
        calibration = await in_spare_thread(derived, parent, *terms, name=name, created_by=actor)
        if activate:
            await self.calibrations.changes(calibration, force=force)
        await self._store(parent, calibration)
        is_active = False
        try:
            if activate:
                await self._activate(calibration, force=force)
                is_active = True
        finally:  # it is stored even if the activation fails
            log_action(
                "calibration.derive",
                actor,
                parent=parent.id,
                calibration=calibration.id,
                activate=is_active,
            )
        return calibration

    async def without_pair(self, parent: Calibration, name: str, *, actor: str) -> Calibration:
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
            skipped=[{"name": name, "reason": f"{REMOVED}{actor}"}],
            created_by=actor,
        )
        await self._store(parent, smaller)
        log_action(
            "calibration.remove_pair", actor, parent=parent.id, pair=name, calibration=smaller.id
        )
        return smaller

    async def _store(self, parent: Calibration, calibration: Calibration) -> None:
        await CanaryStore(self.stores.blobs, self.stores.canary_states).inherit(
            parent.id, calibration.id
        )
        await pair_pictures.inherit(self.stores.blobs, parent.id, calibration.id)
        await self.calibrations.add(calibration, activate=False)

    async def resolve(self, calibration_id: str) -> Calibration | JobStatus:
        """Return the calibration of an id, or the job that is making it."""
        if not calibration_id.startswith(JOB_PREFIX):
            return await self.calibrations.stored(calibration_id)
        job = await self.stores.jobs.get(calibration_id)
        if job.kind != "calibration":
            raise NotFound(f"{calibration_id!r} is not a calibration.")
        if job.state is JobState.SUCCEEDED and job.result:
            return await self.calibrations.stored(job.result.rsplit("/", 1)[-1])
        return job

    async def finished(self, calibration_id: str) -> Calibration:
        """Return the calibration of an id.

        Raises:
            Conflict: it is not finished.
        """
        resolved = await self.resolve(calibration_id)
        if isinstance(resolved, JobStatus):
            raise Conflict(f"The calibration is not finished: it is {resolved.state}.")
        return resolved

    async def detail(
        self, calibration: Calibration, group: str | None = None, *, n_leaked: int | None = None
    ) -> CalibrationDetail:
        """Return the document of a calibration, or of a group of it; see `detail.detail`."""
        blobs = self.stores.blobs
        return await detail(
            self.calibrations, self.upscalers, blobs, calibration, group, n_leaked=n_leaked
        )

    async def import_file(
        self, data: bytes, actor: str, *, activate: bool, force: bool = False
    ) -> Calibration:
        """Check and store a calibration file, unless it may not be activated as asked."""
        calibration = await in_spare_thread(calibration_file.load, data)
        if activate:
            # What it would change can only be told of a usable one.
            await in_spare_thread(validation.raise_if_unusable, calibration)
            await self.raise_if_mismatched(calibration)
            await self.calibrations.changes(calibration, force=force)
        await self.calibrations.add(calibration, activate=activate)
        log_action("calibration.import", actor, calibration=calibration.id, activate=activate)
        return calibration

    async def raise_if_mismatched(self, calibration: Calibration) -> None:
        """Raise CalibrationMismatch if this process has its upscaler under another pipeline."""
        upscaler = self.upscalers.get(calibration.manifest.upscaler)
        if upscaler is not None:
            await identify(upscaler)
            raise_if_pipeline_differs(calibration.pipeline, upscaler)

    async def delete(self, calibration_id: str, actor: str) -> None:
        """Remove a calibration with its canaries and its pictures.

        Raises:
            NotFound: there is none.
            Conflict: it is active, or a pending job extends it.
        """
        for job in await self.stores.jobs.pending("calibration"):
            if job.about.parent == calibration_id:
                raise Conflict(
                    f"The job {job.id} extends this calibration; cancel it, or let it end."
                )
        await self.stores.calibrations.delete(calibration_id)
        await CanaryStore(self.stores.blobs, self.stores.canary_states).forget(calibration_id)
        await pair_pictures.forget(self.stores.blobs, calibration_id)
        log_action("calibration.delete", actor, calibration=calibration_id)

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
        log_action(
            "calibration.activate",
            actor,
            calibration=done.calibration,
            previous=done.previous,
            only=only,
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
