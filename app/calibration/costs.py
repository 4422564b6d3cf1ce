"""What a calibration costs before it begins: calls, time and money."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from app.errors import UpscalerError
from app.sampling.draw import Throughput
from app.upscalers.base import Upscaler

_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Tariff:
    """The configured price and rate of an upscaler's calls."""

    price: float | None = None
    most_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """What pairs cost, from the measured throughput and the tariffs by upscaler (none: free).

    at_once: pairs that are measured at the same time.
    """

    throughput: Throughput = field(default_factory=Throughput)
    tariff: Callable[[str], Tariff] = lambda _: Tariff()
    at_once: int = 1

    async def of(
        self, upscaler: Upscaler, *, pairs: int, samples: int, pixels: float
    ) -> Mapping[str, str]:
        """Calls, and where known seconds and price, as the job store keeps them.

        pairs: still to be measured.
        pixels: of X, on average.
        """
        capabilities, tariff = upscaler.capabilities, self.tariff(upscaler.name)
        if capabilities.by_tiles and self.throughput.seconds_per_megapixel(upscaler) is None:
            with suppress(UpscalerError):
                await self.throughput.measure(upscaler)
        calls = math.ceil(samples / capabilities.samples_per_call) * pairs
        costs = {"calls": str(calls)}
        if (seconds := self.throughput.estimate(upscaler, round(pixels), samples)) is not None:
            # A local model takes all cores for a pair.
            beside = 1 if capabilities.by_tiles else min(capabilities.concurrency, self.at_once)
            estimate = seconds * pairs / beside
            if tariff.most_per_hour is not None:
                estimate = max(estimate, _HOUR_S * ((calls - 1) // tariff.most_per_hour))
            costs["estimate_s"] = f"{estimate:.1f}"
        if tariff.price is not None:
            costs["price"] = f"{calls * tariff.price:.10g}"
        return costs
