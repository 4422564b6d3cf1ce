"""Whether a calibration keeps its promise in each way in which its own inputs were made.

A class of uploads is one curve for all inputs that are read as of it, however they were made. The
promise is about their mixture, so a rare way that is harder than the others can lose more than α,
and nothing in an upload says so. The calibration knows: each of its pairs has a way.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from trustscale_server.calibration.subset import Subset

MIN_WAY_SCENES = 8
"""Below these a standard error says little."""


class CalibratedWay(BaseModel):
    """What inputs of one way lose, each in the mask of the class that it is read as."""

    name: str
    n: int = Field(description="The number of scenes.")
    loss: float = Field(description="The mean loss at the default α.")
    error: float = Field(description="Its standard error.")
    is_above: bool = Field(
        description="Whether it is above α by more than two standard errors: the promise is about "
        "all ways of a class together, and does not hold for uploads of this kind alone."
    )


def calibrated_ways(subset: Subset) -> list[CalibratedWay]:
    """Return the ways in which X was made, with at least `MIN_WAY_SCENES` scenes, the worst first.

    A scene counts with the mean of its pairs.
    """
    alpha = subset.manifest.default_alpha
    losses: dict[str, dict[object, list[float]]] = defaultdict(lambda: defaultdict(list))
    for place, lost in enumerate(losses_by_class(subset)):
        way = subset.infos[place].variant
        if way is not None and not math.isnan(lost):
            losses[way][subset.scenes[place]].append(float(lost))
    calibrated = []
    for way, of_scenes in losses.items():
        means = np.array([np.mean(of_scene) for of_scene in of_scenes.values()])
        if len(means) < MIN_WAY_SCENES:
            continue
        loss, error = float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))
        is_above = loss - 2 * error > alpha  # by twice the error it may be above α by chance
        calibrated.append(
            CalibratedWay(name=way, n=len(means), loss=loss, error=error, is_above=is_above)
        )
    return sorted(calibrated, key=lambda way: -way.loss)


def losses_by_class(subset: Subset) -> NDArray[np.float64]:
    """Return what each pair loses at the default α in the mask of the class that it is read as.

    float64 [pairs]; NaN where nothing is promised of its class.
    """
    losses = np.full(subset.pairs, np.nan)
    by_class: dict[str | None, list[int]] = defaultdict(list)
    for place, pair in enumerate(subset.infos):
        by_class[pair.input_class].append(place)
    for name, places in by_class.items():
        if name is None or name in subset.classes:
            threshold = subset.of_class(name).curve.threshold(subset.manifest.default_alpha)
            losses[places] = subset.losses(threshold)[places]
    return losses
