"""A finished calibration's report to its admin: thresholds, checks, backtest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.duplicates import duplicates
from trustscale_server.calibration.guarantees import Threshold, threshold_json
from trustscale_server.calibration.subset import Subset
from trustscale_server.calibration.ways import CalibratedWay, calibrated_ways
from trustscale_server.conformal import StepCurve
from trustscale_server.conformal.backtest import BacktestRow, Pairs, backtest
from trustscale_server.images.kinds import class_in_words
from trustscale_server.platform.abandoned import check_wanted
from trustscale_server.platform.errors import BadRequest

MAX_SPLITS: Final = 200
"""Of a backtest: the 5 % and 95 % quantiles of more would hardly differ."""

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
    ways: list[CalibratedWay] = Field(
        description="What inputs of each way of making them lose, the worst first; none if X came "
        "with Y."
    )


class Backtest(BaseModel):
    """Realised risk and trusted area over random halvings of the pairs, and checks."""

    splits: int
    rows: list[BacktestRow]
    checks: Checks


def thresholds(subset: Subset) -> list[ThresholdRow]:
    """t_α and the mean trusted area of the pairs at common α and the default one, in order."""
    rows = []
    for alpha in sorted({*COMMON_ALPHAS, subset.manifest.default_alpha}):
        threshold = subset.curve.threshold(alpha)
        area = subset.mean_trusted_fraction(threshold)
        as_json = threshold_json(threshold)
        rows.append(ThresholdRow(alpha=alpha, threshold=as_json, trusted_fraction=area))
    return rows


def backtest_of(subset: Subset, splits: int) -> Backtest:
    """Return what to expect of it: a backtest over random halvings, and checks.

    Raises:
        BadRequest: fewer than two scenes.
        NoLongerWaiting: the caller has left (`platform/abandoned.py`).
    """
    if subset.n < 2:
        raise BadRequest("A backtest needs at least two pairs of different scenes.")
    rows = backtest(
        Pairs(
            [subset.spots_of(place) for place in range(subset.pairs)],
            subset.scenes,
            subset.weights,
            subset.sigma_quantiles,
            subset.losses,
        ),
        subset.error_bound,
        COMMON_ALPHAS,
        splits=splits,
        curve_of=subset.guarantee.curve,
        before_split=check_wanted,
    )
    return Backtest(splits=splits, rows=rows, checks=checks(subset))


def groups_of(calibration: Calibration) -> list[Group]:
    """List the groups of a calibration with n and the smallest α."""
    groups = {name: calibration.subset(name) for name in calibration.groups}
    return [
        Group(group=name, n=group.n, pairs=group.pairs, min_alpha=group.min_alpha)
        for name, group in groups.items()
    ]


@lru_cache(maxsize=16)
def tables(calibration: Calibration) -> Mapping[str, list[ThresholdRow]]:
    """Return `thresholds` by class for α that are chosen after looking, if they can be."""
    if calibration.guarantee.kind not in {"expectation", "post_hoc"}:
        return {}
    everything = calibration.subset(kind="post_hoc")
    return {name: thresholds(everything.of_class(name)) for name in everything.classes}


def classes_of(subset: Subset) -> list[CalibratedClass]:
    """Return the classes of inputs."""
    classes = {name: subset.of_class(name) for name in subset.classes}
    return [
        CalibratedClass(
            name=name, title=class_in_words(name), n=of_class.n, min_alpha=of_class.min_alpha
        )
        for name, of_class in classes.items()
    ]


def checks(subset: Subset) -> Checks:
    """Look for repeated images, other image sizes and dominant scenes."""
    alpha = subset.manifest.default_alpha
    threshold = subset.curve.threshold(alpha)
    losses = subset.losses(threshold)
    # A scene counts with the mean of its pairs, and is named by the worst of them.
    scenes = [
        (float(losses[places].mean()), max(places, key=losses.__getitem__))
        for places in subset.members
    ]
    total = sum(loss for loss, _ in scenes) or 1.0
    dominant = sorted(scenes, key=lambda scene: -scene[0])[:5]
    infos = subset.infos
    return Checks(
        n=subset.n,
        pairs=subset.pairs,
        minimal_n=subset.minimal_n(alpha),
        alpha=alpha,
        duplicates=[
            Item.model_validate(item)
            for item in duplicates({info.upload: info.y_sha256 for info in infos}.items())
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
        ways=calibrated_ways(subset),
    )


def coarser(curve: StepCurve, most: int) -> tuple[list[float], list[float]]:
    """Return thresholds and risks of a curve in at most so many steps; no risk is lowered."""
    edges = np.linspace(0, len(curve.risks), min(most, len(curve.risks)) + 1).astype(int)
    return curve.thresholds[edges[:-1]].tolist(), curve.risks[edges[1:] - 1].tolist()


def leaked(subset: Subset, n_leaked: int) -> float:
    """Return the bound at the default α if `n_leaked` scenes trained the model.

    All that leaked may be in one class, so it is the weakest bound of all classes.

    Raises:
        BadRequest: n_leaked is not between 0 and n, or no bound is known for the guarantee.
    """
    if n_leaked > subset.n:
        raise BadRequest(f"n_leaked must be between 0 and n = {subset.n}, got {n_leaked}.")
    bounds = []
    classes = [subset.of_class(name) for name in subset.classes or [None]]
    for n in {of_class.n for of_class in classes}:
        bound = subset.guarantee.leakage_bound(
            subset.manifest.default_alpha, n, min(n_leaked, n), subset.error_bound
        )
        if bound is None:
            raise BadRequest(
                "No bound under leakage is known for this guarantee; leave the images out instead."
            )
        bounds.append(bound)
    return max(bounds)
