"""The M samples of an image: from the cache, or else generated once and kept.

Stored samples go through `app.sampling.measure` again, as if the upscaler had just made them. So
every Ŷ and σ of an evaluation comes from the code that serves, whatever settings it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.conformal.indecision import IndecisionSettings
from app.evaluation.cache import SampleCache, Samples
from app.sampling.measure import Measurement, measure
from app.sampling.pipeline import Pipeline, Prediction
from app.upscalers.base import RGB, Source, Upscaler
from app.upscalers.seeds import sample_seeds
from app.upscalers.turns import Turn

Wanted = tuple[IndecisionSettings, Prediction, int]
"""What distinguishes two measurements of the same samples: σ, the prediction rule, and M."""


def wanted(pipeline: Pipeline) -> Wanted:
    """What a pipeline wants from the samples."""
    return pipeline.indecision, pipeline.prediction, pipeline.samples


class Replay:
    """An upscaler that answers with samples made before, in place of the one that made them."""

    def __init__(self, upscaler: Upscaler, images: Sequence[RGB], seed: int) -> None:
        self.name = upscaler.name
        self.kind = upscaler.kind
        self.scale = upscaler.scale
        self.fingerprint = upscaler.fingerprint
        self.capabilities = replace(
            upscaler.capabilities, samples_per_call=len(images), concurrency=1
        )
        # By position, not by the seed that was used: a spare seed may have taken a place.
        self._images = dict(zip(sample_seeds(seed, len(images)), images, strict=True))

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: Turn | None = None
    ) -> list[RGB]:
        del source, turn
        return [self._images[seed] for seed in seeds]

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The samples of one image, what was measured of them, and whether they were generated now."""

    samples: Samples
    measurements: dict[Wanted, Measurement]
    generated: bool
    seconds: float
    """Time that the upscaler took; 0 from the cache."""


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
    seconds = 0.0
    samples = await asyncio.to_thread(cache.get, path)
    generated = samples is None
    if samples is None:
        samples, measurement = await _generate(upscaler, source, seed, largest)
        await asyncio.to_thread(cache.put, path, samples)
        measurements[wanted(largest)] = measurement
        seconds = samples.seconds
    for pipeline in pipelines:
        if wanted(pipeline) not in measurements:
            replay = Replay(upscaler, list(samples.images[: pipeline.samples]), seed)
            measurements[wanted(pipeline)] = await measure(replay, source, pipeline, seed)
    return Drawn(samples, measurements, generated, seconds)


async def _generate(
    upscaler: Upscaler, source: Source, seed: int, pipeline: Pipeline
) -> tuple[Samples, Measurement]:
    k = upscaler.scale
    images = np.empty((pipeline.samples, k * source.height, k * source.width, 3), np.uint8)

    def keep(index: int, sample: RGB) -> None:
        images[index] = sample

    measurement = await measure(upscaler, source, pipeline, seed, on_sample=keep)
    seconds = measurement.timings_ms["samples"] / 1e3
    return Samples(images, list(measurement.seeds), seconds), measurement
