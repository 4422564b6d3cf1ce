"""One pair in, its loss curves out: the step that a calibration repeats for every pair.

σ may be fitted on a share of the job's scenes, which then calibrate nothing. The samples of the
other pairs wait in the blobs for the fit, so nothing is generated twice. Names and seed alone
decide which scenes these are, before anything is measured, and the fit uses nothing else. So
calibration scenes and the next upload stay exchangeable.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.calibration import SIGMA_QUANTILES
from trustscale_server.calibration.canaries import CanaryTaker
from trustscale_server.calibration.manifest import MeasuredPair, PairInfo
from trustscale_server.conformal import LossCurve, fidelity, words
from trustscale_server.conformal.added import Marked
from trustscale_server.conformal.backtest import sigma_quantiles
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.loss_curve import LossCurves, coarse_up
from trustscale_server.conformal.review import high_sigma, off_shares
from trustscale_server.images.features import UPLOAD, classify
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.pixels.npy import read_arrays
from trustscale_server.platform.errors import BadCalibration
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.sampling.measure import (
    EverySample,
    Measurement,
    measure,
)
from trustscale_server.sampling.sigma.added_score import invented
from trustscale_server.sampling.sigma.words import NO_TEXT, ReadPage
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.usage import made_for, used_by
from trustscale_server.things import reading
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
        """Generate and measure, by the code of serving; `on_sample` gets every sample too.

        Raises:
            UpscalerError: the samples could not be had.
        """
        canary, pair = self.canary, self.pair
        takers = [] if on_sample is None else [on_sample]
        takers += [] if canary is None else [canary.see]
        with used_by(self.request.created_by.removeprefix("key "), "calibrate"):
            with made_for(self.job, "pairs"):
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
                with made_for(self.job, "canaries"):
                    await canary.keep(self.upscaler.inner, pair.x, measurement.seeds)
        return measurement


def reduce_pair(pair: Pair, measurement: Measurement, pipeline: MeasurementSpec) -> MeasuredPair:
    """Reduce σ and D to loss curves, where no label is needed."""
    if measurement.page is not None:
        info = pair_info(pair, measurement, pipeline)
        wrong = reading.read_otherwise(measurement.page.made, to_8_bit(pair.y))
        return pair_from_words(info, measurement.sigma, measurement.page, wrong)
    error = fidelity.error(
        pair.y, measurement.prediction, pipeline.fidelity, distance=measurement.distance
    )
    info = pair_info(pair, measurement, pipeline)
    measured = pair_from_maps(info, measurement.sigma, error, pipeline.fidelity)
    if pipeline.input_rule == UPLOAD:
        measured = replace(measured, described=np.array(pair.features.described, np.float32))
    if (added := measurement.added) is None:
        return measured
    shares = invented(pair.x, measurement.prediction, pair.y)
    return replace(measured, marked=Marked.from_cells(added.codes, added.energy, shares).packed)


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


def pair_info(pair: Pair, measurement: Measurement, pipeline: MeasurementSpec) -> PairInfo:
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
        input_class=None if rule is None else classify(rule, pair.features),
        pixels_sha256=pair.pixels_sha256,
    )


def npz_bytes(**arrays: ArrayLike) -> bytes:
    """Return arrays as bytes for `np.load`."""
    out = io.BytesIO()
    np.savez(out, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()


def pack(pair: MeasuredPair) -> bytes:
    """Return a measured pair as bytes, for the record of a calibration job."""
    curves = LossCurves.from_curves(pair.loss_curves)
    return npz_bytes(
        info=np.frombuffer(pair.info.model_dump_json().encode(), np.uint8),
        levels=curves.levels,
        errors=curves.errors,
        lengths=curves.lengths,
        quantiles=pair.sigma_quantiles,
        described=pair.described,
        **({} if pair.marked is None else {"marked": pair.marked}),
    )


def unpack(data: bytes) -> MeasuredPair:
    """Return the measured pair of `pack`; BadCalibration if it is damaged."""
    try:
        arrays = read_arrays(data)
        curves = LossCurves(arrays["levels"], arrays["errors"], arrays["lengths"])
        curves.raise_if_inconsistent()
        return MeasuredPair(
            PairInfo(**json.loads(arrays["info"].tobytes())),
            list(curves),
            arrays["quantiles"],
            arrays.get("marked"),
            arrays["described"],
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
    arrays = read_arrays(data)
    return arrays["prediction"], arrays["sigma"], float(arrays["mean_log_sigma"])
