"""Scenes: what counts once, what each of its spots counts, and sums of their losses.

**Spots.** What loses is a window of the output, the *spot* (`spots`), and L is the largest error
in its trusted part. A picture has many of them; the promise is about a random one.

**Scenes.** The spots of one picture, crops of one photograph, frames of one camera run or slices
of one patient are alike, and not exchangeable with those of a new one. So a *scene* loses the mean
over its n_i spots, L̄_i(t) = (1/n_i) Σ_j L_ij(t), and n counts scenes. The number of spots must
belong to the draw of the scene. By default every loss curve is a scene.

**Weights.** A curve for one class of uploads is about a picture of a random scene, *given that it
is of the class*. Its spots have weights w_ij > 0 with W_i = Σ_j w_ij ≤ 1: the share of the scene
that is of the class, in units of the largest share. L̄_i is Σ_j w_ij L_ij / W_i, and n becomes
ΣW_i in what follows; without weights w_ij = 1/n_i, W_i = 1 and ΣW_i = n.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.conformal.loss_curve import LossCurve, LossCurves, last_of_level

# Losses are summed as integers in units of 2^-40, rounded up: exactly, in any order of the images.
UNITS_OF_LOSS = 1 << 40


class Loss(NamedTuple):
    """A loss or a sum of losses, a step function: `totals[k]` · 2^-40 from `levels[k]` on."""

    levels: NDArray[np.float32]  # strictly increasing
    totals: NDArray[np.int64]  # strictly increasing, above 0


def places_of(scenes: Iterable[Hashable]) -> list[list[int]]:
    """Return the places of each scene's images; scenes by their first occurrence."""
    places: dict[Hashable, list[int]] = {}
    for place, scene in enumerate(scenes):
        places.setdefault(scene, []).append(place)
    return list(places.values())


class Scene(NamedTuple):
    """The loss curves of one scene; curve j has the weight `counts[j] / whole`."""

    curves: Sequence[LossCurve]
    counts: Sequence[int]
    whole: int

    @property
    def weight(self) -> Fraction:
        """The weight W of the scene, in (0, 1]."""
        return Fraction(sum(self.counts), self.whole)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weight w of each loss curve."""
        return np.array(self.counts, np.float64) / self.whole

    def loss(self) -> Loss:
        """W L̄, rounded up to whole units, in any order of the curves."""
        curves = LossCurves.from_curves(self.curves)
        units = np.ceil(curves.errors.astype(np.float64) * UNITS_OF_LOSS).astype(np.int64)
        units *= np.repeat(self.counts, curves.lengths)
        total = summed(curves.levels, units, curves.lengths)
        return Loss(total.levels, -(-total.totals // self.whole))


def keep_by_weight(weights: ArrayLike) -> NDArray[np.bool_]:
    """Keep each scene with the probability of its weight, by random numbers fixed beforehand.

    weights: W of the scenes, in an order that is independent of their losses.
    """
    shares = np.asarray(weights, np.float64)
    drawn = np.random.Generator(np.random.PCG64(0)).random(len(shares))
    return np.asarray(drawn < shares)


def total_weight(scenes: Iterable[Scene]) -> float:
    """Sum the weights of scenes, ΣW."""
    return float(sum((scene.weight for scene in scenes), Fraction()))


def summed(
    levels: NDArray[np.float32], totals: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Loss:
    """Return the sum, in any order, of losses, each of as many steps as `lengths` says."""
    rises = _rises(totals)
    firsts = (np.cumsum(lengths) - lengths)[lengths > 0]
    rises[firsts] = totals[firsts]
    levels = levels + np.float32(0)  # −0 and 0 are one level
    order = np.argsort(levels)  # not stable: of equal levels only the sum is kept
    levels = levels[order]
    total = np.cumsum(rises[order])
    last = last_of_level(levels)
    levels, total = levels[last], total[last]
    rises_there = _rises(total) > 0  # errors below one unit may not rise
    return Loss(levels[rises_there], total[rises_there])


def _rises(totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """By how much each exceeds the one before; quicker than `np.diff`."""
    rises = totals.copy()
    rises[1:] -= totals[:-1]
    return rises
