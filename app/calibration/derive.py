"""Calibrations from the staircases of one that exists: another guarantee or bound, fewer pairs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.calibration import pictures
from app.calibration.active import Calibrations
from app.calibration.guarantee import GuaranteeSettings
from app.calibration.manifest import REMOVED
from app.calibration.record import Calibration
from app.canary.keep import inherit
from app.conformal.fidelity import clips
from app.errors import BadRequest, Conflict, NotFound
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

    Guarantee, bound (c, what errors are counted up to) and name are those of the parent where
    None is given. `to_activate` says that the caller will: unless forced, what would serve worse
    is refused before it is stored.

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
    await _store(calibrations, spool, parent, made)
    return made


async def without_pair(
    calibrations: Calibrations, spool: Spool, parent: Calibration, name: str, *, created_by: str
) -> Calibration:
    """Store a new calibration without one pair, or all of one Y; nothing is activated.

    Raises:
        NotFound: the parent has no such pair.
        Conflict: it has no other pair.
    """
    pairs = parent.measured_pairs()
    kept = [pair for pair in pairs if name not in {pair.info.name, pair.info.source}]
    if len(kept) == len(pairs):
        raise NotFound(f"The calibration has no pair {name!r}.")
    if not kept:
        raise Conflict(f"{name!r} is the only pair; delete the calibration instead.")
    smaller = await asyncio.to_thread(
        parent.with_pairs,
        kept,
        skipped=[{"name": name, "reason": f"{REMOVED}{created_by}"}],
        created_by=created_by,
    )
    await _store(calibrations, spool, parent, smaller)
    return smaller


async def _store(
    calibrations: Calibrations, spool: Spool, parent: Calibration, made: Calibration
) -> None:
    """Store it with the canaries and pictures of its parent."""
    await inherit(spool, parent.id, made.id)
    await pictures.inherit(spool, parent.id, made.id)
    await calibrations.add(made, activate=False)
