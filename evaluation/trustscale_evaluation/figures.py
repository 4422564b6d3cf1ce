"""The paper's Figures 2 and 4: plots of numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.bootstrap import Resamples, mean_intervals
from trustscale_evaluation.plots import COLORS, GREY, Panel, PlotLine, plot
from trustscale_evaluation.reduce import Cell, mean_below
from trustscale_evaluation.report_picture import ReportPicture
from trustscale_evaluation.run import Evaluation
from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.risk_curve import lab_psnr_lower_bound_db, leakage_bound

ALPHA = "α, the promised level"

_MEAN = "mean over the test images"

_SHARE = "share of the pixels"

_SHARE_RANGE = (-0.02, 1.02)


_DRAWS = 8


def number_figures(result: Evaluation, draws: Resamples) -> list[ReportPicture]:
    """Return the plots of one upscaler; without classes of uploads also Figure 4."""
    has_classes = result.main.calibration.pipeline.input_rule is not None
    plots = [error_and_area] if has_classes else [error_and_area, psnr_and_leakage]
    return [draw(result, draws) for draw in plots]


def error_and_area(result: Evaluation, draws: Resamples) -> ReportPicture:
    """Plot Figure 2: the promise and the result, and how much is not trusted."""
    top = float(result.main.alphas[-1])

    def lines(quantity: str) -> Iterator[PlotLine]:
        for number, cell in enumerate(result.cells):
            color = COLORS[number % len(COLORS)]
            yield _mean_line(cell.name, cell, quantity, draws, color, top)

    untrusted = [line.one_minus() for line in lines("area")]
    return plot(
        result.name,
        "figure-2-error-and-mask",
        "Realised error and mask size against α",
        "The paper's Figure 2, for all settings. Left: the largest error inside the mask, averaged "
        "over the test images, must lie below the dashed line. Bands are 95 % intervals over "
        "the test images. "
        "Areas of settings with different D answer different questions and cannot be ranked.",
        [
            Panel(
                "Largest error inside the mask",
                ALPHA,
                _MEAN,
                [_promise_line(result.main), *lines("loss")],
            ),
            Panel("Not trusted (the paper's mask size)", ALPHA, _SHARE, untrusted, _SHARE_RANGE),
        ],
    )


def psnr_and_leakage(result: Evaluation, draws: Resamples) -> ReportPicture:
    """Plot Figure 4: PSNR inside the mask, and leaked calibration images."""
    cell = result.main
    lines = [
        _mean_line("mask by D", cell, "psnr", draws, COLORS[0]),
        _without_mask(cell, "psnr", draws),
    ]
    psnr = Panel("PSNR inside the mask, sRGB", ALPHA, f"dB, {_MEAN}", lines)
    pointwise = result.cell("pointwise")
    return plot(
        result.name,
        "figure-4-psnr-and-leakage",
        "PSNR inside the mask, and robustness to leakage",
        "The paper's Figure 4. The bound of Proposition 3.1 is drawn only where it holds: for the "
        "pointwise D, in normalised CIELAB, with a peak of 1. PSNR is averaged over the images "
        "whose mask is not empty. Right: images of leaked scenes are replaced by perfect "
        "predictions; the band spans the draws of which scenes leak.",
        [
            *([_psnr_bound_panel(pointwise, draws)] if pointwise else []),
            psnr,
            _leakage_panel(cell, result),
        ],
    )


def _psnr_bound_panel(cell: Cell, draws: Resamples) -> Panel:
    bound = np.array([lab_psnr_lower_bound_db(alpha) for alpha in cell.alphas.tolist()], np.float64)
    return Panel(
        "PSNR inside the mask, CIELAB",
        ALPHA,
        f"dB, {_MEAN}",
        [
            _mean_line("mask by pointwise D", cell, "psnr_lab", draws, COLORS[0]),
            PlotLine("lower bound (Prop. 3.1)", cell.alphas, bound, dashed=True, color=GREY),
            _without_mask(cell, "psnr_lab", draws),
        ],
    )


def _leakage_panel(cell: Cell, result: Evaluation) -> Panel:
    alpha = result.options.reference_alpha
    counts, realised = leak(cell, alpha, result.options.seed)
    calibration, x = cell.calibration.everything, np.array(counts, np.float64)
    bounds = np.array(
        [leakage_bound(alpha, calibration.n, count, calibration.bound) for count in counts]
    )
    low, mean, high = realised.min(axis=1), realised.mean(axis=1), realised.max(axis=1)
    return Panel(
        f"Leaked calibration scenes, α = {alpha:g}",
        "number of leaked scenes (D ≡ 0)",
        "largest error in the mask, mean",
        [
            PlotLine("bound (Prop. 3.2)", x, bounds, dashed=True, color=GREY),
            PlotLine("realised", x, mean, low, high),
        ],
        (0, max(2.5 * float(mean.max()), 2 * alpha)),
    )


def leak(cell: Cell, alpha: float, seed: int) -> tuple[list[int], NDArray[np.float64]]:
    """Return what leaked calibration scenes do to the promise (Proposition 3.2).

    The images of some scenes are replaced by perfect predictions (D ≡ 0), as in the paper.

    Returns:
        How many scenes leak, and the mean loss of the test images in each of `_DRAWS` draws,
        [counts, _DRAWS].
    """
    calibration = cell.calibration.everything
    shares = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    counts = sorted({round(share * calibration.n) for share in shares} - {calibration.n})
    perfect = LossCurve(np.empty(0, np.float32), np.empty(0, np.float32))
    random = np.random.Generator(np.random.PCG64(seed))
    realised = np.empty((len(counts), _DRAWS))
    spots = [(i, spot) for i in range(calibration.pairs) for spot in calibration.arrays.spots_of(i)]
    losses = [(i, calibration.guarantee.loss(spot)) for i, spot in spots]
    scenes = [calibration.scenes[i] for i, _ in spots]
    for row, draw in np.ndindex(realised.shape):
        leaking = random.permutation(calibration.n)[: counts[row]]
        leaked = {i for k in leaking for i in calibration.members[k]}
        curve = RiskCurve.from_calibration_set(
            CalibrationSet(
                [perfect if i in leaked else loss for i, loss in losses],
                calibration.bound,
                scenes=scenes,
                highest=calibration.highest,
            )
        )
        threshold = np.array([curve.threshold(alpha)])
        realised[row, draw] = np.mean(
            [mean_below(answer.losses, threshold)[0] for answer in cell.answers]
        )
    return counts, realised


def _promise_line(cell: Cell) -> PlotLine:
    ends = np.array([0, cell.alphas[-1]])
    return PlotLine("at most α", ends, ends, dashed=True, color=GREY)


def _without_mask(cell: Cell, quantity: str, draws: Resamples) -> PlotLine:
    (unmasked,) = mean_intervals(cell.quantities[quantity][:, -1:], draws.test)
    ends = np.array([0, cell.alphas[-1]])
    return PlotLine("without a mask", ends, np.full(2, unmasked.mean), color=COLORS[3])


def _mean_line(
    label: str, cell: Cell, quantity: str, draws: Resamples, color: str, top: float = np.inf
) -> PlotLine:
    keep = np.flatnonzero(cell.alphas <= top)
    values: NDArray[np.float64] = cell.quantities[quantity][:, keep]
    mean, low, high, _ = np.array(mean_intervals(values, draws.test)).T
    return PlotLine(label, cell.alphas[keep], mean, low, high, color=color)
