"""The figures made of numbers: the paper's Figures 2 and 4, and the settings side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.conformal.guarantees import lab_psnr_lower_bound_db
from app.evaluation.bootstrap import mean_intervals
from app.evaluation.leakage import leak
from app.evaluation.plots import COLORS, GREY, Line, Panel, Picture, plot
from app.evaluation.reduce import FIDELITY, HIGH_PROBABILITY, SEMANTICS, Cell
from app.evaluation.run import Evaluation
from app.evaluation.tables import Resamples

ALPHA = "α, the promised level"
MEAN = "mean over the test images"
SHARE = "share of the pixels"
ERROR_TITLE = "Largest error inside the mask"
WHOLE = (-0.02, 1.02)  # the range of a share


def number_figures(result: Evaluation, draws: Resamples) -> list[Picture]:
    """All of them, for one upscaler."""
    return [
        error_and_area(result, draws),
        psnr_and_leakage(result, draws),
        settings_compared(result, draws),
        *price_of_certainty(result),
    ]


def price_of_certainty(result: Evaluation) -> list[Picture]:
    """What more generations would let one trust, if several numbers of them were compared."""
    if len(result.priced) < 2:
        return []
    counts = np.array([cell.pipeline.samples for cell in result.priced], np.float64)
    areas = np.array([cell.quantities["area"].mean(axis=0) for cell in result.priced])
    lines = [
        Line(f"α = {alpha:g}", counts, areas[:, k], color=COLORS[k % len(COLORS)])
        for k, alpha in enumerate(result.options.alphas)
    ]
    return [
        plot(
            result.name,
            "price",
            "The price of certainty",
            "Trusted area against generations of one picture, each under the settings of a new "
            "calibration with so many of them.",
            [Panel("Trusted area", "generations", SHARE, lines, WHOLE)],
        )
    ]


def error_and_area(result: Evaluation, draws: Resamples) -> Picture:
    """Figure 2: what was promised and what came, and how much is not trusted."""
    masks = [
        (result.cell(FIDELITY), "mask by D", COLORS[0]),
        (result.cell(SEMANTICS), "mask by semantic D", COLORS[1]),
        (result.cell(HIGH_PROBABILITY), "mask with high probability", COLORS[2]),
    ]
    (color, *_), (semantic, words, orange), _ = masks
    top = float(color.alphas[-1])
    errors = [_mean(f"D, {words}", cell, "error", draws, ink, top) for cell, words, ink in masks]
    marked = [_diagonal(semantic), _mean(words, semantic, "semantic", draws, orange)]
    untrusted = [
        _banded(words, cell.alphas, 1 - cell.quantities["area"][:, :-1], draws, ink)
        for cell, words, ink in masks
    ]
    return plot(
        result.name,
        "figure-2-error-and-mask",
        "Realised error and mask size against α",
        "The paper's Figure 2. Left: the largest error inside the mask, averaged over the test "
        "images, must lie below the dashed line wherever the mask was set by that error. Bands are "
        "95 % intervals over the test images.",
        [
            Panel(ERROR_TITLE, ALPHA, MEAN, [_diagonal(color), *errors]),
            Panel(
                "Images with a semantic difference in the mask",
                ALPHA,
                "share of the test images",
                marked,
            ),
            Panel("Not trusted (the paper's mask size)", ALPHA, SHARE, untrusted, WHOLE),
        ],
    )


def psnr_and_leakage(result: Evaluation, draws: Resamples) -> Picture:
    """Figure 4: PSNR inside the mask, and leaked calibration images."""
    color, semantic = result.cell(FIDELITY), result.cell(SEMANTICS)
    pointwise = [
        _bounded(result.cell(FIDELITY, variant.name), draws)
        for variant in result.variants
        if variant.fidelity.metric == "pointwise"
    ]
    psnr = Panel(
        "PSNR inside the mask, sRGB",
        ALPHA,
        f"dB, {MEAN}",
        [
            _mean("mask by D", color, "psnr", draws, COLORS[0]),
            _mean("mask by semantic D", semantic, "psnr", draws, COLORS[1], color.alphas[-1]),
            _whole(color, "psnr", draws),
        ],
    )
    return plot(
        result.name,
        "figure-4-psnr-and-leakage",
        "PSNR inside the mask, and robustness to leakage",
        "The paper's Figure 4. The bound of Proposition 3.1 is drawn only where it holds: for the "
        "pointwise D, in normalised CIELAB, with a peak of 1. PSNR is averaged over the images "
        "whose mask is not empty. Right: images of leaked scenes are replaced by perfect "
        "predictions; the band spans the draws of which scenes leak.",
        [*pointwise[:1], psnr, _leaked(color, result)],
    )


def settings_compared(result: Evaluation, draws: Resamples) -> Picture:
    """How much each variant trusts, and whether it keeps the promise."""
    cells = [
        (variant.name, result.cell(FIDELITY, variant.name), COLORS[k % len(COLORS)])
        for k, variant in enumerate(result.variants)
    ]
    areas, errors = (
        [_mean(name, cell, quantity, draws, ink) for name, cell, ink in cells]
        for quantity in ("area", "error")
    )
    highest = max((cell for _, cell, _ in cells), key=lambda cell: cell.alphas[-1])
    return plot(
        result.name,
        "settings",
        "The settings side by side",
        "Trusted area and realised error of every variant under its own D. Areas of variants with "
        "different D answer different questions and cannot be ranked.",
        [
            Panel("Trusted area", ALPHA, SHARE, areas, WHOLE),
            Panel(ERROR_TITLE, ALPHA, MEAN, [_diagonal(highest), *errors]),
        ],
    )


def _bounded(cell: Cell, draws: Resamples) -> Panel:
    bound = np.array([lab_psnr_lower_bound_db(alpha) for alpha in cell.alphas.tolist()], np.float64)
    return Panel(
        "PSNR inside the mask, CIELAB",
        ALPHA,
        f"dB, {MEAN}",
        [
            _mean("mask by pointwise D", cell, "psnr_lab", draws, COLORS[0]),
            Line("lower bound (Prop. 3.1)", cell.alphas, bound, dashed=True, color=GREY),
            _whole(cell, "psnr_lab", draws),
        ],
    )


def _leaked(cell: Cell, result: Evaluation) -> Panel:
    leakage = leak(cell, result.options.reference_alpha, result.options.seed)
    counts = np.array(leakage.counts, np.float64)
    return Panel(
        f"Leaked calibration scenes, α = {leakage.alpha:g}",
        "number of leaked scenes (D ≡ 0)",
        "largest error in the mask, mean",
        [
            Line("bound (Prop. 3.2)", counts, leakage.bounds, dashed=True, color=GREY),
            Line("realised", counts, leakage.realised, leakage.low, leakage.high),
        ],
        (0, max(2.5 * float(leakage.realised.max()), 2 * leakage.alpha)),
    )


def _diagonal(cell: Cell) -> Line:
    ends = np.array([0, cell.alphas[-1]])
    return Line("at most α", ends, ends, dashed=True, color=GREY)


def _whole(cell: Cell, quantity: str, draws: Resamples) -> Line:
    (whole,) = mean_intervals(cell.quantities[quantity][:, -1:], draws.test)
    ends = np.array([0, cell.alphas[-1]])
    return Line("without a mask", ends, np.full(2, whole.mean), color=COLORS[3])


def _mean(
    label: str,
    cell: Cell,
    quantity: str,
    draws: Resamples,
    color: str,
    top: float = np.inf,
) -> Line:
    """The mean of a quantity against α, up to α = `top`."""
    keep = np.flatnonzero(cell.alphas <= top)
    values = cell.quantities[quantity][:, keep]
    return _banded(label, cell.alphas[keep], values, draws, color)


def _banded(
    label: str,
    alphas: NDArray[np.float64],
    values: NDArray[np.float64],
    draws: Resamples,
    color: str,
) -> Line:
    mean, low, high, _ = np.array(mean_intervals(values, draws.test)).T
    return Line(label, alphas, mean, low, high, color=color)
