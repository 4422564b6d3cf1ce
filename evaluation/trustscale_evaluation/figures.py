"""The paper's figures: plots of numbers (2 and 4), and sheets of test images (1, 3 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.earlier import SHOWN_ALPHA, Earlier
from trustscale_evaluation.measure import EvaluatedImage
from trustscale_evaluation.plots import (
    COLORS,
    GREY,
    Panel,
    PlotLine,
    Record,
    ReportPicture,
    SheetRow,
    heat,
    plot,
    sheet,
)
from trustscale_evaluation.reduce import Cell, mean_of
from trustscale_evaluation.run import Evaluation
from trustscale_evaluation.tables import Resamples, mean_intervals
from trustscale_server.conformal import LossCurve, RiskCurve
from trustscale_server.conformal.risk_curve import lab_psnr_lower_bound_db, leakage_bound
from trustscale_server.images.overlay import overlay
from trustscale_server.pixels.lab import to_8_bit

ALPHA = "α, the promised level"
_MEAN = "mean over the test images"
_SHARE = "share of the pixels"
_WHOLE = (-0.02, 1.02)  # the range of a share
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)  # of the scenes that leak
_DRAWS = 8

_PERFECT = LossCurve(np.empty(0, np.float32), np.empty(0, np.float32))


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
            yield _mean(cell.name, cell, quantity, draws, color, top)

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
                [_diagonal(result.main), *lines("loss")],
            ),
            Panel("Not trusted (the paper's mask size)", ALPHA, _SHARE, untrusted, _WHOLE),
        ],
    )


def psnr_and_leakage(result: Evaluation, draws: Resamples) -> ReportPicture:
    """Plot Figure 4: PSNR inside the mask, and leaked calibration images."""
    color = result.main
    lines = [_mean("mask by D", color, "psnr", draws, COLORS[0]), _whole(color, "psnr", draws)]
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
        [*([_bounded(pointwise, draws)] if pointwise else []), psnr, _leaked(color, result)],
    )


def _bounded(cell: Cell, draws: Resamples) -> Panel:
    bound = np.array([lab_psnr_lower_bound_db(alpha) for alpha in cell.alphas.tolist()], np.float64)
    return Panel(
        "PSNR inside the mask, CIELAB",
        ALPHA,
        f"dB, {_MEAN}",
        [
            _mean("mask by pointwise D", cell, "psnr_lab", draws, COLORS[0]),
            PlotLine("lower bound (Prop. 3.1)", cell.alphas, bound, dashed=True, color=GREY),
            _whole(cell, "psnr_lab", draws),
        ],
    )


def _leaked(cell: Cell, result: Evaluation) -> Panel:
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
    counts = sorted({round(share * calibration.n) for share in SHARES} - {calibration.n})
    random = np.random.Generator(np.random.PCG64(seed))
    realised = np.empty((len(counts), _DRAWS))
    for row, draw in np.ndindex(realised.shape):
        leaked = {
            i
            for k in random.permutation(calibration.n)[: counts[row]]
            for i in calibration.members[k]
        }
        losses = [
            _PERFECT if i in leaked else calibration.guarantee.loss(spot)
            for i in range(calibration.pairs)
            for spot in calibration.spots_of(i)
        ]
        scenes = [
            calibration.scenes[i] for i in range(calibration.pairs) for _ in calibration.spots_of(i)
        ]
        curve = RiskCurve.from_loss_curves(
            losses, calibration.bound, scenes=scenes, highest=calibration.highest
        )
        threshold = np.array([curve.threshold(alpha)])
        realised[row, draw] = np.mean(
            [mean_of(answer.losses, threshold, "left")[0] for answer in cell.answers]
        )
    return counts, realised


def _diagonal(cell: Cell) -> PlotLine:
    ends = np.array([0, cell.alphas[-1]])
    return PlotLine("at most α", ends, ends, dashed=True, color=GREY)


def _whole(cell: Cell, quantity: str, draws: Resamples) -> PlotLine:
    (unmasked,) = mean_intervals(cell.quantities[quantity][:, -1:], draws.test)
    ends = np.array([0, cell.alphas[-1]])
    return PlotLine("without a mask", ends, np.full(2, unmasked.mean), color=COLORS[3])


def _mean(
    label: str, cell: Cell, quantity: str, draws: Resamples, color: str, top: float = np.inf
) -> PlotLine:
    keep = np.flatnonzero(cell.alphas <= top)
    values: NDArray[np.float64] = cell.quantities[quantity][:, keep]
    mean, low, high, _ = np.array(mean_intervals(values, draws.test)).T
    return PlotLine(label, cell.alphas[keep], mean, low, high, color=color)


def choose_examples(cell: Cell, alpha: float) -> dict[int, str]:
    """Choose the best, a typical, a rescued and the worst image at one α.

    By place among the test images, why each is shown.
    """
    place = cell.place(alpha)
    errors = cell.quantities["error"]
    error, area = errors[:, place], cell.quantities["area"][:, place]
    spared = np.where(area > 0, errors[:, -1] - error, -1)
    candidates = {
        "best: the largest trusted area": np.lexsort((error, -area)),
        "typical: the median error": np.argsort(np.abs(error - np.median(error)), kind="stable"),
        "a failure found: the most error kept out of the mask": np.argsort(-spared, kind="stable"),
        "worst: the largest error inside the mask": np.argsort(-error, kind="stable"),
    }
    chosen: dict[int, str] = {}
    for why, order in candidates.items():
        free = [int(i) for i in order if int(i) not in chosen]
        if free:
            chosen[free[0]] = why
    return chosen


_Shown = tuple[EvaluatedImage, NDArray[np.bool_]]
"""A chosen image and its mask."""


async def showcase(result: Evaluation) -> list[ReportPicture]:
    """Return the sheets of one upscaler."""
    alpha = result.options.reference_alpha
    color = result.main
    chosen = choose_examples(color, alpha)

    def keep(image: EvaluatedImage) -> _Shown:
        thresholds = color.thresholds(color.answers[image.place].applicable.subset)
        trusted = image.sigma(color.pipeline) < thresholds[color.place(alpha)]
        return image, np.asarray(trusted)

    chosen_images = await result.each([result.test[place] for place in chosen], keep)
    sheets = [await asyncio.to_thread(_gallery, result.name, color, chosen_images, chosen, alpha)]
    if result.earlier is not None:
        sheets.append(
            await asyncio.to_thread(_earlier, result.name, result.earlier, chosen_images, alpha)
        )
    return sheets


def _gallery(
    upscaler: str, cell: Cell, images: Sequence[_Shown], why: dict[int, str], alpha: float
) -> ReportPicture:
    place = cell.place(alpha)
    errors, areas = cell.quantities["error"], cell.quantities["area"]
    rows = []
    records: list[Record] = []
    for image, trusted in images:
        name, prediction = image.pair.name, image.prediction(cell.pipeline)
        inside, whole = (float(errors[image.place, column]) for column in (place, -1))
        area = float(areas[image.place, place])
        rows.append(
            SheetRow(
                [
                    image.pair.y,
                    prediction,
                    overlay(to_8_bit(prediction), trusted),
                    np.where(trusted, 255, 0).astype(np.uint8),
                    heat(image.error(cell.pipeline, cell.color_error), 3 * alpha),
                ],
                f"{why[image.place]}. {name}: {area:.0%} trusted, largest error inside "
                f"{inside:.3f}, in the whole image {whole:.3f}",
            )
        )
        numbers = {"trusted": area, "error_inside": inside, "error_whole": whole}
        records.append({"image": name, "why": why[image.place], **numbers})
    return sheet(
        upscaler,
        "figure-1-gallery",
        f"Test images and their masks at α = {alpha:g}",
        "The paper's Figures 1 and 3. Grey under magenta: not trusted. The error runs from "
        f"black (0) to light ({3 * alpha:g} and more).",
        ["photograph", "upscaled", "where errors may be larger", "trust mask", "error D"],
        rows,
        records,
    )


def _earlier(
    upscaler: str, earlier: Earlier, images: Sequence[_Shown], alpha: float
) -> ReportPicture:
    rows = []
    records: list[Record] = []
    for image, trusted in images:
        prediction, weight = image.prediction(earlier.pipeline), earlier.weight(image)
        tiles = [
            prediction,
            overlay(prediction, trusted),
            *earlier.interval(image),
            np.rint(255 * weight).astype(np.uint8),
        ]
        rows.append(SheetRow(tiles, image.pair.name))
        records.append(
            {
                "image": image.pair.name,
                "trusted": float(trusted.mean()),
                "mean_weight": float(weight.mean()),
            }
        )
    return sheet(
        upscaler,
        "figure-6-baselines",
        "Our masks beside those of earlier work",
        f"The paper's Figure 6. Ours at α = {alpha:g}, by D; the lower and upper images of "
        f"Angelopoulos et al. (2022b); the continuous mask of Kutiel et al. (2023) at "
        f"α = {SHOWN_ALPHA:g} of the weighted mean error, white is confident.",
        ["upscaled", "ours", "lower end", "upper end", "continuous mask"],
        rows,
        records,
    )
