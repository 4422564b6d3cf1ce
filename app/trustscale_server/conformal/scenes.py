"""Scenes: what counts once, what each of its spots counts, and sums of their losses.

**Spots.** What loses is a window of the output, the *spot* (`spots`), and L is the largest error
in its trusted part. A picture has many of them; the promise is about a random one.

**Scenes.** The spots of one picture, crops of one photograph, frames of one camera run or slices
of one patient are alike, and not exchangeable with those of a new one. So a *scene* loses the mean
over its n_i spots, L̄_i(t) = (1/n_i) Σ_j L_ij(t), and n counts scenes. The number of spots must
belong to the draw of the scene. By default every loss curve is a scene.

**Weights.** A curve for one class of uploads is about a picture of a random scene, *given that it
is of the class*. Its spots have weights w_ij ≥ 0 with W_i = Σ_j w_ij ≤ 1: the share of the scene
that is of the class, in units of the largest share. L̄_i is Σ_j w_ij L_ij / W_i, and n becomes
ΣW_i in what follows; without weights w_ij = 1/n_i, W_i = 1 and ΣW_i = n.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.conformal.loss_curve import LossCurve, LossCurves, last_of_level
from trustscale_server.pixels.filters import largest_float32

# Losses are summed as integers in units of 2^-40, rounded up: exactly, in any order of the images.
UNITS_OF_LOSS = 1 << 40

_MAX_SUMMED = 1 << 22  # B times the counts of a scene: sums stay within 63 bits


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


def by_scene(
    loss_curves: Iterable[LossCurve],
    bound: float,
    scenes: Iterable[Hashable] | None = None,
    weights: Iterable[Fraction] | None = None,
) -> list[Scene]:
    """Return the scenes, in the order in which they first occur.

    Without names every loss curve is a scene; without weights all of a scene's count alike, 1
    together.

    Raises:
        ValueError: the bound is not positive, an error exceeds it, not as many names or weights as
            curves, a weight that is not positive, or weights of a scene above 1.
    """
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError("the bound must be a positive number")
    curves, limit = list(loss_curves), largest_float32(bound)
    for count, curve in enumerate(curves, start=1):
        if len(curve) and curve.errors[-1] > limit:
            raise ValueError(
                f"image {count}: the error {curve.errors[-1]} exceeds the bound {bound}"
            )
    names = range(len(curves)) if scenes is None else list(scenes)
    shares = None if weights is None else list(weights)
    if len(names) != len(curves) or (shares is not None and len(shares) != len(curves)):
        raise ValueError(f"{len(names)} scenes of {len(curves)} images")
    return [
        _scene(
            [curves[place] for place in places],
            None if shares is None else [shares[place] for place in places],
            bound,
        )
        for places in places_of(names)
    ]


def _scene(curves: Sequence[LossCurve], weights: Sequence[Fraction] | None, bound: float) -> Scene:
    if weights is None:
        return Scene(curves, [1] * len(curves), len(curves))
    # Most are the same object, and to compare fractions is slow.
    known, times = {id(weight): weight for weight in weights}, Counter(map(id, weights))
    if min(known.values()) <= 0 or sum(known[key] * times[key] for key in times) > 1:
        raise ValueError("the weights of a scene must be above 0, and at most 1 together")
    denominators = (weight.denominator for weight in known.values())
    whole = min(math.lcm(*denominators), int(_MAX_SUMMED / bound))
    count_of = {key: max(1, int(weight * whole)) for key, weight in known.items()}
    counts = [count_of[id(weight)] for weight in weights]
    return Scene(curves, counts, max(whole, sum(counts)))  # tiny ones were rounded up


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
