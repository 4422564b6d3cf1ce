"""What a few paid calls show of an upscaler: what matters for calibration and cost."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from dataclasses import dataclass, field

import numpy as np

from trustscale_server.pixels.align import Agreement
from trustscale_server.pixels.lab import normalised_lab
from trustscale_server.platform.errors import UpscalerError
from trustscale_server.upscalers.alignment import Alignment, alignment
from trustscale_server.upscalers.base import RGB, Source, Upscaler
from trustscale_server.upscalers.pattern import pattern

_SEEDS = (193, 290)  # whose residues modulo 96 differ


@dataclass(slots=True)
class Assessment:
    """What three generations have shown; None is not known.

    error: the first failure.
    repeatable: the same seed gave the same bytes.
    varies: another seed gave other bytes.
    lossless: no answer came in a lossy format.
    latency_s: median time of one generation.
    calls_per_request: generations of a request for `samples` samples, without retries.
    agreement: with the input, of enlarged samples.
    seam: how much half of a picture differs, beside the cut, from the same place in the whole one,
    in 100 steps of lightness; None where a seed gives no sample twice.
    """

    name: str
    kind: str
    samples: int
    reachable: bool = False
    generates: bool = False
    error: str | None = None
    scale: int | None = None
    fingerprint: str | None = None
    takes_seeds: bool | None = None
    repeatable: bool | None = None
    varies: bool | None = None
    lossless: bool | None = None
    latency_s: float | None = None
    calls_per_request: int | None = None
    alignment: Alignment | None = None
    agreement: Agreement | None = None
    seam: float | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def honours_seeds(self) -> bool | None:
        if not self.takes_seeds or self.varies is None or self.repeatable is None:
            return None
        return self.varies and self.repeatable

    @property
    def obstacle(self) -> str | None:
        """Why no mask can be made; None if one can."""
        if not self.generates:
            return "it gave no samples"
        if self.alignment is not None and self.alignment.problem is not None:
            return "its samples do not lie on the input's pixels"
        return None

    @property
    def seams(self) -> str | None:
        """What half a picture showed, in words."""
        if self.seam is None:
            return None
        return f"beside a cut its pictures differ by {self.seam:.1f} of 100 steps"

    @property
    def usable(self) -> bool:
        return self.obstacle is None


async def assess(upscaler: Upscaler, image: RGB | None = None, *, samples: int = 8) -> Assessment:
    """Check the upscaler, then generate with one seed, another, and the first again.

    An `UpscalerError` is in the report.

    Three generations are paid for, and one of half the picture if a seed gives a sample twice.
    Image uint8 [h, w, 3]; None: a synthetic pattern of 96 x 96. `samples` M only counts the calls
    per request.
    """
    report = Assessment(upscaler.name, upscaler.kind, samples)
    source = Source(pattern() if image is None else image)
    try:
        await upscaler.probe()
        report.reachable = True
        capabilities = upscaler.capabilities
        report.scale, report.fingerprint = upscaler.scale, upscaler.fingerprint
        report.takes_seeds = capabilities.seeds
        report.calls_per_request = math.ceil(samples / capabilities.samples_per_call)
        first, other, again = [
            await _timed(upscaler, source, seed) for seed in (*_SEEDS, _SEEDS[0])
        ]
        report.repeatable = bool(np.array_equal(first[0], again[0]))
        if report.repeatable:
            half_input = np.ascontiguousarray(source.rgb[:, : source.width // 2])
            (half_sample,) = await upscaler.generate(Source(half_input), [_SEEDS[0]])
            report.seam = _seam(first[0], half_sample, upscaler.scale)
    except UpscalerError as error:
        report.error = error.detail
        return report
    report.generates = True
    report.latency_s = statistics.median(seconds for _, seconds in (first, other, again))
    report.varies = not np.array_equal(first[0], other[0])
    report.lossless = upscaler.capabilities.lossless
    report.alignment = await asyncio.to_thread(alignment, source.rgb, first[0], upscaler.scale)
    if upscaler.scale > 1:
        report.agreement = await asyncio.to_thread(Agreement.from_pictures, first[0], source.rgb)
    report.warnings = _warnings(report, upscaler.capabilities.max_samples)
    return report


async def _timed(upscaler: Upscaler, source: Source, seed: int) -> tuple[RGB, float]:
    started = time.perf_counter()
    (sample,) = await upscaler.generate(source, [seed])
    return sample, time.perf_counter() - started


def _seam(whole_sample: RGB, half_sample: RGB, scale: int) -> float:
    """Root mean square of the differences of lightness beside the cut, in 100 steps."""
    width = half_sample.shape[1]
    beside = slice(max(0, width - 8 * scale), width)  # 8 pixels of the input
    planes = [normalised_lab(sample[:, beside])[0] for sample in (whole_sample, half_sample)]
    return 100 * float(np.sqrt(np.mean((planes[0] - planes[1]) ** 2)))


def _warnings(report: Assessment, max_samples: int | None) -> list[str]:
    warnings = []
    if not report.varies:
        warnings.append(
            "Two generations were identical: a fixed seed, a cache or a deterministic model. A "
            "second one adds nothing: calibrate it with one sample (--samples 1), whose σ looks at "
            "what the upscaler adds to its input."
        )
    elif report.takes_seeds and not report.repeatable:
        warnings.append(
            "The same seed gave two different samples, so answers cannot be reproduced; masks and "
            "guarantees are not affected."
        )
    elif not report.takes_seeds and report.repeatable:
        warnings.append("No seed is sent, yet the first and third answer were identical: a cache.")
    if report.lossless is False:
        warnings.append("Samples come in a lossy format; its noise adds to the indecision.")
    if report.alignment is not None and report.alignment.problem:
        warnings.append(f"The samples are not aligned: {report.alignment.problem}.")
    if max_samples is not None and max_samples < report.samples:
        warnings.append(f"It has only {max_samples} distinct samples, fewer than {report.samples}.")
    return warnings
