"""From a source to Ŷ and σ, the part of the pipeline that calibration and serving share.

    source ──▶ M samples ──▶ σ ──▶ threshold ──▶ mask, trust level ──▶ answer
               (fan-out)     │
                             └──▶ with the truth Y: D ──▶ loss curve   (calibration)

The same code makes Ŷ and σ in calibration and in serving, and a mask is served only under the very
pipeline that was calibrated: the guarantee rests on both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.lab import Seen
from trustscale_server.platform.errors import DegenerateSamples
from trustscale_server.platform.ordered_map import ordered_map
from trustscale_server.platform.tasks import shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.align import aligns
from trustscale_server.sampling.draw import NO_LIMITS, CollectingSink, SampleSink, TimeLimits, draw
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.prediction import Prediction, predicted
from trustscale_server.sampling.shown import answered, shown_as
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.sampling.sigma.estimators import Accumulator
from trustscale_server.sampling.sigma.features import OnRows
from trustscale_server.sampling.sigma.words import NO_TEXT, ReadPage
from trustscale_server.sampling.spec import MeasurementSpec, raise_if_pipeline_differs
from trustscale_server.upscalers.base import RGB, Source, Upscaler
from trustscale_server.upscalers.symmetries import sample_seeds


class MeasurementSink(SampleSink):
    """Receives what `measure` makes while it works; by default it is dropped.

    takes_sigma: whether `on_sigma` gets σ, which is not returned then.
    """

    takes_sigma: bool = False

    def on_first(self, sample: RGB) -> None:
        """Take the sample that arrives first, in a thread."""

    def on_sigma(self, top: int, rows: NDArray[np.float32]) -> None:
        """Take the rows of σ from row `top` on, in threads; they may be changed."""


@dataclass(frozen=True, slots=True)
class EverySample(MeasurementSink):
    """Passes every sample, with its index, to all of these."""

    takers: Sequence[Callable[[int, RGB], None]]

    def on_sample(self, index: int, sample: RGB) -> None:
        for take in self.takers:
            take(index, sample)


_DROP: Final = MeasurementSink()

SPARES = 4
"""Seeds in reserve for samples that fail for good, such as filtered ones."""

_AT_ONCE = 8192
"""Numbers that numpy sums pairwise; the bits of the mean depend on it."""


@dataclass(slots=True)
class Measurement:
    """Ŷ and σ of one input, and the time they took in milliseconds.

    sigma: no rows where the sink took them. seeds: behind the samples, in order, if known.
    distance: of the truth from Ŷ in normalised Lab, float32 [H, W], if it was seen on the way.
    page: what was read, where the error is of words.
    added: what the model added, of an enlarged picture.
    """

    prediction: RGB
    sigma: NDArray[np.float32]
    mean_log_sigma: float
    seeds: Sequence[int] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    distance: NDArray[np.float32] | None = None
    page: ReadPage | None = None
    added: Added | None = None


async def measure(
    upscaler: Upscaler,
    source: Source,
    pipeline: MeasurementSpec,
    seed: int,
    *,
    sink: MeasurementSink = _DROP,
    limits: TimeLimits = NO_LIMITS,
    truth: Seen | None = None,
) -> Measurement:
    """Draw M samples and reduce them to Ŷ and σ; memory does not grow with M.

    Args:
        upscaler: μ.
        source: X.
        pipeline: M, the prediction rule and the σ settings.
        seed: of the request; the sample seeds follow from it.
        sink: gets intermediate results as soon as they are there.
        limits: how long the samples may take.
        truth: Y, for `Measurement.distance`.

    Raises:
        CalibrationMismatch: the upscaler is not, or no longer, the one of the pipeline.
        DegenerateSamples: several samples, all identical, although the input is not flat.
        UpscalerError: a sample failed.
    """
    raise_if_pipeline_differs(pipeline, upscaler)  # again: the caller may have waited for long
    accumulator = _accumulator(source, pipeline, truth)
    prediction = Prediction(pipeline.prediction)
    reducer = _Reducer(accumulator, prediction, sink)
    started = time.perf_counter()
    seeds = await _draw_samples(
        upscaler, source, seed, pipeline.samples, sink=reducer, limits=limits, align=pipeline.align
    )
    raise_if_pipeline_differs(pipeline, upscaler)  # it may have been replaced while it worked
    made = await shielded(prediction.picture)
    if pipeline.fidelity.reader is not None:
        with span("reading"):
            accumulator.page = await shielded(_read_words, source, pipeline, made)
    sampled = time.perf_counter()
    if await shielded(accumulator.identical) and not source.is_flat:
        raise DegenerateSamples(
            f"All {pipeline.samples} samples of {upscaler.name!r} are identical although the input "
            "is not flat: a cache or a fixed seed answers in place of the model, and the mask "
            "would be confident without reason."
        )
    with span("indecision"):
        sigma, mean_log_sigma = await shielded(
            _sigma_and_mean_log, accumulator, sink.on_sigma if sink.takes_sigma else None
        )
    scored = time.perf_counter()
    distance, page, reduced_s = accumulator.distance, accumulator.page, reducer.seconds
    del accumulator, reducer  # what σ was made of takes as much memory as what follows
    with span("added"):
        picture, added = await shielded(answered, source, made, pipeline)
    finished = time.perf_counter()
    return Measurement(
        prediction=picture,
        sigma=sigma,
        mean_log_sigma=mean_log_sigma,
        seeds=seeds,
        timings_ms={
            "samples": 1e3 * (sampled - started - reduced_s),
            "indecision": 1e3 * (reduced_s + scored - sampled),
            "added": 1e3 * (finished - scored),
        },
        distance=distance,
        page=page,
        added=added,
    )


def _read_words(source: Source, pipeline: MeasurementSpec, prediction: RGB) -> ReadPage:
    """What is read in Ŷ and in the enlarged input."""
    enlarged = Enlarged(source.rgb, pipeline.scale)
    return ReadPage.from_pictures(prediction, enlarged[: prediction.shape[0]], pipeline.scale)


class _Reducer(SampleSink):
    """Accumulates samples for σ and Ŷ, and passes them on; `seconds`: how long that took."""

    def __init__(
        self, accumulator: Accumulator, prediction: Prediction, sink: MeasurementSink
    ) -> None:
        self._accumulator, self._prediction, self._sink = accumulator, prediction, sink
        self.seconds = 0.0

    def on_sample(self, index: int, sample: RGB) -> None:
        started = time.perf_counter()
        if not self._accumulator.count:
            self._sink.on_first(sample)
        self._accumulator.add(sample)
        self._prediction.add(index, sample)
        self._sink.on_sample(index, sample)
        self.seconds += time.perf_counter() - started

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self._sink.on_progress(done, total, unit)

    def on_tile(self, sample: RGB, rows: slice, columns: slice) -> None:
        self._sink.on_tile(sample, rows, columns)


async def predict(
    upscaler: Upscaler,
    source: Source,
    seed: int,
    *,
    sink: MeasurementSink = _DROP,
    limits: TimeLimits = NO_LIMITS,
) -> RGB:
    """Make the Ŷ of `measure` by the rule `first`, from one sample and without σ.

    It has the colours of X, unless the upscaler is told otherwise. Arguments and errors are those
    of `measure`; the sink gets the progress alone.
    """
    collected = CollectingSink(sink)
    await _draw_samples(
        upscaler, source, seed, 1, sink=collected, limits=limits, align=aligns(upscaler)
    )
    made = collected.samples[0]
    return await shielded(shown_as, source, made, upscaler.capabilities.picture)


async def _draw_samples(
    upscaler: Upscaler,
    source: Source,
    seed: int,
    samples: int,
    *,
    sink: SampleSink,
    limits: TimeLimits,
    align: bool,
) -> list[int]:
    """Draw the samples of a request, and return the seeds behind them."""
    most = upscaler.capabilities.max_samples
    spares = SPARES if most is None else max(0, min(SPARES, most - samples))
    seeds = sample_seeds(seed, samples + spares)
    with span("samples", {"trustscale.upscaler": upscaler.name, "trustscale.samples": samples}):
        return await draw(
            upscaler,
            source,
            seeds[:samples],
            sink=sink,
            spare_seeds=seeds[samples:],
            limits=limits,
            align=align,
        )


def measured_again(
    samples: Sequence[RGB],
    source: Source,
    pipeline: MeasurementSpec,
    truth: Seen | None = None,
    page: ReadPage | None = None,
) -> Measurement:
    """Measure the same samples under another σ; `page` is what was read of them."""
    accumulator = _accumulator(source, pipeline, truth)
    accumulator.page = page
    for sample in samples:
        accumulator.add(sample)
    sigma, mean_log_sigma = _sigma_and_mean_log(accumulator, None)
    picture, added = answered(source, predicted(samples, pipeline.prediction), pipeline)
    return Measurement(
        picture, sigma, mean_log_sigma, distance=accumulator.distance, page=page, added=added
    )


def _accumulator(source: Source, pipeline: MeasurementSpec, truth: Seen | None) -> Accumulator:
    """For samples of the source; X is enlarged where σ looks at it."""
    enlarged = Enlarged(source.rgb, pipeline.scale)
    settings = pipeline.sigma_of(source.features)
    has_distance = pipeline.fidelity.spec.of_distance is not None
    return Accumulator(
        enlarged.shape,
        settings,
        enlarged if settings.needs_input else None,
        pipeline.samples,
        facts=None if source.features is None else source.features.terms(),
        truth=truth if pipeline.picture == "model" and has_distance else None,
    )


def _sigma_and_mean_log(
    accumulator: Accumulator, on_sigma: OnRows[None] | None
) -> tuple[NDArray[np.float32], float]:
    """σ, without rows if `on_sigma` gets them, and the mean of its logarithm.

    Where words were read, it is the mean over all text.
    """
    sigma = np.empty(accumulator.shape if on_sigma is None else (0, 0), np.float32)

    def on_rows(top: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        # The floor keeps flat regions (σ = 0) finite; it is far below any σ of 8-bit samples.
        logs = np.maximum(rows, np.float32(1e-12))
        np.log(logs, out=logs)
        if on_sigma is None:
            sigma[top : top + len(rows)] = rows
        else:
            on_sigma(top, rows)
        if accumulator.page is None:
            return logs.reshape(-1)
        return logs[logs > math.log(2 * NO_TEXT)]

    total, rest, pixels = np.float64(0), np.empty(0, np.float32), 0
    with ordered_map("trustscale-score") as map_fn:
        accumulator.is_asked_once = True
        for logs in accumulator.strips(on_rows, map_fn):
            pixels += len(logs)
            values = np.concatenate([rest, logs]) if len(rest) else logs
            whole = len(values) - len(values) % _AT_ONCE
            total = np.add.reduce(values[:whole], dtype=np.float64, initial=total)
            rest = values[whole:]
    total = np.add.reduce(rest, dtype=np.float64, initial=total)
    return sigma, float(total / pixels) if pixels else math.log(NO_TEXT)
