"""A service that starts gives its upscalers the calibrations that come with the program."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from typing import Any

import structlog

from trustscale_server.calibration import file
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.shipped import shipped_files, shipped_for_data, shipped_names
from trustscale_server.kinds.features import RULES
from trustscale_server.platform.errors import BadCalibration, NotFound
from trustscale_server.sampling.spec import TRUST_LAYER_VERSION, pipeline_differences
from trustscale_server.upscalers.base import Upscaler

log = structlog.get_logger(__name__)


async def install_shipped(calibrations: Calibrations, upscalers: Iterable[Upscaler]) -> None:
    """Give every upscaler without a calibration the shipped ones of its fingerprint.

    They also replace active ones if an older release shipped them all; in doubt these stay.
    """
    embedded = [upscaler for upscaler in upscalers if upscaler.kind == "embedded"]
    for entry in shipped_files() if embedded else ():
        with entry.open("rb") as stream:
            calibration_id, fingerprint = file.identity(stream)
        for upscaler in embedded:
            if upscaler.fingerprint == fingerprint:
                await _install(calibrations, upscaler, entry, calibration_id)


async def _install(
    calibrations: Calibrations, upscaler: Upscaler, entry: Traversable, calibration_id: str
) -> None:
    active = await calibrations.active_ids(upscaler.name)
    if calibration_id in active:
        return
    if active and not await _are_outdated(calibrations, active, upscaler):
        return
    data = await asyncio.to_thread(entry.read_bytes)
    if active:
        shipped = await asyncio.to_thread(file.load, data)
        if pipeline_differences(shipped.pipeline, upscaler):
            return  # it would serve no better
        log.warning("calibration_replaced", upscaler=upscaler.name, calibrations=active)
    # The last one comes first; what another process has activated since stays.
    for blob in (*shipped_for_data(entry), data):
        loaded = await asyncio.to_thread(file.load, blob)
        renamed = loaded.for_upscaler(upscaler.name)
        await calibrations.add(renamed, activate=False, blob=blob if renamed is loaded else None)
        await calibrations.store.activate(renamed.id, without=active)


async def _are_outdated(
    calibrations: Calibrations, active: Sequence[str], upscaler: Upscaler
) -> bool:
    """Whether surely older releases shipped them for this model, and this one serves none."""
    store = calibrations.store
    with suppress(BadCalibration, NotFound, LookupError, TypeError, ValueError):  # of any form
        names = {head.id: head.name or "" for head in await store.heads(upscaler.name)}
        # One for data has the name of that for pictures, and this ending.
        known = {names[calibration_id].removesuffix("-data") for calibration_id in active}
        if not known.issubset(shipped_names()):
            return False
        files = [file.unchecked(await store.get(calibration_id)) for calibration_id in active]
        return all(_is_outdated(*stored, upscaler.fingerprint) for stored in files)
    return False


def _is_outdated(version: Any, manifest: Any, fingerprint: str) -> bool:
    """Whether an older release shipped this file for the model of this fingerprint."""
    pipeline, provenance = manifest["pipeline"], manifest["provenance"]
    return (
        # What was derived from a shipped one, or extends it, has its name, too.
        (provenance["parent"], provenance["created_by"]) == (None, "local")
        # Of another precision it is that of other processes.
        and pipeline["fingerprint"] == fingerprint
        and (
            version < file.VERSION
            or pipeline["trust_layer"] < TRUST_LAYER_VERSION
            or pipeline["input_rule"] not in RULES
        )
    )
