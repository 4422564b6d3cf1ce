"""Which test images are shown, and the sheets made of them (the paper's Figures 1, 3, 5 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.calibration.pairs import Pair
from app.evaluation.baselines import SHOWN_ALPHA, Baselines
from app.evaluation.blurs import BLURS, Blurs
from app.evaluation.plan import Plan
from app.evaluation.plots import Picture, SheetRow, heat, sheet
from app.evaluation.rules import FIDELITY, SEMANTICS
from app.evaluation.run import Cell, Evaluation
from app.evaluation.samples import Drawn, Image
from app.images.overlay import overlay


class Choice(NamedTuple):
    """A test image by its place, and why it is shown."""

    place: int
    why: str


class Shown(NamedTuple):
    """A chosen image, its error, and its masks by D and by the semantic D."""

    name: str
    choice: Choice
    image: Image
    error: NDArray[np.float32]
    trusted: NDArray[np.bool_]
    trusted_semantic: NDArray[np.bool_]


def choose(cell: Cell, alpha: float) -> list[Choice]:
    """The best, a typical, a rescued and the worst image at one α; fewer if they coincide."""
    place = cell.place(alpha)
    error, area = cell.column("error")[:, place], cell.column("area")[:, place]
    whole = cell.column("error")[:, -1]
    spared = np.where(area > 0, whole - error, -1)
    candidates = [
        (np.lexsort((error, -area)), "best: the largest trusted area"),
        (np.argsort(np.abs(error - np.median(error)), kind="stable"), "typical: the median error"),
        (
            np.argsort(-spared, kind="stable"),
            "a failure found: the most error kept out of the mask",
        ),
        (np.argsort(-error, kind="stable"), "worst: the largest error inside the mask"),
    ]
    chosen: list[Choice] = []
    for order, why in candidates:
        free = [int(i) for i in order if int(i) not in {choice.place for choice in chosen}]
        if free:
            chosen.append(Choice(free[0], why))
    return chosen


async def showcase(result: Evaluation, plan: Plan) -> list[Picture]:
    """The sheets of one upscaler; the samples come from the cache."""
    variant, alpha = result.variants[0], result.options.reference_alpha
    color, semantic = result.cell(FIDELITY), result.cell(SEMANTICS)
    chosen = choose(color, alpha)

    def keep(number: int, pair: Pair, found: Drawn) -> Shown:
        choice = chosen[number]
        image = result.image(choice.place, found, result.views(pair, found))
        masks = (image.sigma < cell.thresholds[cell.place(alpha)] for cell in (color, semantic))
        return Shown(pair.name, choice, image, image.maps.error(variant.fidelity), *masks)

    shown = await result.all([plan.test[choice.place] for choice in chosen], keep)
    upscaler = result.name
    sheets = [asyncio.to_thread(_gallery, upscaler, color, shown, alpha)]
    if result.blurs is not None:
        typical = shown[min(1, len(shown) - 1)]
        sheets.append(asyncio.to_thread(_blur_sheet, upscaler, result.blurs, typical))
    if result.baselines is not None:
        sheets.append(asyncio.to_thread(_baseline_sheet, upscaler, result.baselines, shown, alpha))
    return list(await asyncio.gather(*sheets))


def _gallery(upscaler: str, cell: Cell, shown: Sequence[Shown], alpha: float) -> Picture:
    place = cell.place(alpha)
    rows = []
    numbers: list[Sequence[object]] = [["image", "why", "trusted", "error_inside", "error_whole"]]
    for name, choice, image, error, trusted, _ in shown:
        prediction, within = image.maps.prediction, cell.within[choice.place]
        area, inside, whole = (
            float(number) for number in (within.area[place], within.error[place], within.error[-1])
        )
        rows.append(
            SheetRow(
                [
                    image.maps.truth,
                    prediction,
                    overlay(prediction, trusted),
                    np.where(trusted, 255, 0).astype(np.uint8),
                    heat(error, 3 * alpha),
                ],
                f"{choice.why}. {name}: {area:.0%} trusted, largest error inside {inside:.3f}, "
                f"in the whole image {whole:.3f}",
            )
        )
        numbers.append([name, choice.why, area, inside, whole])
    return sheet(
        upscaler,
        "figure-1-gallery",
        f"Test images and their masks at α = {alpha:g}",
        "The paper's Figures 1 and 3. Grey under magenta: not trusted. The error runs from "
        f"black (0) to light ({3 * alpha:g} and more).",
        ["photograph", "upscaled", "where not to believe it", "trust mask", "error D"],
        rows,
        numbers,
    )


def _blur_sheet(upscaler: str, blurs: Blurs, shown: Shown) -> Picture:
    areas = blurs.scores.mean(axis=0)
    rows = []
    numbers: list[Sequence[object]] = [["sigma_blur", "error_blur", "threshold", "trusted_area"]]
    for i, masks in enumerate(blurs.masks(shown.image.found.samples)):
        rows.append(
            SheetRow(
                [overlay(shown.image.maps.prediction, mask) for mask in masks],
                f"σ blurred by {BLURS[i]:g} px; trusted on average: "
                + ", ".join(f"{area:.0%}" for area in areas[i]),
            )
        )
        numbers += [
            [BLURS[i], blur, float(blurs.thresholds[i, j]), float(areas[i, j])]
            for j, blur in enumerate(BLURS)
        ]
    return sheet(
        upscaler,
        "figure-5-blurs",
        f"What blurring σ and D does to the mask at α = {blurs.alpha:g}",
        "The paper's Figure 5: one photograph under every combination, each calibrated for itself "
        f"on {blurs.n_calibration} images; mean trusted areas are over {len(blurs.scores)} test "
        "images. A blurred D is a milder error, so α means something else in every column.",
        [f"D blurred by {blur:g} px" for blur in BLURS],
        rows,
        numbers,
    )


def _baseline_sheet(
    upscaler: str, baselines: Baselines, shown: Sequence[Shown], alpha: float
) -> Picture:
    rows = []
    numbers: list[Sequence[object]] = [["image", "trusted", "trusted_semantic", "mean_weight"]]
    for name, _, image, _, trusted, trusted_semantic in shown:
        prediction, weight = image.maps.prediction, baselines.weight(image.sigma)
        rows.append(
            SheetRow(
                [
                    prediction,
                    overlay(prediction, trusted),
                    overlay(prediction, trusted_semantic),
                    *baselines.interval(image),
                    np.rint(255 * weight).astype(np.uint8),
                ],
                name,
            )
        )
        shares = (trusted, trusted_semantic, weight)
        numbers.append([name, *(float(np.mean(share)) for share in shares)])
    return sheet(
        upscaler,
        "figure-6-baselines",
        "Our masks beside those of earlier work",
        f"The paper's Figure 6. Ours at α = {alpha:g}, by D and by the semantic D of the synthetic "
        "annotator; the lower and upper images of Angelopoulos et al. (2022b); the continuous mask "
        f"of Kutiel et al. (2023) at α = {SHOWN_ALPHA:g} of the weighted mean error, white is "
        "confident.",
        ["upscaled", "ours, D", "ours, semantic D", "lower end", "upper end", "continuous mask"],
        rows,
        numbers,
    )
