"""σ is fitted on a share of a job's scenes, which then calibrate nothing.

The samples of the other pairs wait in the blobs for the fit, so nothing is generated twice. Names
and seed alone decide which scenes these are (`fit_split.py`), before anything is measured, and the
fit uses nothing else. So calibration scenes and the next upload stay exchangeable.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from trustscale_server.calibrating.measure import PairTask
from trustscale_server.calibrating.packing import npz_bytes
from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibrating.records import AwaitsFit, ToFitOn
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal import fidelity
from trustscale_server.pixels.npy import read_arrays
from trustscale_server.platform.errors import BadPairs
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.measure import Measurement, measured_again
from trustscale_server.sampling.prediction import predicted
from trustscale_server.sampling.sigma import fitting
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.moments import Moments
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.base import Blobs
from trustscale_server.upscalers.base import RGB, Source

FIT_DIGITS = 16  # of the digests that an artefact keeps

_PLACE = "fit"  # where the blobs hold what waits


class Photograph(NamedTuple):
    """What the fit sees of a pair: the digest of its pixels, and its cells."""

    digest: str
    sample: fitting.FitSample


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


def photograph_of(pair: Pair, samples: Sequence[RGB], pipeline: MeasurementSpec) -> Photograph:
    """Return what the fit sees of a pair."""
    moments = Moments(pair.y.shape, Enlarged(pair.x, pipeline.scale))
    for sample in samples:
        moments.add(sample)
    moments.facts = pair.features.terms()
    prediction = predicted(samples, pipeline.prediction)
    error = fidelity.error(pair.y, prediction, pipeline.fidelity)
    return Photograph(_digest(pair.pixels_sha256), fitting.fit_sample(moments.maps(), error))


def fitted_pipeline(
    photographs: Iterable[Photograph], pipeline: MeasurementSpec, scenes: int, name: str | None
) -> MeasurementSpec:
    """Return the pipeline with the σ fitted on photographs of so many scenes.

    name: the upscaler's.
    """
    ordered = sorted(photographs, key=lambda photograph: photograph.digest)
    fitted_sigma = replace(
        fitting.fit([photograph.sample for photograph in ordered], units=fitting.units_for(scenes)),
        name=f"fitted for {name}" if name else "fitted",
        upscaler=pipeline.fingerprint,
        samples=pipeline.samples,
        metric=pipeline.fidelity.metric,
        scenes=scenes,
        pairs=len(ordered),
        photographs=tuple(photograph.digest for photograph in ordered),
    )
    return pipeline.model_copy(
        update={"indecision": IndecisionSettings("fitted", fit=fitted_sigma)}
    )


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


def is_fitted_on(indecision: IndecisionSettings, pixels_sha256: str) -> bool:
    """Return whether σ was fitted on the photograph with these pixels."""
    return any(_digest(pixels_sha256) in fit.photographs for fit in indecision.all_fits)


def _digest(pixels_sha256: str) -> str:
    return pixels_sha256[:FIT_DIGITS]
