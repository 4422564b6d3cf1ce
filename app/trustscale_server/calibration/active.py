"""The calibrations a gateway serves from: read, added and activated.

Calibrations are immutable, so parsed ones are kept in memory. Which ones are active is read from
the store on every request, so every process sees an activation at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import structlog

from trustscale_server.calibration import file, validation
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.priority import CalibrationPriority, answers_other_uploads
from trustscale_server.calibration.shipped import shipped_for_text
from trustscale_server.calibration.soundness import Report, report_of
from trustscale_server.conformal.error_metrics import METRICS
from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import BadCalibration, NoCalibration, NotFound
from trustscale_server.stores.calibrations import (
    MAX_ACTIVE,
    Activation,
    CalibrationHead,
    CalibrationStore,
)
from trustscale_server.things import reading
from trustscale_server.upscalers.base import Upscaler

log = structlog.get_logger(__name__)


class Calibrations:
    """Reads, adds and activates calibrations."""

    def __init__(self, store: CalibrationStore) -> None:
        self.store = store
        self._parsed: OrderedDict[str, Calibration] = OrderedDict()
        # By upscaler, until others are active: so what cannot be read is logged once.
        self._priorities: dict[str, tuple[Sequence[str], CalibrationPriority]] = {}

    async def get(self, calibration_id: str) -> Calibration:
        """Return the calibration of an id.

        Raises:
            NotFound: no such calibration.
            BadCalibration: the stored file is damaged.
        """
        if calibration_id not in self._parsed:
            blob = await self.store.get(calibration_id)
            self._keep(await asyncio.to_thread(file.load, blob))
        self._parsed.move_to_end(calibration_id)
        return self._parsed[calibration_id]

    def _keep(self, calibration: Calibration) -> None:
        self._parsed[calibration.id] = calibration
        while len(self._parsed) > 2 * MAX_ACTIVE:  # each takes a few megabytes
            self._parsed.popitem(last=False)

    async def stored(self, calibration_id: str) -> Calibration:
        """Return the stored calibration; raise NotFound once any process has deleted it."""
        await self.store.get(calibration_id)
        return await self.get(calibration_id)

    async def report(self, calibration: Calibration) -> Report:
        """Return what to expect of a stored calibration; it is computed once.

        Raises:
            NoLongerWaiting: the caller has left (`platform/abandoned.py`).
        """
        known = await self.store.report(calibration.id)
        if known is not None:
            return Report.model_validate_json(known)
        report = await in_spare_thread(report_of, calibration.everything)
        await self.store.keep_report(calibration.id, report.model_dump_json().encode())
        return report

    async def active_ids(self, upscaler: str) -> tuple[str, ...]:
        """Return the ids of an upscaler's active calibrations, in order of priority."""
        activation = (await self.store.active()).get(upscaler)
        return activation.calibrations if activation else ()

    async def active_id(self, upscaler: str) -> str | None:
        """Return the id of the active calibration that is asked first, or None."""
        return next(iter(await self.active_ids(upscaler)), None)

    async def priority(self, upscaler: str) -> CalibrationPriority:
        """Return the active calibrations of an upscaler; later ones only if they can be read.

        Raises:
            NoCalibration: there is none, or the first cannot be read: damaged, or of an older
                release.
        """
        ids = await self.active_ids(upscaler)
        if not ids:
            raise NoCalibration(
                f"The upscaler {upscaler!r} has no active calibration, so no mask would have a "
                f"foundation. Calibrate it: trustscale calibrate FOLDER --upscaler {upscaler} "
                "--activate. Or ask for the picture alone: mask=none, --mask none.",
                upscaler=upscaler,
            )
        known = self._priorities.get(upscaler)
        if known is None or known[0] != ids:
            known = ids, CalibrationPriority(await self._readable(upscaler, ids))
            self._priorities[upscaler] = known
        return known[1]

    async def _readable(self, upscaler: str, ids: Sequence[str]) -> list[Calibration]:
        readable: list[Calibration] = []
        for calibration_id in ids:
            try:
                readable.append(await self.get(calibration_id))
            except (BadCalibration, NotFound) as error:
                if not readable:
                    raise NoCalibration(
                        f"The active calibration {calibration_id} of {upscaler!r} cannot be "
                        f"read, so no mask would have a foundation. {error.detail}",
                        upscaler=upscaler,
                    ) from error
                # It must not stop the others.
                log.warning("calibration_unread", calibration=calibration_id, detail=error.detail)
        return readable

    async def can_judge_text(self, upscaler: Upscaler) -> bool:
        """Return whether there is a calibration for text, and a reader."""
        if reading.missing(ReaderSettings()) is not None:
            return False
        is_stored = bool(await self._heads_for_text(upscaler.name))
        return is_stored or shipped_for_text(upscaler) is not None

    async def for_text(self, upscaler: Upscaler) -> CalibrationPriority | None:
        """Return the calibrations for text: active, else the newest stored, else the shipped."""
        if heads := await self._heads_for_text(upscaler.name):
            known = {head.id for head in heads}
            active = [one for one in await self.active_ids(upscaler.name) if one in known]
            newest = heads[0].id
            return CalibrationPriority([await self.get(one) for one in active or [newest]])
        if (entry := shipped_for_text(upscaler)) is None:
            return None
        data = await asyncio.to_thread(entry.read_bytes)
        shipped = (await asyncio.to_thread(file.load, data)).for_upscaler(upscaler.name)
        await self.add(shipped, activate=False)
        return CalibrationPriority([shipped])

    async def _heads_for_text(self, upscaler: str) -> list[CalibrationHead]:
        heads = await self.store.heads(upscaler)
        return [head for head in heads if METRICS[head.metric].is_for_text]

    async def active(self, upscaler: str) -> Calibration:
        """Return the active calibration that is asked first."""
        return (await self.priority(upscaler)).first

    async def changes(self, calibration: Calibration, *, force: bool) -> ServingChanges:
        """Return what serving from a calibration, stored or not, would change for users.

        Raises:
            Conflict: it would serve worse, and that is not forced.
        """
        active: Sequence[Calibration] = ()
        with suppress(NoCalibration):  # what cannot be read must not stop its successor
            active = (await self.priority(calibration.manifest.upscaler)).calibrations
        # Data, pictures and text have different calibrations.
        before = next(
            (known for known in active if not answers_other_uploads(known, calibration)), None
        )
        changes = await in_spare_thread(ServingChanges.between, calibration, before)
        is_served = before is not None and before.id == calibration.id
        if not (force or is_served):
            changes.raise_if_worse(calibration)
        return changes

    async def activate(
        self, calibration: Calibration, *, force: bool = False, only: bool = False
    ) -> tuple[Activation, ServingChanges]:
        """Put a stored calibration before the active ones; with `only`, replace them.

        Raises:
            NotFound: it was deleted.
            Conflict: as `changes`, or too many would be active.
        """
        changes = await self.changes(calibration, force=force)
        return await self.switch(calibration, only=only), changes

    async def switch(
        self, calibration: Calibration, *, job: str | None = None, only: bool = False
    ) -> Activation:
        """Activate a calibration while its job runs, even if it would serve worse.

        Active calibrations that would answer nothing after it are deactivated.
        """
        without = None if only else await self._superseded(calibration)
        return await self.store.activate(calibration.id, job=job, without=without)

    async def _superseded(self, calibration: Calibration) -> list[str]:
        active = await self.active_ids(calibration.manifest.upscaler)
        live = [calibration]
        for known in active:
            with suppress(BadCalibration, NotFound):  # else nothing is answered from it
                other = await self.get(known)
                is_same_model = other.pipeline.fingerprint == calibration.pipeline.fingerprint
                if is_same_model and known != calibration.id:
                    live.append(other)
        answers = await asyncio.to_thread(CalibrationPriority(live).answers)
        answering = {other.id for other, classes in zip(live, answers, strict=True) if classes}
        return [known for known in active if known not in answering]

    async def add(
        self, calibration: Calibration, *, activate: bool, blob: bytes | None = None
    ) -> None:
        """Store a calibration, whose file is `blob` if given, and activate it if asked.

        Raises:
            BadCalibration: nothing can be served from it.
        """
        await asyncio.to_thread(validation.raise_if_unusable, calibration)
        if blob is None:
            blob = await asyncio.to_thread(file.dump, calibration)
        await self.store.put(calibration.head, blob)
        self._keep(calibration)
        if activate:
            await self.switch(calibration)
