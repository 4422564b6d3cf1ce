"""Table 1 of the paper, for every upscaler, variant and rule, with intervals and a judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.conformal.curve import places_of
from app.evaluation.bootstrap import (
    REPLICATES,
    Interval,
    joint_intervals,
    mean_intervals,
    weights,
)
from app.evaluation.plan import Plan
from app.evaluation.plots import Record
from app.evaluation.reduce import Cell

Status = Literal["kept", "within", "broken", "nothing"]
"""kept: the mean is at most α. within: above α, but the interval reaches down to it. broken: the
whole interval lies above α. nothing: too few images for this α, so that nothing is trusted."""

JOINT_GRID = 512
JOINT_REPLICATES = 1000
QUANTITIES = ("error", "semantic", "area", "psnr", "psnr_lab")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `alpha` None is the whole image, without the method.

    quantities: an interval over the test images for each of `QUANTITIES`.
    promise: the interval by which `status` is judged: over calibration and test images for a
        promise in expectation, over test images for one with high probability.
    """

    upscaler: str
    variant: str
    rule: str
    alpha: float | None
    threshold: float
    quantities: Mapping[str, Interval]
    controlled: str
    promise: tuple[float, float] | None
    status: Status | None

    @property
    def realised(self) -> Interval:
        """The quantity that the rule keeps below α."""
        return self.quantities[self.controlled]


@dataclass(frozen=True, slots=True)
class Resamples:
    """The bootstrap draws of an evaluation, made once and used for every number."""

    test: NDArray[np.float64]
    joint: tuple[NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def of(cls, plan: Plan, seed: int) -> Resamples:
        """Draws that respect the groups of both sides: of test images and calibration scenes."""
        test = weights(plan.test_groups, REPLICATES, seed)
        again = weights(list(dict.fromkeys(plan.scenes)), JOINT_REPLICATES, seed + 1)
        return cls(test, (again, test[:JOINT_REPLICATES]))


def cell_rows(upscaler: str, cell: Cell, draws: Resamples, alphas: Sequence[float]) -> list[Row]:
    """One row per α and one for the whole image."""
    columns = [*map(cell.place, alphas), len(cell.alphas)]
    intervals = {
        name: mean_intervals(cell.quantities[name][:, columns], draws.test) for name in QUANTITIES
    }
    promises = (
        [(item.low, item.high) for item in intervals[cell.controlled][:-1]]
        if cell.rule.kind == "high_probability"
        else joint(cell, draws, alphas)
    )
    rows = []
    for number, (column, alpha, promise) in enumerate(
        zip(columns, [*alphas, None], [*promises, None], strict=True)
    ):
        threshold = float(cell.thresholds[column])
        quantities = {name: intervals[name][number] for name in QUANTITIES}
        realised = quantities[cell.controlled].mean
        rows.append(
            Row(
                upscaler,
                str(cell.variant),
                cell.rule.name,
                alpha,
                threshold,
                quantities,
                cell.controlled,
                promise,
                _status(alpha, threshold, realised, promise) if alpha and promise else None,
            )
        )
    return rows


def joint(cell: Cell, draws: Resamples, alphas: Sequence[float]) -> list[tuple[float, float]]:
    """Intervals of the realised loss over the draw of calibration and test images."""
    end = np.nextafter(np.float32(cell.highest), np.inf)
    levels = np.unique(
        np.concatenate([np.empty(0, np.float32), *(stairs.levels for stairs in cell.calibration)])
    )
    if len(levels) > JOINT_GRID:
        levels = levels[np.linspace(0, len(levels) - 1, JOINT_GRID).round().astype(int)]
    ends = np.append(levels, end)
    losses = np.array([one.losses(levels, "right") for one in cell.calibration], np.float64)
    return joint_intervals(
        np.array([losses[places].mean(axis=0) for places in places_of(cell.scenes)]),
        np.array([one.losses(ends, "left") for one in cell.test], np.float64),
        cell.bound,
        alphas,
        draws.joint,
    )


def _status(alpha: float, threshold: float, mean: float, promise: tuple[float, float]) -> Status:
    if threshold == -np.inf:
        return "nothing"
    if mean <= alpha:
        return "kept"
    return "within" if promise[0] <= alpha else "broken"


def as_records(rows: Sequence[Row]) -> list[Record]:
    """Flat records, one for each row."""
    records = []
    for row in rows:
        record: Record = {
            "upscaler": row.upscaler,
            "variant": row.variant,
            "rule": row.rule,
            "alpha": row.alpha,
            "threshold": row.threshold,
            "status": row.status,
            "controlled": row.controlled,
            "promise_low": row.promise and row.promise[0],
            "promise_high": row.promise and row.promise[1],
        }
        for name, interval in row.quantities.items():
            for end, value in zip(("", "_low", "_high", "_images"), interval, strict=True):
                record[f"{name}{end}"] = value
        records.append(record)
    return records
