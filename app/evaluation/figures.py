"""The figures made of numbers: the paper's Figures 2 and 4, and the settings side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.conformal.guarantees import lab_psnr_lower_bound_db
from app.evaluation.bootstrap import mean_intervals
from app.evaluation.leakage import Leakage, leak
from app.evaluation.plots import COLORS, Line, Panel, Picture, plot
from app.evaluation.rules import RULES
from app.evaluation.run import Cell, Evaluated, Options
from app.evaluation.tables import Resamples

ALPHA = "α, the promised level"


def number_figures(result: Evaluated, draws: Resamples, options: Options) -> list[Picture]:
    """All of them, for one upscaler."""
    return [
        error_and_area(result, draws),
        psnr_and_leakage(result, draws, leak(result, options)),
        settings_compared(result, draws),
        *price_of_certainty(result, options),
    ]


def price_of_certainty(result: Evaluated, options: Options) -> list[Picture]:
    """What more generations would let one trust, if several numbers of them were compared."""
    counts = sorted({row["samples"] for row in result.price})
    if len(counts) < 2:
        return []
    lines = [
        Line(
            f"α = {alpha:g}",
            np.array(counts, np.float64),
            np.array([row["trusted_area"] for row in result.price if row["alpha"] == alpha]),
            color=COLORS[k % len(COLORS)],
        )
        for k, alpha in enumerate(options.alphas)
    ]
    return [
        plot(
            result.upscaler,
            "price",
            "The price of certainty",
            "Trusted area against generations of one picture, each under the settings of a new "
            "calibration with so many of them.",
            [Panel("Trusted area", "generations", "share of the pixels", lines, (-0.02, 1.02))],
        )
    ]


def error_and_area(result: Evaluated, draws: Resamples) -> Picture:
    """Figure 2: what was promised and what came, and how much is not trusted."""
    cells = [result.cell(result.variants[0].name, rule.name) for rule in RULES]
    color, semantic, certain = cells
    top = float(color.alphas[-1])
    realised = Panel(
        "Largest error inside the mask",
        ALPHA,
        "mean over the test images",
        [
            _diagonal(top),
            _line("D, mask by D", color, "error", draws, COLORS[0], top),
            _line("D, mask by semantic D", semantic, "error", draws, COLORS[1], top),
            _line("D, mask with high probability", certain, "error", draws, COLORS[2], top),
        ],
    )
    labels = Panel(
        "Images with a semantic difference in the mask",
        ALPHA,
        "share of the test images",
        [
            _diagonal(float(semantic.alphas[-1])),
            _line("mask by semantic D", semantic, "semantic", draws, COLORS[1]),
        ],
    )
    size = Panel(
        "Not trusted (the paper's mask size)",
        ALPHA,
        "share of the pixels",
        [
            _untrusted("mask by D", color, draws, COLORS[0]),
            _untrusted("mask by semantic D", semantic, draws, COLORS[1]),
            _untrusted("mask with high probability", certain, draws, COLORS[2]),
        ],
        (-0.02, 1.02),
    )
    return plot(
        result.upscaler,
        "figure-2-error-and-mask",
        "Realised error and mask size against α",
        "The paper's Figure 2. Left: the largest error inside the mask, averaged over the test "
        "images, must lie below the dashed line wherever the mask was set by that error. Bands are "
        "95 % intervals over the test images.",
        [realised, labels, size],
    )


def psnr_and_leakage(result: Evaluated, draws: Resamples, leakage: Leakage) -> Picture:
    """Figure 4: PSNR inside the mask, and leaked calibration images."""
    panels = []
    pointwise = [v for v in result.variants if v.fidelity.metric == "pointwise"]
    if pointwise:
        panels.append(_bounded(result.cell(pointwise[0].name, "fidelity"), draws))
    cells = [result.cell(result.variants[0].name, rule.name) for rule in RULES[:2]]
    top = float(cells[0].alphas[-1])
    panels.append(
        Panel(
            "PSNR inside the mask, sRGB",
            ALPHA,
            "dB, mean over the test images",
            [
                _line("mask by D", cells[0], "psnr", draws, COLORS[0]),
                _line("mask by semantic D", cells[1], "psnr", draws, COLORS[1], top),
                _whole(cells[0], "psnr", draws, top),
            ],
        )
    )
    counts = np.array(leakage.counts, np.float64)
    panels.append(
        Panel(
            f"Leaked calibration scenes, α = {leakage.alpha:g}",
            "number of leaked scenes (D ≡ 0)",
            "largest error in the mask, mean",
            [
                Line("bound (Prop. 3.2)", counts, leakage.bounds, dashed=True, color=COLORS[7]),
                Line("realised", counts, leakage.realised, leakage.low, leakage.high),
            ],
            (0, max(2.5 * float(leakage.realised.max()), 2 * leakage.alpha)),
        )
    )
    return plot(
        result.upscaler,
        "figure-4-psnr-and-leakage",
        "PSNR inside the mask, and robustness to leakage",
        "The paper's Figure 4. The bound of Proposition 3.1 is drawn only where it holds: for the "
        "pointwise D, in normalised CIELAB, with a peak of 1. PSNR is averaged over the images "
        "whose mask is not empty. Right: images of leaked scenes are replaced by perfect "
        "predictions; the band spans the draws of which scenes leak.",
        panels,
    )


def settings_compared(result: Evaluated, draws: Resamples) -> Picture:
    """How much each variant trusts, and whether it keeps the promise."""
    cells = [result.cell(variant.name, "fidelity") for variant in result.variants]
    top = max(float(cell.alphas[-1]) for cell in cells)
    lines = [
        _line(cell.variant.name, cell, "area", draws, COLORS[i % len(COLORS)])
        for i, cell in enumerate(cells)
    ]
    errors = [
        _diagonal(top),
        *(
            _line(cell.variant.name, cell, "error", draws, COLORS[i % len(COLORS)])
            for i, cell in enumerate(cells)
        ),
    ]
    return plot(
        result.upscaler,
        "settings",
        "The settings side by side",
        "Trusted area and realised error of every variant under its own D. Areas of variants with "
        "different D answer different questions and cannot be ranked.",
        [
            Panel("Trusted area", ALPHA, "share of the pixels", lines, (-0.02, 1.02)),
            Panel("Largest error inside the mask", ALPHA, "mean over the test images", errors),
        ],
    )


def _bounded(cell: Cell, draws: Resamples) -> Panel:
    alphas = cell.alphas
    bound = np.array([lab_psnr_lower_bound_db(float(alpha)) for alpha in alphas], np.float64)
    return Panel(
        "PSNR inside the mask, CIELAB",
        ALPHA,
        "dB, mean over the test images",
        [
            _line("mask by pointwise D", cell, "psnr_lab", draws, COLORS[0]),
            Line("lower bound (Prop. 3.1)", alphas, bound, dashed=True, color=COLORS[7]),
            _whole(cell, "psnr_lab", draws, float(alphas[-1])),
        ],
    )


def _diagonal(top: float) -> Line:
    ends = np.array([0, top])
    return Line("at most α", ends, ends, dashed=True, color=COLORS[7])


def _whole(cell: Cell, quantity: str, draws: Resamples, top: float) -> Line:
    (whole,) = mean_intervals(cell.column(quantity)[:, -1:], draws.test)
    return Line("without a mask", np.array([0, top]), np.full(2, whole.mean), color=COLORS[3])


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
    mean, low, high = _means(cell.column(quantity)[:, :-1][:, keep], draws)
    return Line(label, cell.alphas[keep], mean, low, high, color=color)


def _untrusted(label: str, cell: Cell, draws: Resamples, color: str) -> Line:
    mean, low, high = _means(1 - cell.column("area")[:, :-1], draws)
    return Line(label, cell.alphas, mean, low, high, color=color)


def _means(values: NDArray[np.float64], draws: Resamples) -> tuple[NDArray[np.float64], ...]:
    found = mean_intervals(values, draws.test)
    return tuple(
        np.array([getattr(item, end) for item in found]) for end in ("mean", "low", "high")
    )
