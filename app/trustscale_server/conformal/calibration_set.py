"""What a threshold is computed from: the losses of spots, each of a picture of a scene."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from trustscale_server.conformal.loss_curve import LossCurve
from trustscale_server.conformal.scenes import Scene, places_of
from trustscale_server.conformal.step_curve import LARGEST
from trustscale_server.pixels.filters import largest_float32

_MAX_SUMMED: Final = 1 << 22  # B times the counts of a scene: sums stay within 63 bits


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """The loss curves of spots, or of whole images, and what they have in common.

    loss_curves: in any order, except where a guarantee needs one that is independent of them.
    bound: B, which no error exceeds.
    scenes: the scene of each curve, by any name; None: every curve is a scene of its own.
    pictures: the picture of each curve, by any name; None: its scene.
    weights: w of each curve (`scenes.py`); None: all of a scene count alike, 1 together.
    highest: a σ beyond which nothing is trusted.
    """

    loss_curves: Sequence[LossCurve]
    bound: float
    scenes: Sequence[Hashable] | None = None
    pictures: Sequence[Hashable] | None = None
    weights: Sequence[Fraction] | None = None
    highest: float = LARGEST

    @classmethod
    def from_pictures(
        cls,
        spots: Sequence[Sequence[LossCurve]],
        bound: float,
        *,
        scenes: Sequence[Hashable],
        weights: Sequence[Fraction],
        highest: float,
    ) -> CalibrationSet:
        """Return the set of pictures, of which spots, scenes and weights are given.

        The spots of a picture share its weight.
        """
        of_spots = [place for place, own in enumerate(spots) for _ in own]
        shares = [weight / len(own) for weight, own in zip(weights, spots, strict=True)]
        return cls(
            [curve for own in spots for curve in own],
            bound,
            [scenes[place] for place in of_spots],
            of_spots,
            [shares[place] for place in of_spots],
            highest,
        )

    def by_scene(self) -> list[Scene]:
        """Return the scenes, in the order in which they first occur.

        Raises:
            ValueError: the bound is not positive, an error exceeds it, not as many names or
                weights as curves, a weight that is not positive, or weights of a scene above 1.
        """
        return self._grouped(self.scenes)

    def by_picture(self) -> list[Scene]:
        """Return the pictures as if each were a scene, in the order in which they first occur.

        Raises:
            ValueError: as `by_scene`.
        """
        return self._grouped(self.scenes if self.pictures is None else self.pictures)

    def _grouped(self, names: Sequence[Hashable] | None) -> list[Scene]:
        curves, weights = self.loss_curves, self.weights
        if not (self.bound > 0 and math.isfinite(self.bound)):
            raise ValueError("the bound must be a positive number")
        limit = largest_float32(self.bound)
        for count, curve in enumerate(curves, start=1):
            if len(curve) and curve.errors[-1] > limit:
                raise ValueError(
                    f"image {count}: the error {curve.errors[-1]} exceeds the bound {self.bound}"
                )
        names = range(len(curves)) if names is None else names
        if len(names) != len(curves) or (weights is not None and len(weights) != len(curves)):
            raise ValueError(f"{len(names)} scenes of {len(curves)} images")
        return [
            _scene(
                [curves[place] for place in places],
                None if weights is None else [weights[place] for place in places],
                self.bound,
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
    # Weights that need a larger denominator are rounded: the curve is that of the rounded ones.
    whole = min(math.lcm(*denominators), int(_MAX_SUMMED / bound))
    count_of = {key: max(1, int(weight * whole)) for key, weight in known.items()}
    counts = [count_of[id(weight)] for weight in weights]
    return Scene(curves, counts, max(whole, sum(counts)))  # tiny ones were rounded up
