"""A calibration with another guarantee or bound, from the staircases of one that exists."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.calibration import pictures
from app.calibration.active import Calibrations
from app.calibration.guarantee import GuaranteeSettings
from app.calibration.record import Calibration
from app.canary.keep import inherit
from app.conformal.fidelity import clips
from app.errors import BadRequest, Conflict
from app.stores.base import Spool


async def derive(
    calibrations: Calibrations,
    spool: Spool,
    parent: Calibration,
    guarantee: GuaranteeSettings | None = None,
    *,
    bound: float | None = None,
    created_by: str,
    name: str | None = None,
    to_activate: bool = False,
    force: bool = False,
) -> Calibration:
    """Store a new calibration of the same pairs; nothing is generated, nothing is activated.

    Args:
        calibrations: where it is stored.
        spool: holds the pictures and canaries, which it shares with its parent.
        parent: gives the pairs.
        guarantee: None: that of the parent.
        bound: c, what errors are counted up to; None: B of the parent.
        created_by: who asked.
        name: None: that of the parent.
        to_activate: the caller will; what would serve worse is refused before it is stored.
        force: unless this is set.

    Raises:
        Conflict: the parent has this guarantee and bound already, or has cut errors below `bound`;
            or it would serve worse.
        BadRequest: the bound is not a positive number of a sensible size.
    """
    guarantee = guarantee or parent.guarantee
    bound = parent.bound if bound is None else bound
    if guarantee.facts() == parent.guarantee.facts() and bound == parent.bound:
        raise Conflict("The calibration has this guarantee and bound already.")
    if bound > parent.bound and clips(parent.pipeline.fidelity):
        raise Conflict(
            f"Errors above {parent.bound:g} were cut when the pairs were measured; what they were "
            "is not known any more."
        )
    try:
        fidelity = replace(parent.pipeline.fidelity, bound=bound)
    except ValueError as error:
        raise BadRequest(f"fidelity.bound: {error}.") from error

    def derived() -> Calibration:
        pairs = [
            replace(pair, staircase=pair.staircase.counted(bound))
            for pair in parent.measured_pairs()
        ]
        pipeline = parent.pipeline.model_copy(update={"fidelity": fidelity})
        made = parent.with_pairs(
            pairs,
            created_by=created_by,
            name=name or parent.manifest.name,
            guarantee=guarantee,
            pipeline=pipeline,
        )
        _ = made.curve
        return made

    made = await asyncio.to_thread(derived)
    if to_activate:
        await calibrations.changes(made, force=force)
    await inherit(spool, parent.id, made.id)
    await pictures.inherit(spool, parent.id, made.id)
    await calibrations.add(made, activate=False)
    return made
