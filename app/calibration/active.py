"""The calibrations a gateway serves from: the store's truth, with the parsed facts kept in memory.

Calibrations are immutable, so a parsed one can be kept for ever; which one is active is read from
the store on every request, so that an activation is seen at once by every process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from importlib import resources

from app.calibration import file
from app.calibration.change import Changes
from app.calibration.record import Calibration
from app.errors import BadCalibration, NoCalibration, NotFound
from app.stores.base import Activation, CalibrationStore
from app.upscalers.base import Upscaler

_KEPT = 8  # parsed calibrations in memory; each takes a few megabytes


class Calibrations:
    """Reads, adds and activates calibrations."""

    def __init__(self, store: CalibrationStore) -> None:
        self.store = store
        self._parsed: OrderedDict[str, Calibration] = OrderedDict()

    async def get(self, calibration: str) -> Calibration:
        """The calibration of an id.

        Raises:
            NotFound: no such calibration.
            BadCalibration: the stored file is damaged.
        """
        if calibration not in self._parsed:
            blob = await self.store.get(calibration)
            self._parsed[calibration] = await asyncio.to_thread(file.load, blob)
            while len(self._parsed) > _KEPT:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(calibration)
        return self._parsed[calibration]

    async def stored(self, calibration: str) -> Calibration:
        """As `get`, but a calibration that any process has deleted is not found."""
        await self.store.get(calibration)
        return await self.get(calibration)

    async def active_id(self, upscaler: str) -> str | None:
        """Id of the active calibration of an upscaler, or None."""
        activation = (await self.store.active()).get(upscaler)
        return activation.calibration if activation else None

    async def active(self, upscaler: str) -> Calibration:
        """The active calibration of an upscaler.

        Raises:
            NoCalibration: there is none.
        """
        calibration = await self.active_id(upscaler)
        if calibration is None:
            raise NoCalibration(
                f"The upscaler {upscaler!r} has no active calibration, so no mask would have a "
                "foundation. Calibrate it first: trustscale calibrate, or the admin API.",
                upscaler=upscaler,
            )
        return await self.get(calibration)

    async def changes(self, calibration: Calibration, *, force: bool) -> Changes:
        """What serving from it would change for users; a calibration need not be stored for that.

        Raises:
            Conflict: it would serve worse, and that is not forced.
        """
        present: Calibration | None = None
        active = await self.active_id(calibration.manifest.upscaler)
        if active is not None:
            # What cannot be read serves nobody, so it must not stop the one that mends it.
            with suppress(BadCalibration, NotFound):
                present = await self.get(active)
        changes = await asyncio.to_thread(Changes.of, calibration, present)
        if not force and calibration.id != active:
            changes.check(calibration)
        return changes

    async def activate(
        self, calibration: Calibration, *, force: bool = False
    ) -> tuple[Activation, Changes]:
        """Serve from a stored calibration.

        Raises:
            NotFound: it was deleted.
            Conflict: as `changes`.
        """
        changes = await self.changes(calibration, force=force)
        return await self.store.activate(calibration.id), changes

    async def add(self, calibration: Calibration, *, activate: bool) -> Activation | None:
        """Store a calibration, and make it the active one of its upscaler if asked to."""
        blob = await asyncio.to_thread(file.dump, calibration)
        await self.store.put(calibration.head, blob)
        return await self.store.activate(calibration.id) if activate else None

    async def install_shipped(self, upscalers: Iterable[Upscaler]) -> None:
        """Give every upscaler without a calibration the shipped one that was made with it.

        A calibration belongs to a fingerprint, so a shipped file serves any upscaler of that
        fingerprint, under whatever name it was configured.
        """
        missing = [
            u for u in upscalers if u.kind == "embedded" and not await self.active_id(u.name)
        ]
        if not missing:
            return
        for shipped in await asyncio.to_thread(shipped_calibrations):
            for upscaler in missing:
                if shipped.pipeline.fingerprint == upscaler.fingerprint:
                    await self.add(shipped.for_upscaler(upscaler.name), activate=True)


def shipped_calibrations() -> list[Calibration]:
    """The calibrations that come with the program."""
    folder = resources.files("app.calibration") / "shipped"
    return [
        file.load(entry.read_bytes())
        for entry in folder.iterdir()
        if entry.name.endswith(file.SUFFIX)
    ]
