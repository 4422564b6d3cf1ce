"""Which active calibrations answer which uploads, and what an activation changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from pydantic import BaseModel

from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.priority import covered_classes
from trustscale_server.platform.errors import BadCalibration, NoCalibration, NotFound
from trustscale_server.stores.calibrations import Activation, Switch


class Answering(BaseModel):
    """An active calibration and the classes of uploads that it answers; `*` is every upload."""

    id: str
    name: str | None
    classes: list[str]


class ActivationOut(Switch):
    """Which calibrations are active now, in the order in which they are asked.

    previous: the one that was first before. lost: classes without a calibration now.
    """

    calibration: str
    calibrations: list[Answering]
    lost: list[str]
    changes: ServingChanges


async def answering(calibrations: Calibrations, upscaler: str) -> list[Answering]:
    """Return the active calibrations of an upscaler, in order."""
    try:
        active = await calibrations.priority(upscaler)
    except NoCalibration:
        return []
    answers = await asyncio.to_thread(active.answers)
    return [
        Answering(id=calibration.id, name=calibration.manifest.name, classes=classes)
        for calibration, classes in zip(active.calibrations, answers, strict=True)
    ]


async def activation_of(
    calibrations: Calibrations, done: Activation, changes: ServingChanges, before: Sequence[str]
) -> ActivationOut:
    """Return the document of an activation; `before` are the ids that were active."""
    now = await answering(calibrations, done.upscaler)
    covered: set[str] = set()
    for calibration_id in set(before) - set(done.calibrations):
        with suppress(BadCalibration, NotFound):  # an unreadable one answered nothing
            covered.update(covered_classes(await calibrations.get(calibration_id)))
    lost = covered.difference(*(row.classes for row in now))
    return ActivationOut(
        **done.model_dump(exclude={"calibrations"}),
        calibration=done.calibration,
        calibrations=now,
        lost=sorted(lost),
        changes=changes,
    )
