"""Which test images are shown, and the sheets made of them (the paper's Figures 1, 3, 5 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.calibration.folder import PairFiles
from app.calibration.pairs import Pair
from app.evaluation.blurs import BLURS
from app.evaluation.comparison import SHOWN_ALPHA
from app.evaluation.gallery import SheetRow, black_and_white, heat, sheet
from app.evaluation.plan import Plan
from app.evaluation.plots import Picture
from app.evaluation.reduce import ErrorMaps
from app.evaluation.run import Cell, Evaluated, Run, Tools
from app.evaluation.samples import Drawn, wanted
from app.images.overlay import overlay
from app.upscalers.base import RGB


class Choice(NamedTuple):
    """A test image by its place, and why it is shown."""

    place: int
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """The maps of one chosen image."""

    choice: Choice
    name: str
    truth: RGB
    prediction: RGB
    error: NDArray[np.float32]
    trusted: NDArray[np.bool_]
    trusted_semantic: NDArray[np.bool_]
    blurred: list[list[NDArray[np.bool_]]] | None
    interval: tuple[RGB, RGB] | None
    weight: NDArray[np.float64] | None


def choose(cell: Cell, alpha: float) -> list[Choice]:
    """The best, a typical, a rescued and the worst image at one α; fewer if they coincide."""
    place = int(np.searchsorted(cell.alphas, alpha))
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


async def showcase(run: Run, plan: Plan, result: Evaluated, tools: Tools) -> list[Picture]:
    """The sheets of one upscaler; the samples come from the cache."""
    first = result.variants[0]
    cell = result.cell(first.name, "fidelity")
    alpha = run.options.reference_alpha
    chosen = choose(cell, alpha)

    def keep(number: int, pair: Pair, found: Drawn) -> Shown:
        return _shown(run, result, tools, chosen[number], pair, found)

    items: list[PairFiles] = [plan.test[choice.place] for choice in chosen]
    shown = await run.all(items, keep)
    sheets = [asyncio.to_thread(_gallery, result, cell, shown, alpha)]
    if result.blurs is not None:
        typical = shown[min(1, len(shown) - 1)]
        sheets.append(asyncio.to_thread(_blur_sheet, result, typical))
    if result.baselines is not None:
        sheets.append(asyncio.to_thread(_baseline_sheet, result, shown, alpha))
    return list(await asyncio.gather(*sheets))


def _shown(
    run: Run, result: Evaluated, tools: Tools, choice: Choice, pair: Pair, found: Drawn
) -> Shown:
    first, pipeline = run.variants[0], run.pipelines[0]
    measurement = found.measurements[wanted(pipeline)]
    maps = ErrorMaps(pair.y, measurement.prediction)

    def trusted(rule: str) -> NDArray[np.bool_]:
        cell = result.cell(first.name, rule)
        place = int(np.searchsorted(cell.alphas, run.options.reference_alpha))
        return np.asarray(measurement.sigma < cell.thresholds[place])

    others = tools.comparison
    return Shown(
        choice,
        pair.name,
        pair.y,
        measurement.prediction,
        maps.error(pipeline.fidelity),
        trusted("fidelity"),
        trusted("semantic"),
        tools.sketch.masks(found.samples) if tools.sketch else None,
        others.interval(maps, found.samples) if others else None,
        others.weight(measurement.sigma) if others else None,
    )


def _gallery(result: Evaluated, cell: Cell, shown: Sequence[Shown], alpha: float) -> Picture:
    place = int(np.searchsorted(cell.alphas, alpha))
    rows = [
        SheetRow(
            [
                image.truth,
                image.prediction,
                overlay(image.prediction, image.trusted),
                black_and_white(image.trusted),
                heat(image.error, 3 * alpha),
            ],
            f"{image.choice.why}. {image.name}: {_facts(cell, image.choice.place, place)}",
        )
        for image in shown
    ]
    return sheet(
        result.upscaler,
        "figure-1-gallery",
        f"Test images and their masks at α = {alpha:g}",
        "The paper's Figures 1 and 3. Grey under magenta: not trusted. The error runs from "
        f"black (0) to light ({3 * alpha:g} and more).",
        ["photograph", "upscaled", "where not to believe it", "trust mask", "error D"],
        rows,
        _numbers(cell, shown, place),
    )


def _blur_sheet(result: Evaluated, image: Shown) -> Picture:
    grid = result.blurs
    assert grid is not None  # noqa: S101 - asked for only where there is one
    assert image.blurred is not None  # noqa: S101 - the same
    rows = [
        SheetRow(
            [overlay(image.prediction, mask) for mask in masks],
            f"σ blurred by {blur:g} px; trusted on average: "
            + ", ".join(f"{area:.0%}" for area in grid.areas[i]),
        )
        for i, (blur, masks) in enumerate(zip(BLURS, image.blurred, strict=True))
    ]
    numbers: list[Sequence[object]] = [["sigma_blur", "error_blur", "threshold", "trusted_area"]]
    numbers += [
        [a, b, float(grid.thresholds[i, j]), float(grid.areas[i, j])]
        for i, a in enumerate(BLURS)
        for j, b in enumerate(BLURS)
    ]
    return sheet(
        result.upscaler,
        "figure-5-blurs",
        f"What blurring σ and D does to the mask at α = {grid.alpha:g}",
        "The paper's Figure 5: one photograph under every combination, each calibrated for itself "
        f"on {grid.n_calibration} images; mean trusted areas are over {grid.n_test} test images. "
        "A blurred D is a milder error, so α means something else in every column.",
        [f"D blurred by {blur:g} px" for blur in BLURS],
        rows,
        numbers,
    )


def _baseline_sheet(result: Evaluated, shown: Sequence[Shown], alpha: float) -> Picture:
    rows, numbers = [], [["image", "trusted", "trusted_semantic", "mean_weight"]]
    for image in shown:
        assert image.interval is not None  # noqa: S101 - asked for only where there are baselines
        assert image.weight is not None  # noqa: S101 - the same
        weight = np.repeat(np.rint(255 * image.weight).astype(np.uint8)[..., None], 3, axis=2)
        rows.append(
            SheetRow(
                [
                    image.prediction,
                    overlay(image.prediction, image.trusted),
                    overlay(image.prediction, image.trusted_semantic),
                    *image.interval,
                    weight,
                ],
                image.name,
            )
        )
        shares = (image.trusted, image.trusted_semantic, image.weight)
        numbers.append([image.name, *(repr(float(np.mean(share))) for share in shares)])
    return sheet(
        result.upscaler,
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


def _facts(cell: Cell, image: int, place: int) -> str:
    inside = cell.within[image]
    return (
        f"{inside.area[place]:.0%} trusted, largest error inside {inside.error[place]:.3f}, "
        f"in the whole image {inside.error[-1]:.3f}"
    )


def _numbers(cell: Cell, shown: Sequence[Shown], place: int) -> list[Sequence[object]]:
    head: list[Sequence[object]] = [["image", "why", "trusted", "error_inside", "error_whole"]]
    return head + [
        [
            image.name,
            image.choice.why,
            float(cell.within[image.choice.place].area[place]),
            float(cell.within[image.choice.place].error[place]),
            float(cell.within[image.choice.place].error[-1]),
        ]
        for image in shown
    ]
