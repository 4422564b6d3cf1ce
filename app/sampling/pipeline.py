"""The pipeline that a calibration is valid for, and what M samples of one input give: Ŷ and σ.

    source ──▶ M samples ──▶ σ ──▶ threshold ──▶ mask, trust level ──▶ answer
               (fan-out)     │
                             └──▶ with the truth Y: D ──▶ loss curve   (calibration)

The same code makes Ŷ and σ in calibration and in serving, and a mask is served only under the very
pipeline that was calibrated: the guarantee rests on both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from trustscale_server.concurrency import score_cores, shielded
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.lab import Seen
from trustscale_server.errors import CalibrationMismatch, DegenerateSamples, UpscalerUnavailable
from trustscale_server.images.facts import RULES, UPLOAD, InputFeatures, classify
from trustscale_server.images.raster import Stretch
from trustscale_server.images.resize import Enlarged
from trustscale_server.sampling.draw import NO_LIMITS, CollectingSink, SampleSink, TimeLimits, draw
from trustscale_server.sigma import estimators
from trustscale_server.sigma.estimators import IndecisionSettings, shipped_for
from trustscale_server.sigma.moments import MAX_SAMPLES, mean_image
from trustscale_server.sigma.reading import NO_TEXT, ReadPage
from trustscale_server.telemetry.signals import span
from trustscale_server.upscalers.base import (
    RGB,
    Source,
    Upscaler,
    sample_seeds,
    settings_of,
)
from trustscale_server.upscalers.resilience import ResilientUpscaler

TRUST_LAYER_VERSION = 3
"""Raised whenever the same samples would give another σ, D or Ŷ."""

COLOR_SPACE: Literal["normalised_lab_d65"] = "normalised_lab_d65"

Prediction = Literal["first", "mean"]


class Pipeline(BaseModel):
    """Everything that a calibration is valid for: all that changes Ŷ, σ or D.

    input_rule: of the classes of uploads (`app/images/facts.py`); None: no classes.
    stretch: how values become X of 16 bits (`app/images/raster.py`); None: X has 8 bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    scale: PositiveInt
    samples: int = Field(ge=1, le=MAX_SAMPLES)
    prediction: Prediction = "first"
    indecision: IndecisionSettings = IndecisionSettings()
    fidelity: FidelitySettings = FidelitySettings()
    color_space: Literal["normalised_lab_d65"] = COLOR_SPACE
    trust_layer: int = TRUST_LAYER_VERSION
    input_rule: str | None = None
    stretch: Stretch | None = Field(None, exclude_if=lambda stretch: stretch is None)

    @model_validator(mode="after")
    def _has_classes(self) -> Pipeline:
        if self.indecision.fits and self.input_rule is None:
            raise ValueError("fits of some classes need an input rule")
        return self

    @model_validator(mode="after")
    def _has_words(self) -> Pipeline:
        if self.indecision.row.reads and self.fidelity.reader is None:
            raise ValueError("the estimator reading belongs to the metric text")
        return self

    @model_validator(mode="after")
    def _has_enough_samples(self) -> Pipeline:
        least = self.indecision.least_samples
        if self.samples < least:
            raise ValueError(
                f"the estimator {self.indecision.estimator} needs at least {least} samples"
            )
        return self

    def sigma_of(self, facts: InputFeatures | None) -> IndecisionSettings:
        """Return how σ of an upload with these facts is made.

        Where it is nearly soft, by the fit of all classes: it may be soft, and a fit to sharp
        uploads alone can be wrong by far there.

        Raises:
            ValueError: its class decides, and the facts are not known.
        """
        if not self.indecision.fits:
            return self.indecision
        if facts is None or self.input_rule is None:
            raise ValueError("σ depends on the class of the upload, and its facts are not known")
        name = None if facts.is_nearly_soft else classify(self.input_rule, facts)
        return self.indecision.of_class(name)


def pipeline_differences(
    calibrated: Pipeline, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return how the live pipeline differs: `{field, calibrated, live}` each.

    With the calibration's digests of the upscaler's settings, a difference of fingerprints has a
    member `settings` that names those that changed.
    """
    live: dict[str, Any] = {
        "fingerprint": upscaler.fingerprint,
        "scale": upscaler.scale,
        "color_space": COLOR_SPACE,
        "trust_layer": TRUST_LAYER_VERSION,
    }
    differing = [
        {"field": name, "calibrated": getattr(calibrated, name), "live": value}
        for name, value in live.items()
        if getattr(calibrated, name) != value
    ]
    if differing and differing[0]["field"] == "fingerprint" and settings:
        now = settings_of(upscaler)
        names = {name for name in {*settings, *now} if settings.get(name) != now.get(name)}
        differing[0]["settings"] = sorted(names)
    if calibrated.input_rule not in {None, *RULES}:
        differing.append(
            {"field": "input_rule", "calibrated": calibrated.input_rule, "live": list(RULES)}
        )
    most = upscaler.capabilities.max_samples
    if most is not None and calibrated.samples > most:
        differing.append({"field": "samples", "calibrated": calibrated.samples, "live": most})
    return differing


def guard(
    calibrated: Pipeline, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> None:
    """Raise CalibrationMismatch, with all differences, unless the pipeline is the calibrated."""
    differing = pipeline_differences(calibrated, upscaler, settings)
    if differing:
        fields = ", ".join(", ".join(item.get("settings") or [item["field"]]) for item in differing)
        raise CalibrationMismatch(
            f"The active calibration of {upscaler.name!r} was made under another pipeline "
            f"({fields} differ), so its mask would have no foundation. Calibrate again, or "
            "restore the one that was calibrated.",
            differences=differing,
        )


async def identify(upscaler: Upscaler) -> None:
    """Ask an upscaler that was unavailable at the start for its identity.

    Raises:
        UpscalerUnavailable: it still is.
    """
    try:
        _ = upscaler.fingerprint
    except UpscalerUnavailable:
        await (upscaler.wake() if isinstance(upscaler, ResilientUpscaler) else upscaler.check())


DEFAULT_SAMPLES = 1
"""M by default: more calls gain little (docs/mask-power.md)."""


def default_estimator(samples: int) -> str:
    """Return the plain σ for M samples; a single one has no variance."""
    return IndecisionSettings().estimator if samples > 1 else "departure"


def default_indecision(
    upscaler: Upscaler, samples: int, fidelity: FidelitySettings, input_rule: str | None = UPLOAD
) -> IndecisionSettings:
    """Return the σ of words, or that fitted to this very upscaler, or else the plain one."""
    if fidelity.row.reads:
        return IndecisionSettings("reading")
    exact = getattr(upscaler, "exact_fingerprint", upscaler.fingerprint)
    fits = shipped_for(exact, samples, fidelity.metric)
    if fits:
        of_classes = fits[1:] if input_rule is not None else ()
        return IndecisionSettings("fitted", fit=fits[0], fits=of_classes)
    return IndecisionSettings(default_estimator(samples))


OnSigma = Callable[[int, NDArray[np.float32]], None]
"""Called as `MeasurementSink.on_sigma`."""


class MeasurementSink(SampleSink):
    """Receives what `measure` makes while it works; by default it is dropped.

    takes_sigma: whether `on_sigma` gets σ, which is not returned then.
    """

    takes_sigma: bool = False

    def on_first(self, sample: RGB) -> None:
        """Take the sample that arrives first, in a thread."""

    def on_prediction(self, prediction: RGB) -> None:
        """Take Ŷ, in the event loop, as soon as the samples are there; not if it is their mean."""

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

_ELSEWHERE = math.log(2 * NO_TEXT)  # below it is no text

_AT_ONCE = 8192
"""Numbers that numpy sums pairwise; the bits of the mean depend on it."""


@dataclass(slots=True)
class Measurement:
    """Ŷ and σ of one input, and the time they took in milliseconds.

    sigma: no rows where the sink took them. seeds: behind the samples, in order, if known.
    distance: of the truth from Ŷ in normalised Lab, float32 [H, W], if it was seen on the way.
    page: what was read, where the error is of words.
    """

    prediction: RGB
    sigma: NDArray[np.float32]
    mean_log_sigma: float
    seeds: Sequence[int] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    distance: NDArray[np.float32] | None = None
    page: ReadPage | None = None


async def measure(
    upscaler: Upscaler,
    source: Source,
    pipeline: Pipeline,
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
    guard(pipeline, upscaler)  # again: the caller may have waited for long
    shape = (source.height * pipeline.scale, source.width * pipeline.scale)
    accumulator = _accumulator(source, pipeline, truth)
    prediction = _Prediction(pipeline.prediction, shape, source.rgb.dtype.type)
    reducer = _Reducer(accumulator, prediction, sink)
    started = time.perf_counter()
    seeds = sample_seeds(seed, pipeline.samples + _spares(upscaler, pipeline.samples))
    with span(
        "samples", {"trustscale.upscaler": upscaler.name, "trustscale.samples": pipeline.samples}
    ):
        used = await draw(
            upscaler,
            source,
            seeds[: pipeline.samples],
            sink=reducer,
            spare_seeds=seeds[pipeline.samples :],
            limits=limits,
        )
        if pipeline.prediction == "first":
            sink.on_prediction(prediction.result())
    guard(pipeline, upscaler)  # it may have been replaced meanwhile
    if pipeline.fidelity.reader is not None:
        with span("reading"):
            accumulator.page = await shielded(_read, source, pipeline, prediction.result())
    sampled = time.perf_counter()
    if await shielded(accumulator.identical) and not source.is_flat:
        raise DegenerateSamples(
            f"All {pipeline.samples} samples of {upscaler.name!r} are identical although the input "
            "is not flat: a cache or a fixed seed answers in place of the model, and the mask "
            "would be confident without reason."
        )
    with span("indecision"):
        sigma, mean_log_sigma = await shielded(
            _finish, accumulator, sink.on_sigma if sink.takes_sigma else None
        )
    finished = time.perf_counter()
    return Measurement(
        prediction.result(),
        sigma,
        mean_log_sigma,
        used,
        {
            "samples": 1e3 * (sampled - started - reducer.seconds),
            "indecision": 1e3 * (reducer.seconds + finished - sampled),
        },
        accumulator.distance,
        accumulator.page,
    )


def _read(source: Source, pipeline: Pipeline, prediction: RGB) -> ReadPage:
    """What is read in Ŷ and in the enlarged input."""
    enlarged = Enlarged(source.rgb, pipeline.scale)
    return ReadPage.of(prediction, enlarged[: prediction.shape[0]], pipeline.scale)


class _Reducer(SampleSink):
    """Accumulates samples for σ and Ŷ, and passes them on; `seconds`: how long that took."""

    def __init__(
        self, accumulator: estimators.Accumulator, prediction: _Prediction, sink: MeasurementSink
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


def _spares(upscaler: Upscaler, samples: int) -> int:
    most = upscaler.capabilities.max_samples
    return SPARES if most is None else max(0, min(SPARES, most - samples))


async def predict(
    upscaler: Upscaler,
    source: Source,
    seed: int,
    *,
    sink: MeasurementSink = _DROP,
    limits: TimeLimits = NO_LIMITS,
) -> RGB:
    """Make the Ŷ of `measure` by the rule `first`, from one sample and without σ.

    Arguments and errors are those of `measure`; the sink gets the progress alone.
    """
    collected = CollectingSink(sink)
    seeds = sample_seeds(seed, 1 + _spares(upscaler, 1))
    with span("samples", {"trustscale.upscaler": upscaler.name, "trustscale.samples": 1}):
        await draw(
            upscaler, source, seeds[:1], sink=collected, spare_seeds=seeds[1:], limits=limits
        )
    return collected.samples[0]


def measured_again(
    samples: Sequence[RGB],
    source: Source,
    pipeline: Pipeline,
    truth: Seen | None = None,
    page: ReadPage | None = None,
) -> Measurement:
    """Measure the same samples under another σ; `page` is what was read of them."""
    accumulator = _accumulator(source, pipeline, truth)
    accumulator.page = page
    for sample in samples:
        accumulator.add(sample)
    sigma, mean_log_sigma = _finish(accumulator, None)
    prediction = predicted(samples, pipeline.prediction)
    return Measurement(prediction, sigma, mean_log_sigma, distance=accumulator.distance, page=page)


def predicted(samples: Sequence[RGB], rule: Prediction) -> RGB:
    """Return the Ŷ of all samples of a request, in order."""
    prediction = _Prediction(rule, samples[0].shape[:2], samples[0].dtype.type)
    for index, sample in enumerate(samples):
        prediction.add(index, sample)
    return prediction.result()


def _accumulator(source: Source, pipeline: Pipeline, truth: Seen | None) -> estimators.Accumulator:
    """For samples of the source; X is enlarged where σ looks at it."""
    enlarged = Enlarged(source.rgb, pipeline.scale)
    settings = pipeline.sigma_of(source.facts)
    accumulator = estimators.Accumulator(
        enlarged.shape, settings, enlarged if settings.needs_input else None, pipeline.samples
    )
    accumulator.facts = None if source.facts is None else source.facts.terms()
    if truth is not None and pipeline.fidelity.row.of_distance is not None:
        accumulator.truth = truth
    return accumulator


def _finish(
    accumulator: estimators.Accumulator, on_sigma: OnSigma | None
) -> tuple[NDArray[np.float32], float]:
    """σ, without rows if `on_sigma` gets them, and the mean of its logarithm; of words, in text."""
    sigma = np.empty(accumulator.shape if on_sigma is None else (0, 0), np.float32)

    def on_rows(top: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        # The floor keeps flat regions (σ = 0) finite; it is far below any σ of 8-bit samples.
        logs = np.maximum(rows, np.float32(1e-12))
        np.log(logs, out=logs)
        if on_sigma is None:
            sigma[top : top + len(rows)] = rows
        else:
            on_sigma(top, rows)
        return logs.reshape(-1) if accumulator.page is None else logs[logs > _ELSEWHERE]

    total, rest, pixels = np.float64(0), np.empty(0, np.float32), 0
    with score_cores("trustscale-score") as map_fn:
        accumulator.map_fn, accumulator.is_asked_once = map_fn, True
        for logs in accumulator.strips(on_rows):
            pixels += len(logs)
            values = np.concatenate([rest, logs]) if len(rest) else logs
            whole = len(values) - len(values) % _AT_ONCE
            total = np.add.reduce(values[:whole], dtype=np.float64, initial=total)
            rest = values[whole:]
    total = np.add.reduce(rest, dtype=np.float64, initial=total)
    return sigma, float(total / pixels) if pixels else math.log(NO_TEXT)


class _Prediction:
    """Ŷ by the prediction rule, accumulated in any order, without keeping the samples."""

    def __init__(
        self, rule: Prediction, shape: tuple[int, ...], dtype: type[np.uint8 | np.uint16]
    ) -> None:
        self._dtype = dtype
        self._first: RGB | None = None
        self._sum = np.zeros((*shape, 3), np.uint32) if rule == "mean" else None
        self._count = 0

    def add(self, index: int, sample: RGB) -> None:
        self._count += 1
        if self._sum is not None:
            self._sum += sample
        elif index == 0:
            self._first = sample

    def result(self) -> RGB:
        if self._sum is not None:
            return mean_image(self._sum, self._count, self._dtype)
        assert self._first is not None  # noqa: S101 - draw delivers every index
        return self._first
