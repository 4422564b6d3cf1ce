"""Whether a calibration looks sound: what random halves of it keep, and its pairs one by one."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field

from trustscale_server.calibration.duplicates import duplicates
from trustscale_server.calibration.insight import COMMON_ALPHAS, Item
from trustscale_server.calibration.subset import Subset
from trustscale_server.calibration.ways import CalibratedWay, calibrated_ways
from trustscale_server.conformal.backtest import BacktestRow, Pairs, backtest
from trustscale_server.platform.abandoned import check_wanted

_SPLITS: Final = 25
"""Random halvings; with 2,000 pairs they take some five seconds."""


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


class Report(BaseModel):
    """What random halves of the pairs keep, and checks; no rows of a single scene."""

    splits: int = Field(_SPLITS, description="How often the pairs were halved at random.")
    rows: list[BacktestRow]
    checks: Checks


def report_of(subset: Subset) -> Report:
    """Return what to expect of it: a backtest over random halvings, and checks.

    Raises:
        NoLongerWaiting: the caller has left (`platform/abandoned.py`).
    """
    return Report(rows=_backtest(subset) if subset.n > 1 else [], checks=checks(subset))


def _backtest(subset: Subset) -> list[BacktestRow]:
    return backtest(
        Pairs(
            [subset.arrays.spots_of(place) for place in range(subset.pairs)],
            subset.scenes,
            subset.weights,
            subset.arrays.sigma_quantiles,
            subset.losses,
        ),
        subset.error_bound,
        COMMON_ALPHAS,
        splits=_SPLITS,
        curve_of=subset.guarantee.curve,
        before_split=check_wanted,
    )


def checks(subset: Subset) -> Checks:
    """Look for repeated images, other image sizes and dominant scenes."""
    alpha = subset.manifest.default_alpha
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
        dominant_pairs=_dominant_pairs(subset),
        ways=calibrated_ways(subset),
    )


def _dominant_pairs(subset: Subset) -> list[DominantPair]:
    """The five scenes that lose most; a scene loses the mean of its pairs, the worst names it."""
    losses = subset.losses(subset.curve.threshold(subset.manifest.default_alpha))
    scenes = [
        (float(losses[places].mean()), max(places, key=losses.__getitem__))
        for places in subset.members
    ]
    total = sum(loss for loss, _ in scenes) or 1.0
    return [
        DominantPair(
            name=subset.infos[worst].name,
            scene=subset.infos[worst].scene,
            loss=float(losses[worst]),
            share=loss / total,
        )
        for loss, worst in sorted(scenes, key=lambda scene: -scene[0])[:5]
    ]
