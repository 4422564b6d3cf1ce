"""Pairs of the semantic metric: measured once, labelled by people, then reduced."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from trustscale_server.calibrating import labels
from trustscale_server.calibrating.intake.layout import PREDICTIONS
from trustscale_server.calibrating.measure import PairTask
from trustscale_server.calibrating.packing import pack_measurement, unpack_measurement
from trustscale_server.calibrating.pair_files import decode_label
from trustscale_server.calibrating.records import AwaitsLabel
from trustscale_server.calibrating.reduction import pair_from_maps, pair_info
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal import fidelity
from trustscale_server.platform.errors import BadPairs
from trustscale_server.sampling.measure import Measurement
from trustscale_server.stores.blobs import Blobs
from trustscale_server.upscalers.base import image_digest

_FIRST = "measured"  # where the blobs hold what labels are drawn on


async def awaiting_label(blobs: Blobs, task: PairTask) -> tuple[AwaitsLabel, Measurement]:
    """Measure a pair, and check the label that came with it; return its record.

    Raises:
        BadPairs: the label was drawn on another prediction.
        BadImage: the label cannot be used.
    """
    pair = task.pair
    measurement = await _first(blobs, task, await task.measure())
    sha256 = await asyncio.to_thread(image_digest, measurement.prediction)
    source = task.request.pair(pair.name)
    if "labels" in source.sha256:
        # The command line takes labels that claim nothing.
        if source.prediction not in {None, sha256}:
            raise BadPairs(
                "the label was not drawn on this prediction "
                f"(labels/{PREDICTIONS} names {source.prediction}, it is {sha256})",
                items=[],
            )
        # A damaged one is named now, not when all pairs are measured.
        label, _ = await labels.newest_label(blobs, task.job, pair.name)
        await asyncio.to_thread(decode_label, label, measurement.sigma.shape)
    return AwaitsLabel(pair_info(pair, measurement, task.request.pipeline), sha256), measurement


async def _first(blobs: Blobs, task: PairTask, measurement: Measurement) -> Measurement:
    """What the first execution of this task measured; its label is drawn on that.

    A task may run again, and an upscaler without seeds then gives other samples.
    """
    name = f"{_FIRST}/{task.pair.name}"
    packed = await asyncio.to_thread(pack_measurement, measurement)
    if await blobs.create(task.job, name, packed):
        return measurement
    first = await blobs.get(task.job, name)
    prediction, sigma, mean_log_sigma = await asyncio.to_thread(unpack_measurement, first)
    return replace(measurement, prediction=prediction, sigma=sigma, mean_log_sigma=mean_log_sigma)


async def labelled(
    blobs: Blobs,
    job: str,
    request: CalibrationRequest,
    info: PairInfo,
    settled: Mapping[str, int],
) -> MeasuredPair:
    """Return the pair with the losses that its label gives; settled: as `labels.frozen`."""
    label = await labels.used(blobs, job, info.name, settled)
    first = await blobs.get(job, f"{_FIRST}/{info.name}")

    def reduced() -> MeasuredPair:
        _, sigma, _ = unpack_measurement(first)
        shape, settings = (info.height, info.width), request.pipeline.fidelity
        error = fidelity.semantic(decode_label(label, shape), shape, fidelity.bound(settings))
        return pair_from_maps(info, sigma, error, settings)

    return await asyncio.to_thread(reduced)
