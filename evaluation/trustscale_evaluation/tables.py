"""Table 1 of the paper, for every upscaler and variant, with intervals and a judgement."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.bootstrap import (
    Interval,
    Resamples,
    mean_intervals,
    percentile,
    resampled_losses,
)
from trustscale_evaluation.records import Record
from trustscale_evaluation.reduce import Cell, mean_below
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.scenes import Scene

Status = Literal["consistent", "within", "broken", "nothing"]
"""consistent: the mean is at most α. within: above α, but the interval reaches down to it.
broken: the whole interval lies above α. nothing: too few images for this α, so that nothing is
trusted."""

_JOINT_GRID = 512

QUANTITIES = ("loss", "error", "area", "psnr", "psnr_lab")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    input_class: of the uploads; None: of all.
    alpha: None is the whole image.
    warned: share of the uploads with a warning.
    quantities: an interval over the test images for each of `QUANTITIES`.
    promise: the interval that decides `status`: over calibration and test images for a promise in
    expectation, else over test images.
    """

    upscaler: str
    variant: str
    input_class: str | None
    alpha: float | None
    warned: float
    quantities: Mapping[str, Interval]
    promise: tuple[float, float] | None
    status: Status | None


def cell_rows(upscaler: str, cell: Cell, draws: Resamples, alphas: Sequence[float]) -> list[Row]:
    """Return one row per α and one for the whole image."""
    return _rows(upscaler, cell, draws, [*alphas, None])


def class_rows(upscaler: str, cell: Cell, draws: Resamples, alpha: float) -> list[Row]:
    """Return one row for each class of uploads, at one α."""
    return [
        row
        for name, places in cell.classes.items()
        for row in _rows(upscaler, cell.of_places(places), draws.of_places(places), [alpha], name)
    ]


def _rows(
    upscaler: str,
    cell: Cell,
    draws: Resamples,
    levels: Sequence[float | None],
    input_class: str | None = None,
) -> list[Row]:
    alphas = [alpha for alpha in levels if alpha is not None]
    columns = [len(cell.alphas) if alpha is None else cell.place(alpha) for alpha in levels]
    intervals = {
        name: mean_intervals(cell.quantities[name][:, columns], draws.test) for name in QUANTITIES
    }
    if cell.calibration.guarantee.summary().delta is None:
        promised = joint_intervals(cell, draws, alphas)
    else:  # the promise is about this calibration, so only the test images are drawn
        losses = zip(intervals["loss"], levels, strict=True)
        promised = [(loss.low, loss.high) for loss, alpha in losses if alpha is not None]
    promises = dict(zip(alphas, promised, strict=True))
    warned = float(np.mean([not answer.applicable.is_covered for answer in cell.answers]))
    rows = []
    for number, (column, alpha) in enumerate(zip(columns, levels, strict=True)):
        quantities = {name: intervals[name][number] for name in QUANTITIES}
        status = promise = None
        # Nothing is promised of a class that is not covered.
        if alpha is not None and (input_class is None or cell.answers[0].applicable.is_covered):
            promise = promises[alpha]
            answering = {answer.applicable.subset for answer in cell.answers}
            thresholds = [cell.thresholds(subset)[column] for subset in answering]
            status = _status(alpha, max(thresholds), quantities["loss"].mean, promise)
        rows.append(
            Row(upscaler, cell.name, input_class, alpha, warned, quantities, promise, status)
        )
    return rows


def joint_intervals(
    cell: Cell, draws: Resamples, alphas: Sequence[float]
) -> list[tuple[float, float]]:
    """Return intervals of the realised loss over calibration scenes *and* test images.

    The promise is an average over both. Each replicate finds the thresholds of every subset anew.
    """
    by_name = dict.fromkeys(cell.calibration.everything.scenes)
    column: dict[Hashable, int] = {name: place for place, name in enumerate(by_name)}
    of_scenes = draws.calibration(len(column))
    of_test = draws.test[: len(of_scenes)]
    by_subset: dict[Subset, list[int]] = {}
    for place, answer in enumerate(cell.answers):
        by_subset.setdefault(answer.applicable.subset, []).append(place)
    total = np.zeros((len(alphas), len(of_test)))
    for subset, places in by_subset.items():
        levels = _grid(subset)
        calibration_set = subset.guarantee.counted(subset.calibration_set)
        scenes = calibration_set.by_scene()
        columns = [column[name] for name in dict.fromkeys(calibration_set.scenes or ())]
        weights = np.array([float(scene.weight) for scene in scenes])
        ends = np.append(levels, np.nextafter(np.float32(subset.highest), np.inf))
        total += resampled_losses(
            np.array([_mean_at(scene, levels) for scene in scenes]),
            np.array([mean_below(cell.answers[i].losses, ends) for i in places]),
            subset.bound,
            _plain_levels(subset, alphas),
            (of_scenes[:, columns] * weights, of_test[:, places]),
        )
    with np.errstate(invalid="ignore"):  # a replicate may draw no upload of a class
        return [percentile(values) for values in total / of_test.sum(axis=1)]


def _plain_levels(subset: Subset, alphas: Sequence[float]) -> list[float]:
    """Return the levels at which the plain curve has the thresholds of a robust one.

    Replicates draw the thresholds of these levels; they vary like those of the robust curve.
    """
    if subset.guarantee.robust == 1:
        return list(alphas)
    plain = replace(subset, guarantee=subset.guarantee.model_copy(update={"robust": 1.0})).curve
    return [
        float(np.nextafter(plain.min_alpha, 0))
        if (threshold := subset.curve.threshold(alpha)) == -np.inf
        else plain.risk(float(np.nextafter(np.float32(threshold), np.float32(-np.inf))))
        for alpha in alphas
    ]


def _mean_at(scene: Scene, levels: NDArray[np.float32]) -> NDArray[np.float64]:
    losses = np.array([curve.losses(levels) for curve in scene.curves], np.float64)
    return np.average(losses, axis=0, weights=scene.weights)


def _grid(subset: Subset) -> NDArray[np.float32]:
    levels = np.unique(subset.arrays.loss_curves.levels)
    if len(levels) > _JOINT_GRID:
        levels = levels[np.linspace(0, len(levels) - 1, _JOINT_GRID).round().astype(int)]
    return levels


def _status(alpha: float, threshold: float, mean: float, promise: tuple[float, float]) -> Status:
    if threshold == -np.inf:
        return "nothing"
    if mean <= alpha:
        return "consistent"
    return "within" if promise[0] <= alpha else "broken"


def as_records(rows: Sequence[Row]) -> list[Record]:
    """Return flat records, one for each row."""
    records = []
    for row in rows:
        record: Record = {
            "upscaler": row.upscaler,
            "variant": row.variant,
            "input_class": row.input_class,
            "alpha": row.alpha,
            "status": row.status,
            "warned": row.warned,
            "promise_low": row.promise and row.promise[0],
            "promise_high": row.promise and row.promise[1],
        }
        for name, interval in row.quantities.items():
            for end, value in zip(("", "_low", "_high", "_images"), interval, strict=True):
                record[f"{name}{end}"] = value
        records.append(record)
    return records
