"""Which test images are shown, and the sheets made of them (the paper's Figures 1, 3 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.earlier.part import SHOWN_ALPHA, Earlier
from app.evaluation.measure import Image
from app.evaluation.plots import Picture, Record, SheetRow, heat, sheet
from app.evaluation.reduce import Cell
from app.evaluation.run import Evaluation
from app.evaluation.variants import SEMANTIC_MASK
from app.images.drawings import overlay


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
    """A chosen image and its masks by D and by the semantic D."""

    image: Image
    trusted: NDArray[np.bool_]
    trusted_semantic: NDArray[np.bool_] | None


async def showcase(result: Evaluation) -> list[Picture]:
    """The sheets of one upscaler; the samples come from the cache."""
    alpha = result.options.reference_alpha
    color, semantic = result.main, result.cell(SEMANTIC_MASK)
    chosen = choose(color, alpha)

    def trusted(cell: Cell, image: Image) -> NDArray[np.bool_]:
        part = cell.answers[image.place].subject.part
        return np.asarray(
            image.sigma(cell.pipeline) < cell.thresholds(part)[cell.place(alpha)], np.bool_
        )

    def keep(image: Image) -> Shown:
        by_meaning = None if semantic is None else trusted(semantic, image)
        return Shown(image, trusted(color, image), by_meaning)

    shown = await result.each([result.test[place] for place in chosen], keep)
    sheets = [await asyncio.to_thread(_gallery, result.name, color, shown, chosen, alpha)]
    if result.earlier is not None:
        sheets.append(await asyncio.to_thread(_earlier, result.name, result.earlier, shown, alpha))
    return sheets


def _gallery(
    upscaler: str, cell: Cell, shown: Sequence[Shown], why: dict[int, str], alpha: float
) -> Picture:
    place = cell.place(alpha)
    errors, areas = cell.quantities["error"], cell.quantities["area"]
    rows = []
    records: list[Record] = []
    for image, trusted, _ in shown:
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


def _earlier(upscaler: str, earlier: Earlier, shown: Sequence[Shown], alpha: float) -> Picture:
    rows = []
    records: list[Record] = []
    for image, *masks in shown:
        prediction, weight = image.prediction(earlier.pipeline), earlier.weight(image)
        ours = [mask for mask in masks if mask is not None]
        tiles = [
            prediction,
            *(overlay(prediction, mask) for mask in ours),
            *earlier.interval(image),
            np.rint(255 * weight).astype(np.uint8),
        ]
        rows.append(SheetRow(tiles, image.pair.name))
        areas = zip(("trusted", "trusted_semantic"), ours, strict=False)
        records.append(
            {
                "image": image.pair.name,
                **{name: float(mask.mean()) for name, mask in areas},
                "mean_weight": float(weight.mean()),
            }
        )
    heads = ["ours, D", "ours, semantic D"][: len(rows[0].images) - 4]
    return sheet(
        upscaler,
        "figure-6-baselines",
        "Our masks beside those of earlier work",
        f"The paper's Figure 6. Ours at α = {alpha:g}, by D and by the semantic D of the synthetic "
        "annotator; the lower and upper images of Angelopoulos et al. (2022b); the continuous mask "
        f"of Kutiel et al. (2023) at α = {SHOWN_ALPHA:g} of the weighted mean error, white is "
        "confident.",
        ["upscaled", *heads, "lower end", "upper end", "continuous mask"],
        rows,
        records,
    )
