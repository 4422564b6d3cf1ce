"""One pair in, its loss curves out: the step that a calibration repeats for every pair."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from trustscale_server.calibration.canaries import CanaryTaker
from trustscale_server.calibration.config import CalibrationRequest
from trustscale_server.calibration.manifest import MeasuredPair, PairInfo
from trustscale_server.calibration.pairs import Pair
from trustscale_server.calibration.record import SIGMA_QUANTILES
from trustscale_server.conformal import LossCurve, fidelity, reader, words
from trustscale_server.conformal.backtest import sigma_quantiles
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.lab import to_8_bit
from trustscale_server.conformal.loss_curve import LossCurves, coarse_up
from trustscale_server.conformal.review import high_sigma, off_shares
from trustscale_server.errors import BadCalibration, BadRequest
from trustscale_server.images.facts import classify
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.kept import KeptSamples
from trustscale_server.sampling.pipeline import EverySample, Measurement, Pipeline, measure
from trustscale_server.sigma.reading import NO_TEXT, ReadPage
from trustscale_server.stores.usage import used_by
from trustscale_server.upscalers.base import RGB, Source

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


def check_measurable(settings: FidelitySettings) -> None:
    """Raise BadRequest, naming the missing packages, unless errors can be measured here."""
    if settings.missing:
        raise BadRequest(f"The metric {settings.metric!r} needs {settings.missing}.")


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
