"""Pairs of a job whose σ is fitted: what the fit sees of some, and the samples of the others, wait.

They are among the job's blobs until all pairs are drawn, so nothing is generated twice.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from trustscale_server.calibrating.fit import Photograph, fitted_pipeline, photograph_of
from trustscale_server.calibrating.measure import PairTask
from trustscale_server.calibrating.packing import npz_bytes
from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibrating.records import AwaitsFit, ToFitOn
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.pixels.npy import read_arrays
from trustscale_server.platform.errors import BadPairs
from trustscale_server.sampling.measure import Measurement, measured_again
from trustscale_server.sampling.sigma import fitting
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.blobs import Blobs
from trustscale_server.upscalers.base import RGB, Source

_PLACE = "fit"  # where the blobs hold what waits


async def drawn(blobs: Blobs, task: PairTask) -> tuple[ToFitOn | AwaitsFit, Measurement]:
    """Generate; store what the fit sees of the pair, or else its samples. Return the record."""
    samples: dict[int, RGB] = {}
    pair, pipeline = task.pair, task.request.pipeline
    measurement = await task.measure(samples.__setitem__)
    ordered = [samples[index] for index in range(pipeline.samples)]
    record: ToFitOn | AwaitsFit
    if pair.name in task.request.fit_split.fitted:
        record = ToFitOn()
        stored = await asyncio.to_thread(
            lambda: _pack_photograph(photograph_of(pair, ordered, pipeline))
        )
    else:
        record = AwaitsFit()
        stored = await asyncio.to_thread(_pack_samples, ordered)
    # What came first stays: an upscaler without seeds answers differently the second time.
    await blobs.create(task.job, f"{_PLACE}/{pair.name}", stored)
    return record, measurement


async def fit_and_measure(
    blobs: Blobs,
    job: str,
    request: CalibrationRequest,
    to_fit_on: Sequence[str],
    waiting: Sequence[str],
    load: Callable[[str], Awaitable[Pair]],
) -> tuple[MeasurementSpec, list[MeasuredPair]]:
    """Return the pipeline with the fitted σ, and the pairs that waited for it, now measured.

    It is the request's where nothing is fitted. to_fit_on, waiting: names; `load` gives a pair.
    """
    if not request.fit_split.fitted:
        return request.pipeline, []
    if not to_fit_on:
        raise BadPairs("None of the pairs to fit σ on could be used.", items=[])
    photographs = [await blobs.get(job, f"{_PLACE}/{name}") for name in to_fit_on]
    pipeline = await asyncio.to_thread(
        fitted_pipeline,
        map(_unpack_photograph, photographs),
        request.pipeline,
        request.fit_split.scenes,
        request.upscaler,
    )
    measured = []
    for name in waiting:
        samples = await blobs.get(job, f"{_PLACE}/{name}")
        pair = await load(name)
        measured.append(await asyncio.to_thread(_reduced, pair, samples, pipeline))
    return pipeline, measured


def _pack_photograph(photograph: Photograph) -> bytes:
    digest, sample = photograph
    return npz_bytes(
        digest=digest,
        names=sample.names,
        terms=sample.terms,
        error=sample.error,
        share=sample.share,
    )


def _unpack_photograph(record: bytes) -> Photograph:
    arrays = read_arrays(record)
    sample = fitting.FitSample(
        tuple(map(str, arrays["names"])), arrays["terms"], arrays["error"], arrays["share"]
    )
    return Photograph(str(arrays["digest"]), sample)


def _pack_samples(samples: Sequence[RGB]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, samples=np.stack(samples))
    return out.getvalue()


def _reduced(pair: Pair, packed: bytes, pipeline: MeasurementSpec) -> MeasuredPair:
    samples = list(read_arrays(packed)["samples"])
    measurement = measured_again(samples, Source(pair.x, pair.features), pipeline, pair.seen)
    return reduce_pair(pair, measurement, pipeline)
