"""What the pairs of a calibration cost: calls, time and money."""

from __future__ import annotations

import asyncio
import io
import math
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from PIL import Image

from trustscale_server.calibrating.pair_source import PairSource, Role
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.platform.errors import BadInput, UpscalerError
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.sampling.throughput import PAIRS, Throughput
from trustscale_server.upscalers.base import SUPPLIED, Source, Upscaler

_TRIAL_SIDE: Final = 128  # of a timed X, in pixels


@dataclass(frozen=True, slots=True)
class Tariff:
    """The configured price and rate of an upscaler's calls."""

    price_per_call: float | None = None
    max_calls_per_hour: int | None = None


class PairCosts(NamedTuple):
    """What pairs cost at most: calls, and where they are known seconds and price."""

    calls: int
    estimate_s: float | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """What pairs cost, from the measured throughput and the tariffs; without a tariff, nothing.

    tariffs: by the name of the upscaler.
    job_concurrency: pairs that are measured at the same time.
    watched: upscalers whose calibrations keep canaries, each for a call more if seeds are sent.
    """

    throughput: Throughput = field(default_factory=Throughput)
    tariffs: Mapping[str, Tariff] = field(default_factory=dict)
    job_concurrency: int = 1
    watched: Collection[str] = ()

    def repeats(self, upscaler: Upscaler) -> bool:
        """Return whether a canary of its calibrations costs a call more."""
        return upscaler.name in self.watched and upscaler.capabilities.seeds

    async def estimate(
        self,
        upscaler: Upscaler,
        pipeline: MeasurementSpec,
        *,
        pairs: int,
        pixels: float,
        repeated: int = 0,
    ) -> PairCosts:
        """Return what pairs cost.

        pairs: still to be measured.
        pixels: of X, on average.
        repeated: pairs that are generated once more, as canaries.
        """
        if upscaler.kind == SUPPLIED:
            return PairCosts(0)
        capabilities, tariff = upscaler.capabilities, self.tariffs.get(upscaler.name, Tariff())
        calls = math.ceil(pipeline.samples / capabilities.samples_per_call) * pairs + repeated
        estimate = price = None
        if (seconds := await self._of_a_pair(upscaler, pipeline, pixels)) is not None and pairs:
            estimate = seconds * pairs
            if tariff.max_calls_per_hour is not None:
                estimate = max(estimate, 3600.0 * ((calls - 1) // tariff.max_calls_per_hour))
            estimate = round(estimate, 1)
        if tariff.price_per_call is not None:
            price = round(calls * tariff.price_per_call, 10)  # 3 · 0.1 is 0.3
        return PairCosts(calls, estimate, price)

    async def _of_a_pair(
        self, upscaler: Upscaler, pipeline: MeasurementSpec, pixels: float
    ) -> float | None:
        """Seconds that each pair adds; None: not known before the first.

        They are known of earlier calibrations. A local model is tried, since that is free; of
        another one requests tell how long its samples take.
        """
        work = (upscaler, round(pixels), pipeline.samples)
        seconds = self.throughput.estimate(*work, PAIRS)
        if seconds is None and upscaler.capabilities.by_tiles:
            with suppress(UpscalerError, BadInput):
                await self._try(upscaler, pipeline)
            seconds = self.throughput.estimate(*work, PAIRS)
        if seconds is None and (of_samples := self.throughput.estimate(*work)) is not None:
            seconds = of_samples / min(upscaler.capabilities.concurrency, self.job_concurrency)
        return seconds

    async def _try(self, upscaler: Upscaler, pipeline: MeasurementSpec) -> None:
        """Time small pairs, as many at once as a job measures, after one that wakes the model."""
        picture = Image.effect_noise((_TRIAL_SIDE * pipeline.scale,) * 2, 50).convert("RGB")
        picture.save(file := io.BytesIO(), "PNG")

        source = PairSource("trial")
        files: dict[Role, bytes] = {"y": file.getvalue()}

        async def trial() -> None:
            pair = await asyncio.to_thread(
                load_pair, source, files, pipeline, degradation=None, seed=0
            )
            measurement = await measure(
                upscaler, Source(pair.x, pair.features), pipeline, pair.seed, truth=pair.seen
            )
            if not pipeline.fidelity.spec.needs_label:
                await asyncio.to_thread(reduce_pair, pair, measurement, pipeline)

        await trial()
        started = time.perf_counter()
        await asyncio.gather(*(trial() for _ in range(self.job_concurrency)))
        seconds = (time.perf_counter() - started) / self.job_concurrency
        self.throughput.note(upscaler, _TRIAL_SIDE**2, pipeline.samples, seconds, PAIRS)
