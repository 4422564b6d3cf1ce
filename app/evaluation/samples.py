"""The M samples of an image: from the cache, or else generated once and kept.

Every Ŷ and σ of an evaluation comes from the code that serves, whatever settings it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.conformal.indecision import IndecisionSettings
from app.evaluation.cache import SampleCache, Samples
from app.evaluation.reduce import ErrorMaps
from app.sampling.measure import Measurement, measure, measured_again
from app.sampling.pipeline import Pipeline, Prediction
from app.upscalers.base import RGB, Source, Upscaler

Wanted = tuple[IndecisionSettings, Prediction, int]
"""What distinguishes two measurements of the same samples: σ, the prediction rule, and M."""


def wanted(pipeline: Pipeline) -> Wanted:
    """What a pipeline wants from the samples."""
    return pipeline.indecision, pipeline.prediction, pipeline.samples


@dataclass(frozen=True, slots=True)
class Drawn:
    """The samples of one image, what was measured of them, and whether they were generated now."""

    samples: Samples
    measurements: dict[Wanted, Measurement]
    generated: bool


class Image(NamedTuple):
    """An image at a place of its side of the plan, as the first variant sees it.

    sigma: σ, float32 [H, W].
    """

    place: int
    found: Drawn
    maps: ErrorMaps
    sigma: NDArray[np.float32]


async def drawn(
    upscaler: Upscaler,
    source: Source,
    seed: int,
    pipelines: Sequence[Pipeline],
    cache: SampleCache,
) -> Drawn:
    """Samples of one input, measured under each of the pipelines.

    The pipelines may differ in σ, prediction rule and M; the largest M is generated, and smaller
    ones use the first samples, which are those that the smaller M would have drawn.

    Raises:
        DegenerateSamples: all samples are identical although the input is not flat.
        UpscalerError: the samples could not be had.
    """
    largest = max(pipelines, key=lambda pipeline: pipeline.samples)
    path = cache.path(upscaler.fingerprint, source.digest, seed, largest.samples)
    measurements: dict[Wanted, Measurement] = {}
    samples = await asyncio.to_thread(cache.get, path)
    generated = samples is None
    if samples is None:
        k = upscaler.scale
        images = np.empty((largest.samples, k * source.height, k * source.width, 3), np.uint8)

        def keep(index: int, sample: RGB) -> None:
            images[index] = sample

        made = await measure(upscaler, source, largest, seed, on_sample=keep)
        samples = Samples(images, list(made.seeds), made.timings_ms["samples"] / 1e3)
        await asyncio.to_thread(cache.put, path, samples)
        measurements[wanted(largest)] = made
    for pipeline in pipelines:
        if wanted(pipeline) not in measurements:
            count = pipeline.samples
            measurements[wanted(pipeline)] = await asyncio.to_thread(
                measured_again,
                list(samples.images[:count]),
                source,
                pipeline,
                samples.seeds[:count],
            )
    return Drawn(samples, measurements, generated)
