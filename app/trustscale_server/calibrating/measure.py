"""One pair of a job is generated and measured, by the code of serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.canary_store import CanaryTaker
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.sampling.measure import EverySample, Measurement, measure
from trustscale_server.upscalers.base import RGB, Source

PATIENCE_S = 600.0
"""How long a calibration waits for an upscaler that is away."""


@dataclass(frozen=True, slots=True)
class PairTask:
    """One pair of a job, and what gives its samples; `canary` is set if the pair is one."""

    job: str
    request: CalibrationRequest
    pair: Pair
    upscaler: KeptSamples
    canary: CanaryTaker | None = None

    async def measure(self, on_sample: Callable[[int, RGB], None] | None = None) -> Measurement:
        """Generate and measure; `on_sample` gets every sample too.

        Raises:
            UpscalerError: the samples could not be had.
        """
        canary, pair = self.canary, self.pair
        takers = [] if on_sample is None else [on_sample]
        takers += [] if canary is None else [canary.see]
        measurement = await measure(
            self.upscaler,
            Source(pair.x, pair.features, pair.enlarged),
            self.request.pipeline,
            pair.seed,
            sink=EverySample(takers),
            limits=TimeLimits(patience_s=PATIENCE_S),
            truth=pair.seen,
        )
        if canary is not None:
            await canary.keep(self.upscaler.inner, pair.x, measurement.seeds)
        return measurement
