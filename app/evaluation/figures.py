"""The figures made of numbers: the paper's Figures 2 and 4, and the settings side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.conformal.guarantees import lab_psnr_lower_bound_db
from app.evaluation.bootstrap import mean_intervals
from app.evaluation.leakage import leak
from app.evaluation.plots import COLORS, Line, Panel, Picture, plot
from app.evaluation.rules import FIDELITY, HIGH_PROBABILITY, SEMANTICS
from app.evaluation.run import Cell, Evaluation, Options
from app.evaluation.tables import Resamples

ALPHA = "α, the promised level"
MEAN = "mean over the test images"
SHARE = "share of the pixels"
WHOLE = (-0.02, 1.02)  # the range of a share


def number_figures(result: Evaluation, draws: Resamples, options: Options) -> list[Picture]:
    """All of them, for one upscaler."""
    return [
        error_and_area(result, draws),
        psnr_and_leakage(result, draws, options),
        settings_compared(result, draws),
        *price_of_certainty(result, options),
    ]


def price_of_certainty(result: Evaluation, options: Options) -> list[Picture]:
    """What more generations would let one trust, if several numbers of them were compared."""
    rows = result.prices()
    counts = sorted({row["samples"] for row in rows})
    if len(counts) < 2:
        return []
    lines = [
        Line(
            f"α = {alpha:g}",
            np.array(counts, np.float64),
            np.array([row["trusted_area"] for row in rows if row["alpha"] == alpha]),
            color=COLORS[k % len(COLORS)],
        )
        for k, alpha in enumerate(options.alphas)
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
    errors = [_line(f"D, {words}", cell, "error", draws, ink, top) for cell, words, ink in masks]
    marked = [
        _diagonal(float(semantic.alphas[-1])),
        _line(words, semantic, "semantic", draws, orange),
    ]
    untrusted = [
        _with_band(words, cell.alphas, 1 - cell.column("area")[:, :-1], draws, ink)
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
            Panel("Largest error inside the mask", ALPHA, MEAN, [_diagonal(top), *errors]),
            Panel(
                "Images with a semantic difference in the mask",
                ALPHA,
                "share of the test images",
                marked,
            ),
            Panel("Not trusted (the paper's mask size)", ALPHA, SHARE, untrusted, WHOLE),
        ],
    )


def psnr_and_leakage(result: Evaluation, draws: Resamples, options: Options) -> Picture:
    """Figure 4: PSNR inside the mask, and leaked calibration images."""
    color, semantic = result.cell(FIDELITY), result.cell(SEMANTICS)
    top = float(color.alphas[-1])
    panels = [
        Panel(
            "PSNR inside the mask, sRGB",
            ALPHA,
            f"dB, {MEAN}",
            [
                _line("mask by D", color, "psnr", draws, COLORS[0]),
                _line("mask by semantic D", semantic, "psnr", draws, COLORS[1], top),
                _whole(color, "psnr", draws),
            ],
        ),
        _leaked(color, options),
    ]
    pointwise = [v for v in result.variants if v.fidelity.metric == "pointwise"]
    if pointwise:
        panels.insert(0, _bounded(result.cell(FIDELITY, pointwise[0]), draws))
    return plot(
        result.name,
        "figure-4-psnr-and-leakage",
        "PSNR inside the mask, and robustness to leakage",
        "The paper's Figure 4. The bound of Proposition 3.1 is drawn only where it holds: for the "
        "pointwise D, in normalised CIELAB, with a peak of 1. PSNR is averaged over the images "
        "whose mask is not empty. Right: images of leaked scenes are replaced by perfect "
        "predictions; the band spans the draws of which scenes leak.",
        panels,
    )


def settings_compared(result: Evaluation, draws: Resamples) -> Picture:
    """How much each variant trusts, and whether it keeps the promise."""
    cells = [
        (result.cell(FIDELITY, variant), variant.name, COLORS[i % len(COLORS)])
        for i, variant in enumerate(result.variants)
    ]
    top = max(float(cell.alphas[-1]) for cell, *_ in cells)
    areas = [_line(name, cell, "area", draws, ink) for cell, name, ink in cells]
    errors = [_line(name, cell, "error", draws, ink) for cell, name, ink in cells]
    return plot(
        result.name,
        "settings",
        "The settings side by side",
        "Trusted area and realised error of every variant under its own D. Areas of variants with "
        "different D answer different questions and cannot be ranked.",
        [
            Panel("Trusted area", ALPHA, SHARE, areas, WHOLE),
            Panel("Largest error inside the mask", ALPHA, MEAN, [_diagonal(top), *errors]),
        ],
    )


def _bounded(cell: Cell, draws: Resamples) -> Panel:
    alphas = cell.alphas
    bound = np.array([lab_psnr_lower_bound_db(float(alpha)) for alpha in alphas], np.float64)
    return Panel(
        "PSNR inside the mask, CIELAB",
        ALPHA,
        f"dB, {MEAN}",
        [
            _line("mask by pointwise D", cell, "psnr_lab", draws, COLORS[0]),
            Line("lower bound (Prop. 3.1)", alphas, bound, dashed=True, color=COLORS[7]),
            _whole(cell, "psnr_lab", draws),
        ],
    )


def _leaked(cell: Cell, options: Options) -> Panel:
    leakage = leak(cell, options.reference_alpha, options.seed)
    counts = np.array(leakage.counts, np.float64)
    return Panel(
        f"Leaked calibration scenes, α = {leakage.alpha:g}",
        "number of leaked scenes (D ≡ 0)",
        "largest error in the mask, mean",
        [
            Line("bound (Prop. 3.2)", counts, leakage.bounds, dashed=True, color=COLORS[7]),
            Line("realised", counts, leakage.realised, leakage.low, leakage.high),
        ],
        (0, max(2.5 * float(leakage.realised.max()), 2 * leakage.alpha)),
    )


def _diagonal(top: float) -> Line:
    ends = np.array([0, top])
    return Line("at most α", ends, ends, dashed=True, color=COLORS[7])


def _whole(cell: Cell, quantity: str, draws: Resamples) -> Line:
    (whole,) = mean_intervals(cell.column(quantity)[:, -1:], draws.test)
    ends = np.array([0, cell.alphas[-1]])
    return Line("without a mask", ends, np.full(2, whole.mean), color=COLORS[3])


def _line(
    label: str,
    cell: Cell,
    quantity: str,
    draws: Resamples,
    color: str,
    top: float = np.inf,
) -> Line:
    """The mean of a quantity against α, up to α = `top`."""
    keep = cell.alphas <= top
    return _with_band(
        label, cell.alphas[keep], cell.column(quantity)[:, :-1][:, keep], draws, color
    )


def _with_band(
    label: str,
    alphas: NDArray[np.float64],
    values: NDArray[np.float64],
    draws: Resamples,
    color: str,
) -> Line:
    mean, low, high, _ = np.array(mean_intervals(values, draws.test)).T
    return Line(label, alphas, mean, low, high, color=color)
