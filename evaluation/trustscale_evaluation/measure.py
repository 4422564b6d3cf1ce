"""One upload under given settings: samples, Ŷ and σ, D, and what masks contain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.samples import SampleCache, Samples
from trustscale_server.calibrating.measure import PATIENCE_S
from trustscale_server.calibrating.pairs import Pair
from trustscale_server.conformal import fidelity
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.pixels import filters
from trustscale_server.pixels.lab import normalised_lab
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.measure import EverySample, Measurement, measure, measured_again
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.things import reading
from trustscale_server.upscalers.base import RGB, Source, Upscaler

T = TypeVar("T")


def measurement_key(pipeline: MeasurementSpec) -> Hashable:
    """Return a key that tells measurements of the same samples apart: σ, prediction rule and M."""
    return pipeline.indecision, pipeline.prediction, pipeline.samples


class EvaluatedImage:
    """One upload; everything about it is computed once.

    Args:
        place: its place on its side of the plan.
        samples: the M samples of X.
        is_new: whether they were generated now.
        known: measurements by `measurement_key`.
    """

    def __init__(
        self,
        place: int,
        pair: Pair,
        samples: Samples,
        *,
        is_new: bool,
        known: Mapping[Hashable, Measurement],
    ) -> None:
        self.place, self.pair, self.samples, self.is_new = place, pair, samples, is_new
        self._results: dict[Hashable, Any] = dict(known)

    def drawn(self, count: int) -> list[RGB]:
        """Return the first `count` samples, which a smaller M would have drawn."""
        return list(self.samples.images[:count])

    def measured(self, pipeline: MeasurementSpec) -> Measurement:
        """Return Ŷ and σ, as a request under this pipeline gets them."""
        return self._computed_once(
            measurement_key(pipeline),
            lambda: measured_again(
                self.drawn(pipeline.samples), Source(self.pair.x, self.pair.features), pipeline
            ),
        )

    def prediction(self, pipeline: MeasurementSpec) -> RGB:
        """Return the prediction Ŷ."""
        return self.measured(pipeline).prediction

    def sigma(self, pipeline: MeasurementSpec) -> NDArray[np.float32]:
        """Return σ, float32 [H, W]."""
        return self.measured(pipeline).sigma

    def error(self, pipeline: MeasurementSpec, settings: FidelitySettings) -> NDArray[np.float32]:
        """Return D of Ŷ, float32 [H, W]; settings that differ only in B share a measurement."""
        uncut = replace(settings, bound=None)
        measured = self._computed_once(
            (_prediction_key(pipeline), uncut),
            lambda: self._error(self.prediction(pipeline), uncut),
        )
        if not fidelity.clips(settings):
            return measured
        return np.minimum(measured, filters.largest_float32(fidelity.bound(settings)))

    def _error(self, prediction: RGB, settings: FidelitySettings) -> NDArray[np.float32]:
        truth = self.pair.y
        label = reading.misread(truth, prediction) if settings.spec.is_for_text else None
        return fidelity.error(truth, prediction, settings, label=label)

    def quantities(
        self, pipeline: MeasurementSpec, thresholds: NDArray[np.float64]
    ) -> dict[str, Any]:
        """Return the `mask_quantities` of the image."""
        squares = self._computed_once(
            ("squares", _prediction_key(pipeline)),
            lambda: _squares(self.pair.y, self.prediction(pipeline)),
        )
        return mask_quantities(self.sigma(pipeline), squares, thresholds)

    def _computed_once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._results:
            self._results[key] = make()
        value: T = self._results[key]
        return value


def _prediction_key(pipeline: MeasurementSpec) -> Hashable:
    """A key that tells apart Ŷ of the same samples: the rule, and for `mean` also M."""
    return pipeline.prediction, pipeline.samples if pipeline.prediction == "mean" else 0


_Squares = Sequence[tuple[str, float, NDArray[np.float64]]]
"""(name of the PSNR, its peak, Σ over the channels of (Y − Ŷ)², float64 [H, W])."""


def _squares(truth: RGB, prediction: RGB) -> _Squares:
    rgb = truth.astype(np.float64) - prediction
    lab = normalised_lab(truth).astype(np.float64) - normalised_lab(prediction)
    return [
        ("psnr", float(np.iinfo(truth.dtype).max), np.einsum("hwc,hwc->hw", rgb, rgb)),
        ("psnr_lab", 1.0, np.einsum("chw,chw->hw", lab, lab)),
    ]


def mask_quantities(
    sigma: NDArray[np.float32], squares: _Squares, thresholds: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Measure what the masks {σ < t} of one image hold, one entry per threshold.

    area: share of trusted pixels. psnr, psnr_lab: in dB, of sRGB and of normalised Lab with a peak
    of 1; NaN for an empty mask, infinite where every trusted pixel is exact.
    """
    order = np.argsort(sigma, axis=None)  # the pixels of each mask are a beginning of it
    count = np.searchsorted(sigma.reshape(-1)[order], thresholds, side="left")
    quantities = {"area": count / sigma.size}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, peak, square in squares:
            total = np.append(0, np.cumsum(square.reshape(-1)[order]))
            quantities[name] = 10 * np.log10(peak**2 * 3 * count / total[count])
    return quantities


async def evaluated_image(
    place: int, pair: Pair, upscaler: Upscaler, largest: MeasurementSpec, cache: SampleCache
) -> EvaluatedImage:
    """Make an image with the samples of `largest`, the pipeline with the largest M.

    Raises DegenerateSamples, or UpscalerError if the samples could not be had.
    """
    source, count = Source(pair.x, pair.features), largest.samples
    path = cache.path(upscaler.fingerprint, source.digest, pair.seed, count)
    samples = await asyncio.to_thread(cache.get, path)
    measurement: Measurement | None = None
    if samples is None:
        k = upscaler.scale
        images = np.empty((count, k * source.height, k * source.width, 3), source.rgb.dtype)
        limits = TimeLimits(patience_s=PATIENCE_S)
        measurement = await measure(
            upscaler,
            source,
            largest,
            pair.seed,
            sink=EverySample([images.__setitem__]),
            limits=limits,
        )
        samples = Samples(images, measurement.timings_ms["samples"] / 1e3)
        await asyncio.to_thread(cache.put, path, samples)
    known = {} if measurement is None else {measurement_key(largest): measurement}
    return EvaluatedImage(place, pair, samples, is_new=measurement is not None, known=known)
