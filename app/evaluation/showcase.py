"""Which test images are shown, and the sheets made of them (the paper's Figures 1, 3, 5 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.baselines import SHOWN_ALPHA, Baselines
from app.evaluation.measure import Image
from app.evaluation.plots import Picture, Record, SheetRow, heat, sheet
from app.evaluation.reduce import FIDELITY, SEMANTICS, Cell
from app.evaluation.run import Evaluation
from app.evaluation.variants import BLURS
from app.images.overlay import overlay


def choose(cell: Cell, alpha: float) -> dict[int, str]:
    """The best, a typical, a rescued and the worst image at one α; fewer if they coincide.

    By its place among the test images, why each is shown.
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


class Shown(NamedTuple):
    """A chosen image, why it is shown, and its masks by D and by the semantic D."""

    image: Image
    why: str
    trusted: NDArray[np.bool_]
    trusted_semantic: NDArray[np.bool_]


async def showcase(result: Evaluation) -> list[Picture]:
    """The sheets of one upscaler; the samples come from the cache."""
    alpha = result.options.reference_alpha
    color, semantic = result.cell(FIDELITY), result.cell(SEMANTICS)
    chosen = choose(color, alpha)

    def keep(image: Image) -> Shown:
        sigma = image.sigma(color.pipeline)
        masks = (sigma < cell.thresholds[cell.place(alpha)] for cell in (color, semantic))
        return Shown(image, chosen[image.place], *masks)

    shown = await result.each([(place, result.plan.test[place]) for place in chosen], keep)
    sheets = [asyncio.to_thread(_gallery, result.name, color, shown, alpha)]
    if result.blurs:
        typical = shown[min(1, len(shown) - 1)].image
        sheets.append(asyncio.to_thread(_blur_sheet, result, typical))
    if result.baselines is not None:
        sheets.append(
            asyncio.to_thread(_baseline_sheet, result.name, result.baselines, shown, alpha)
        )
    return list(await asyncio.gather(*sheets))


def _gallery(upscaler: str, cell: Cell, shown: Sequence[Shown], alpha: float) -> Picture:
    place = cell.place(alpha)
    errors, areas = cell.quantities["error"], cell.quantities["area"]
    rows = []
    records: list[Record] = []
    for image, why, trusted, _ in shown:
        name, prediction = image.pair.name, image.prediction(cell.pipeline)
        inside, whole = (float(errors[image.place, column]) for column in (place, -1))
        area = float(areas[image.place, place])
        rows.append(
            SheetRow(
                [
                    image.pair.y,
                    prediction,
                    overlay(prediction, trusted),
                    np.where(trusted, 255, 0).astype(np.uint8),
                    heat(image.error(cell.pipeline, cell.error), 3 * alpha),
                ],
                f"{why}. {name}: {area:.0%} trusted, largest error inside {inside:.3f}, "
                f"in the whole image {whole:.3f}",
            )
        )
        numbers = {"trusted": area, "error_inside": inside, "error_whole": whole}
        records.append({"image": name, "why": why, **numbers})
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


def _blur_sheet(result: Evaluation, image: Image) -> Picture:
    rows = []
    records: list[Record] = []
    for of_sigma, cells in zip(BLURS, result.blurs, strict=True):
        tiles, areas = [], []
        for of_error, cell in zip(BLURS, cells, strict=True):
            threshold, area = float(cell.thresholds[0]), float(cell.quantities["area"][:, 0].mean())
            prediction, sigma = image.prediction(cell.pipeline), image.sigma(cell.pipeline)
            tiles.append(overlay(prediction, sigma < threshold))
            areas.append(area)
            blurs = {"sigma_blur": of_sigma, "error_blur": of_error}
            records.append({**blurs, "threshold": threshold, "trusted_area": area})
        told = ", ".join(f"{area:.0%}" for area in areas)
        rows.append(SheetRow(tiles, f"σ blurred by {of_sigma:g} px; trusted on average: {told}"))
    first = result.blurs[0][0]
    return sheet(
        result.name,
        "figure-5-blurs",
        f"What blurring σ and D does to the mask at α = {first.alphas[0]:g}",
        "The paper's Figure 5: one photograph under every combination, each calibrated for itself "
        f"on {len(first.calibration)} images; mean trusted areas are over "
        f"{len(first.quantities['area'])} test images. A blurred D is a milder error, so α means "
        "something else in every column.",
        [f"D blurred by {blur:g} px" for blur in BLURS],
        rows,
        records,
    )


def _baseline_sheet(
    upscaler: str, baselines: Baselines, shown: Sequence[Shown], alpha: float
) -> Picture:
    rows = []
    records: list[Record] = []
    for image, _, trusted, trusted_semantic in shown:
        prediction, weight = image.prediction(baselines.pipeline), baselines.weight(image)
        tiles = [
            prediction,
            overlay(prediction, trusted),
            overlay(prediction, trusted_semantic),
            *baselines.interval(image),
            np.rint(255 * weight).astype(np.uint8),
        ]
        rows.append(SheetRow(tiles, image.pair.name))
        records.append(
            {
                "image": image.pair.name,
                "trusted": float(trusted.mean()),
                "trusted_semantic": float(trusted_semantic.mean()),
                "mean_weight": float(weight.mean()),
            }
        )
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
        records,
    )
