"""One pair in, its loss curves out: the step that a calibration repeats for every pair.

σ may be fitted on a share of the job's scenes, which then calibrate nothing. The samples of the
other pairs wait in the blobs for the fit, so nothing is generated twice. Names and seed alone
decide which scenes these are, before anything is measured, and the fit uses nothing else. So
calibration scenes and the next upload stay exchangeable.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from trustscale_server.calibration.canaries import CanaryTaker
from trustscale_server.calibration.config import CalibrationRequest
from trustscale_server.calibration.guarantee import MeasuredPair, PairInfo
from trustscale_server.calibration.pairs import Pair
from trustscale_server.calibration.record import SIGMA_QUANTILES
from trustscale_server.conformal import LossCurve, fidelity, reader, words
from trustscale_server.conformal.curve import (
    LossCurves,
    coarse_up,
    high_sigma,
    off_shares,
    sigma_quantiles,
)
from trustscale_server.conformal.fidelity import FidelitySettings, to_8_bit
from trustscale_server.errors import BadCalibration, BadPairs
from trustscale_server.images.description import classify
from trustscale_server.sampling.pipeline import (
    Enlarged,
    EverySample,
    KeptSamples,
    Measurement,
    Pipeline,
    TimeLimits,
    measure,
    measured_again,
    predicted,
)
from trustscale_server.sigma import fitting
from trustscale_server.sigma.estimators import NO_TEXT, IndecisionSettings, ReadPage
from trustscale_server.sigma.features import Moments
from trustscale_server.stores.base import Blobs
from trustscale_server.stores.repositories import used_by
from trustscale_server.upscalers.base import RGB, Source

# --- One pair in, its loss curves out: the step that a calibration repeats for every pair.

MEASURED, WAITING, BAD = b"M", b"W", b"B"
"""The first byte of a checkpoint: the pair is measured, waits for its label, or is unusable."""

PairState = Literal["queued", "measured", "awaiting_label", "skipped"]

PATIENCE_S = 600.0
"""How long a calibration waits for an upscaler that is away."""


class Unlabelled(BaseModel):
    """A pair whose prediction waits for its label."""

    info: PairInfo
    prediction_sha256: str


@dataclass(frozen=True, slots=True)
class PairTask:
    """One pair of a job, and what gives its samples; `canary` is set if the pair is one."""

    job: str
    request: CalibrationRequest
    pair: Pair
    upscaler: KeptSamples
    canary: CanaryTaker | None = None

    async def measure(self, on_sample: Callable[[int, RGB], None] | None = None) -> Measurement:
        """Generate and measure, by the code of serving; `on_sample` gets every sample too.

        Raises:
            UpscalerError: the samples could not be had.
        """
        canary, pair = self.canary, self.pair
        takers = [] if on_sample is None else [on_sample]
        takers += [] if canary is None else [canary.see]
        with used_by(self.request.created_by.removeprefix("key "), "calibrate"):
            measurement = await measure(
                self.upscaler,
                Source(pair.x, pair.facts),
                self.request.pipeline,
                pair.seed,
                sink=EverySample(takers),
                limits=TimeLimits(patience_s=PATIENCE_S),
                truth=pair.seen,
            )
        if canary is not None:
            await canary.keep(self.upscaler.inner, pair.x, measurement.seeds)
        return measurement


def reduce_pair(pair: Pair, measurement: Measurement, pipeline: Pipeline) -> MeasuredPair:
    """Reduce σ and D to loss curves, where no label is needed."""
    if measurement.page is not None:
        info = pair_info(pair, measurement, pipeline)
        wrong = reader.read_otherwise(measurement.page.made, to_8_bit(pair.y))
        return pair_from_words(info, measurement.sigma, measurement.page, wrong)
    error = fidelity.error(
        pair.y, measurement.prediction, pipeline.fidelity, distance=measurement.distance
    )
    return pair_from_maps(
        pair_info(pair, measurement, pipeline), measurement.sigma, error, pipeline.fidelity
    )


def pair_from_maps(
    info: PairInfo,
    sigma: NDArray[np.float32],
    error: NDArray[np.float32],
    settings: FidelitySettings,
) -> MeasuredPair:
    """Return a pair from its σ and D, float32 [H, W]."""
    windows = settings.windows(*sigma.shape)
    curves = [LossCurve.from_maps(sigma[window], error[window]) for window in windows]
    most = fidelity.bound(settings)
    return MeasuredPair(
        info.model_copy(update={"off": off_shares(error), "high_sigma": high_sigma(sigma)}),
        [curve.coarse(most) for curve in curves],
        coarse_up(sigma_quantiles(sigma, SIGMA_QUANTILES)),
    )


def pair_from_words(
    info: PairInfo, sigma: NDArray[np.float32], page: ReadPage, wrong: Sequence[bool]
) -> MeasuredPair:
    """Return a pair from σ, float32 [H, W], and which of the words that were read are wrong.

    Its quantiles are those of the words' scores, so what is trusted of it is a share of words.
    """
    scores = words.scores_of((word.corners for word in page.words), sigma)
    curve = words.loss_curve(scores, wrong).coarse(1.0)
    of_words = np.array(scores or [NO_TEXT], np.float32)
    off = off_shares(np.array(wrong or [False], np.float32))  # of the words
    info = info.model_copy(update={"off": off, "high_sigma": high_sigma(sigma)})
    return MeasuredPair(info, [curve], coarse_up(sigma_quantiles(of_words, SIGMA_QUANTILES)))


def pair_info(pair: Pair, measurement: Measurement, pipeline: Pipeline) -> PairInfo:
    """Return what is kept of a pair besides its losses."""
    rule = pipeline.input_rule
    height, width = measurement.sigma.shape
    return PairInfo(
        name=pair.name,
        x_sha256=pair.x_sha256,
        y_sha256=pair.y_sha256,
        width=width,
        height=height,
        seed=pair.seed,
        mean_log_sigma=measurement.mean_log_sigma,
        variant=pair.variant,
        input_class=None if rule is None else classify(rule, pair.facts),
        facts=None
        if rule is None
        else {name: round(value, 4) for name, value in pair.facts.numbers().items()},
        pixels_sha256=pair.pixels_sha256,
    )


def npz_bytes(**arrays: ArrayLike) -> bytes:
    """Return arrays as bytes for `np.load`."""
    out = io.BytesIO()
    np.savez(out, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()


def pack(pair: MeasuredPair) -> bytes:
    """Return a measured pair as bytes, the checkpoint of a calibration job."""
    curves = LossCurves.of(pair.loss_curves)
    return npz_bytes(
        info=np.frombuffer(pair.info.model_dump_json().encode(), np.uint8),
        levels=curves.levels,
        errors=curves.errors,
        lengths=curves.lengths,
        quantiles=pair.sigma_quantiles,
    )


def unpack(data: bytes) -> MeasuredPair:
    """Return the measured pair of a checkpoint; BadCalibration if it is damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            curves = LossCurves(arrays["levels"], arrays["errors"], arrays["lengths"])
            curves.check()
            return MeasuredPair(
                PairInfo(**json.loads(arrays["info"].tobytes())), list(curves), arrays["quantiles"]
            )
    except Exception as error:  # any parser may fail on damaged input
        raise BadCalibration(f"A checkpoint is damaged: {error}.") from error


def pack_measurement(measurement: Measurement) -> bytes:
    """Return what a label is drawn on, as bytes."""
    return npz_bytes(
        prediction=measurement.prediction,
        sigma=measurement.sigma,
        mean_log_sigma=measurement.mean_log_sigma,
    )


def unpack_measurement(data: bytes) -> tuple[RGB, NDArray[np.float32], float]:
    """Return Ŷ, σ and the mean log σ of `pack_measurement`."""
    with np.load(io.BytesIO(data)) as arrays:
        return arrays["prediction"], arrays["sigma"], float(arrays["mean_log_sigma"])


def unlabelled(record: bytes) -> Unlabelled | None:
    """Return the pair that waits for a label, or None if this checkpoint holds none."""
    if record[:1] != WAITING:
        return None
    return Unlabelled.model_validate_json(record[1:])


def record_state(record: bytes) -> PairState:
    """Return what a checkpoint says about its pair, which is measured while it waits for σ."""
    states: dict[bytes, PairState] = {WAITING: "awaiting_label", BAD: "skipped"}
    return states.get(record[:1], "measured")


# --- Fit σ on a share of a job's scenes, which then calibrate nothing.

FIT_DIGITS = 16  # of the digests that an artefact keeps
SEEN, DRAWN = b"F", b"D"
"""Records of pairs that σ is fitted on, and of pairs that wait for that σ."""

_PLACE = "fit"  # where the blobs hold what waits


class Photograph(NamedTuple):
    """What the fit sees of a pair: the digest of its pixels, and its cells."""

    digest: str
    seen: fitting.FitSample


async def drawn(blobs: Blobs, task: PairTask) -> tuple[bytes, Measurement]:
    """Generate; store what the fit sees of the pair, or else its samples. Return the record."""
    samples: dict[int, RGB] = {}
    pair, pipeline = task.pair, task.request.pipeline
    measurement = await task.measure(samples.__setitem__)
    ordered = [samples[index] for index in range(pipeline.samples)]
    # What came first stays: an upscaler without seeds answers differently the second time.
    if pair.name not in task.request.fit_split.fitted:
        record = await asyncio.to_thread(_pack_samples, ordered)
        await blobs.create(task.job, f"{_PLACE}/{pair.name}", record)
        return DRAWN, measurement
    record = await asyncio.to_thread(
        lambda: _pack_photograph(photograph_of(pair, ordered, pipeline))
    )
    await blobs.create(task.job, f"{_PLACE}/{pair.name}", record)
    return SEEN, measurement


async def fitted(
    blobs: Blobs,
    job: str,
    request: CalibrationRequest,
    waiting: Mapping[bytes, Sequence[str]],
    load: Callable[[str], Awaitable[Pair]],
) -> tuple[Pipeline, list[MeasuredPair]]:
    """Return the pipeline with the fitted σ, and the pairs that waited for it.

    Without a share to fit on it is that of the request. `waiting`: names of pairs by their records,
    SEEN and DRAWN; `load` gives a pair by its name.
    """
    if not request.fit_split.fitted:
        return request.pipeline, []
    if not waiting[SEEN]:
        raise BadPairs("None of the pairs to fit σ on could be used.", items=[])
    seen = [await blobs.get(job, f"{_PLACE}/{name}") for name in waiting[SEEN]]
    pipeline = await asyncio.to_thread(
        fitted_pipeline,
        map(_unpack_photograph, seen),
        request.pipeline,
        request.fit_split.scenes,
        request.upscaler,
    )
    measured = []
    for name in waiting[DRAWN]:
        samples = await blobs.get(job, f"{_PLACE}/{name}")
        pair = await load(name)
        measured.append(await asyncio.to_thread(_reduced, pair, samples, pipeline))
    return pipeline, measured


def photograph_of(pair: Pair, samples: Sequence[RGB], pipeline: Pipeline) -> Photograph:
    """Return what the fit sees of a pair."""
    moments = Moments(pair.y.shape, Enlarged(pair.x, pipeline.scale))
    for sample in samples:
        moments.add(sample)
    moments.facts = pair.facts.terms()
    prediction = predicted(samples, pipeline.prediction)
    seen = fitting.fit_sample(moments.maps(), fidelity.error(pair.y, prediction, pipeline.fidelity))
    return Photograph(_digest(pair.pixels_sha256), seen)


def fitted_pipeline(
    photographs: Iterable[Photograph], pipeline: Pipeline, scenes: int, name: str | None
) -> Pipeline:
    """Return the pipeline with the σ fitted on photographs of so many scenes.

    `name` is the upscaler's.
    """
    ordered = sorted(photographs, key=lambda photograph: photograph.digest)
    fitted_sigma = replace(
        fitting.fit([photograph.seen for photograph in ordered], units=fitting.units_for(scenes)),
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
    digest, seen = photograph
    return npz_bytes(
        digest=digest, names=seen.names, terms=seen.terms, error=seen.error, share=seen.share
    )


def _unpack_photograph(record: bytes) -> Photograph:
    with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
        seen = fitting.FitSample(
            tuple(map(str, arrays["names"])), arrays["terms"], arrays["error"], arrays["share"]
        )
        return Photograph(str(arrays["digest"]), seen)


def _pack_samples(samples: Sequence[RGB]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, samples=np.stack(samples))
    return out.getvalue()


def _reduced(pair: Pair, drawn: bytes, pipeline: Pipeline) -> MeasuredPair:
    with np.load(io.BytesIO(drawn), allow_pickle=False) as arrays:
        samples = list(arrays["samples"])
    measured = measured_again(samples, Source(pair.x, pair.facts), pipeline, pair.seen)
    return reduce_pair(pair, measured, pipeline)


def seen_by(indecision: IndecisionSettings, pixels_sha256: str) -> bool:
    """Return whether σ was fitted on the photograph with these pixels."""
    return any(_digest(pixels_sha256) in fit.photographs for fit in indecision.all_fits)


def _digest(pixels_sha256: str) -> str:
    return pixels_sha256[:FIT_DIGITS]
