"""A finished calibration's report to its admin: thresholds, checks, backtest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from trustscale_server.calibration.guarantee import Threshold, threshold_json
from trustscale_server.calibration.pairs import duplicates
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal import StepCurve
from trustscale_server.conformal.curve import BacktestRow, Pairs, backtest
from trustscale_server.errors import BadRequest
from trustscale_server.images.description import class_in_words

COMMON_ALPHAS: Final = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.1, 0.15)


class Item(BaseModel):
    """A pair that was left out, or a file that belongs to none, and why."""

    name: str
    reason: str


class ThresholdRow(BaseModel):
    """t_α at one α, and the mean share of the pairs' pixels below it."""

    alpha: float
    threshold: Threshold
    trusted_fraction: float


class Group(BaseModel):
    """A group of images with its own curve."""

    group: str
    n: int = Field(description="The number of scenes.")
    pairs: int
    min_alpha: float


class CalibratedClass(BaseModel):
    """A class of uploads with its own curve."""

    name: str
    title: str
    n: int = Field(description="The number of scenes.")
    min_alpha: float


class DominantPair(BaseModel):
    """The worst pair of a scene that has a large share of all losses."""

    name: str
    scene: str | None
    loss: float
    share: float


class Checks(BaseModel):
    """Whether the assumptions look sound, at the default α."""

    n: int = Field(description="The number of scenes.")
    pairs: int
    minimal_n: int
    alpha: float
    duplicates: list[Item]
    sizes: list[str]
    dominant_pairs: list[DominantPair]


class Backtest(BaseModel):
    """Realised risk and trusted area over random halvings of the pairs, and checks."""

    splits: int
    rows: list[BacktestRow]
    checks: Checks


def thresholds(calibration: Calibration) -> list[ThresholdRow]:
    """t_α and the mean trusted area of the pairs at common α and the default one, in order."""
    rows = []
    for alpha in sorted({*COMMON_ALPHAS, calibration.manifest.default_alpha}):
        threshold = calibration.curve.threshold(alpha)
        area = calibration.report.mean_trusted_fraction(threshold)
        as_json = threshold_json(threshold)
        rows.append(ThresholdRow(alpha=alpha, threshold=as_json, trusted_fraction=area))
    return rows


def backtest_of(calibration: Calibration, splits: int) -> Backtest:
    """Return what to expect of it: a backtest over random halvings, and checks.

    Raises:
        BadRequest: fewer than two scenes.
    """
    if calibration.n < 2:
        raise BadRequest("A backtest needs at least two pairs of different scenes.")
    rows = backtest(
        Pairs(
            [calibration.spots_of(place) for place in range(calibration.pairs)],
            calibration.scenes,
            calibration.weights,
            calibration.sigma_quantiles,
            calibration.losses,
        ),
        calibration.error_bound,
        COMMON_ALPHAS,
        splits=splits,
        curve_of=calibration.guarantee.curve,
    )
    return Backtest(splits=splits, rows=rows, checks=checks(calibration))


def groups_of(calibration: Calibration) -> list[Group]:
    """List the groups of a calibration with n and the smallest α."""
    groups = {name: calibration.partitions.of_group(name) for name in calibration.partitions.groups}
    return [
        Group(group=name, n=group.n, pairs=group.pairs, min_alpha=group.min_alpha)
        for name, group in groups.items()
    ]


@lru_cache(maxsize=16)
def tables(calibration: Calibration) -> Mapping[str, list[ThresholdRow]]:
    """Return `thresholds` by class for α that are chosen after looking, if they can be."""
    if calibration.guarantee.kind not in {"expectation", "post_hoc"}:
        return {}
    partitions = calibration.partitions.under("post_hoc").partitions
    return {name: thresholds(partitions.of_class(name)) for name in calibration.partitions.classes}


def classes_of(calibration: Calibration) -> list[CalibratedClass]:
    """Return the classes of inputs."""
    classes = {
        name: calibration.partitions.of_class(name) for name in calibration.partitions.classes
    }
    return [
        CalibratedClass(
            name=name, title=class_in_words(name), n=of_class.n, min_alpha=of_class.min_alpha
        )
        for name, of_class in classes.items()
    ]


def checks(calibration: Calibration) -> Checks:
    """Look for repeated images, other image sizes and dominant scenes."""
    alpha = calibration.manifest.default_alpha
    threshold = calibration.curve.threshold(alpha)
    losses = calibration.losses(threshold)
    # A scene counts with the mean of its pairs, and is named by the worst of them.
    scenes = [
        (float(losses[places].mean()), max(places, key=losses.__getitem__))
        for places in calibration.members
    ]
    total = sum(loss for loss, _ in scenes) or 1.0
    dominant = sorted(scenes, key=lambda scene: -scene[0])[:5]
    infos = calibration.manifest.pairs
    return Checks(
        n=calibration.n,
        pairs=calibration.pairs,
        minimal_n=calibration.minimal_n(alpha),
        alpha=alpha,
        duplicates=[
            Item.model_validate(item)
            for item in duplicates({info.source: info.y_sha256 for info in infos}.items())
        ],
        sizes=sorted({f"{info.width}x{info.height}" for info in infos})[:20],
        dominant_pairs=[
            DominantPair(
                name=infos[worst].name,
                scene=infos[worst].scene,
                loss=float(losses[worst]),
                share=loss / total,
            )
            for loss, worst in dominant
        ],
    )


def coarser(curve: StepCurve, most: int) -> tuple[list[float], list[float]]:
    """Return thresholds and risks of a curve in at most so many steps; no risk is lowered."""
    edges = np.linspace(0, len(curve.risks), min(most, len(curve.risks)) + 1).astype(int)
    return curve.thresholds[edges[:-1]].tolist(), curve.risks[edges[1:] - 1].tolist()


def leaked(calibration: Calibration, n_leaked: int) -> float:
    """Return the bound at the default α if `n_leaked` scenes trained the model.

    All that leaked may be in one class, so it is the weakest bound of all classes.

    Raises:
        BadRequest: n_leaked is not between 0 and n, or no bound is known for the guarantee.
    """
    if n_leaked > calibration.n:
        raise BadRequest(f"n_leaked must be between 0 and n = {calibration.n}, got {n_leaked}.")
    bounds = []
    classes = [
        calibration.partitions.of_class(name) for name in calibration.partitions.classes or [None]
    ]
    for n in {part_of_class.n for part_of_class in classes}:
        bound = calibration.guarantee.leakage_bound(
            calibration.manifest.default_alpha, n, min(n_leaked, n), calibration.error_bound
        )
        if bound is None:
            raise BadRequest(
                "No bound under leakage is known for this guarantee; leave the images out instead."
            )
        bounds.append(bound)
    return max(bounds)
