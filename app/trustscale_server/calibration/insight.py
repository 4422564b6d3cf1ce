"""What a finished calibration trusts: thresholds by α, of all its pairs, its groups and classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, Field

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import Threshold, threshold_json
from trustscale_server.calibration.subset import Subset
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.platform.errors import BadRequest

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


def thresholds(subset: Subset) -> list[ThresholdRow]:
    """t_α and the mean trusted area of the pairs at common α and the default one, in order."""
    rows = []
    for alpha in sorted({*COMMON_ALPHAS, subset.manifest.default_alpha}):
        threshold = subset.curve.threshold(alpha)
        rows.append(
            ThresholdRow(
                alpha=alpha,
                threshold=threshold_json(threshold),
                trusted_fraction=subset.mean_trusted_fraction(threshold),
            )
        )
    return rows


def groups_of(calibration: Calibration) -> list[Group]:
    """List the groups of a calibration with n and the smallest α."""
    groups = {name: calibration.subset(name) for name in calibration.groups}
    return [
        Group(group=name, n=group.n, pairs=group.pairs, min_alpha=group.min_alpha)
        for name, group in groups.items()
    ]


@lru_cache(maxsize=16)
def thresholds_by_class(calibration: Calibration) -> Mapping[str, list[ThresholdRow]]:
    """Return `thresholds` of each class if α may be chosen after looking; nothing if it may not.

    Every page asks, and the curves of all classes take long, so answers are kept.
    """
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
