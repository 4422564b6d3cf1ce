"""A calibration with another guarantee, from the staircases of one that exists."""

from __future__ import annotations

import asyncio

from app.calibration import pictures
from app.calibration.active import Calibrations
from app.calibration.guarantee import GuaranteeSettings
from app.calibration.record import Calibration
from app.canary.keep import inherit
from app.errors import Conflict
from app.stores.base import Spool


async def derive(
    calibrations: Calibrations,
    spool: Spool,
    parent: Calibration,
    guarantee: GuaranteeSettings,
    *,
    created_by: str,
    name: str | None = None,
) -> Calibration:
    """Store a new calibration of the same pairs; nothing is generated, nothing is activated.

    Raises:
        Conflict: the parent has this guarantee already.
    """
    if guarantee.facts() == parent.guarantee.facts():
        raise Conflict("The calibration has this guarantee already.")
    made = parent.with_pairs(
        parent.measured_pairs(), created_by=created_by, name=name, guarantee=guarantee
    )
    await asyncio.to_thread(lambda: made.curve)
    await inherit(spool, parent.id, made.id)
    await pictures.inherit(spool, parent.id, made.id)
    await calibrations.add(made, activate=False)
    return made
