"""The paper's Figures 1, 3 and 6: sheets of test images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.earlier import SHOWN_ALPHA, Earlier
from trustscale_evaluation.measure import EvaluatedImage
from trustscale_evaluation.records import Record
from trustscale_evaluation.reduce import Cell
from trustscale_evaluation.report_picture import ReportPicture
from trustscale_evaluation.run import Evaluation
from trustscale_evaluation.sheets import SheetRow, heat, sheet
from trustscale_server.images.encoding.overlay import overlay
from trustscale_server.pixels.lab import to_8_bit


def choose_examples(cell: Cell, alpha: float) -> dict[int, str]:
    """Choose the best, a typical, a rescued and the worst image at one α.

    Returns the reason why each is shown, by its place among the test images.
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


_Example = tuple[EvaluatedImage, NDArray[np.bool_]]
"""A chosen image and its mask."""


async def showcase(result: Evaluation) -> list[ReportPicture]:
    """Return the sheets of one upscaler."""
    alpha = result.options.reference_alpha
    cell = result.main
    chosen = choose_examples(cell, alpha)

    def keep(image: EvaluatedImage) -> _Example:
        thresholds = cell.thresholds(cell.answers[image.place].applicable.subset)
        trusted = image.sigma(cell.pipeline) < thresholds[cell.place(alpha)]
        return image, np.asarray(trusted)

    chosen_images = await result.each([result.test[place] for place in chosen], keep)
    sheets = [await asyncio.to_thread(_gallery, result.name, cell, chosen_images, chosen, alpha)]
    if result.earlier is not None:
        sheets.append(
            await asyncio.to_thread(_earlier, result.name, result.earlier, chosen_images, alpha)
        )
    return sheets


def _gallery(
    upscaler: str, cell: Cell, images: Sequence[_Example], why: dict[int, str], alpha: float
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
    upscaler: str, earlier: Earlier, images: Sequence[_Example], alpha: float
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
