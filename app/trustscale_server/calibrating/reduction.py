"""A measured pair becomes the loss curves of its spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.calibration.pair_arrays import SIGMA_QUANTILES
from trustscale_server.conformal import LossCurve, fidelity, words
from trustscale_server.conformal.added import Marked
from trustscale_server.conformal.backtest import sigma_quantiles
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.loss_curve import coarse_up
from trustscale_server.conformal.review import high_sigma, off_shares
from trustscale_server.kinds.features import UPLOAD, classify
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.sampling.measure import Measurement
from trustscale_server.sampling.sigma.added_score import invented
from trustscale_server.sampling.sigma.words import NO_TEXT, ReadPage
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.things import reading


def reduce_pair(pair: Pair, measurement: Measurement, pipeline: MeasurementSpec) -> MeasuredPair:
    """Reduce σ and D to loss curves; for a metric that needs no label."""
    info = pair_info(pair, measurement, pipeline)
    if measurement.page is not None:
        wrong = reading.read_otherwise(measurement.page.made, to_8_bit(pair.y))
        return pair_from_words(info, measurement.sigma, measurement.page, wrong)
    error = fidelity.error(
        pair.y, measurement.prediction, pipeline.fidelity, distance=measurement.distance
    )
    measured = pair_from_maps(info, measurement.sigma, error, pipeline.fidelity)
    if pipeline.input_rule == UPLOAD:
        measured = replace(measured, described=np.array(pair.features.described, np.float32))
    added = measurement.added
    if added is None:
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
    bound = fidelity.bound(settings)
    return MeasuredPair(
        info.model_copy(update={"off": off_shares(error), "high_sigma": high_sigma(sigma)}),
        [curve.coarse(bound) for curve in curves],
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
