"""What was measured of the pairs of a calibration, in arrays with a row for each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal import LossCurve
from trustscale_server.conformal.loss_curve import LossCurves

SIGMA_QUANTILES: Final = np.linspace(0, 1, 101)
"""Levels of the per-image quantiles of σ that are kept: the mask size as a function of t."""


@dataclass(frozen=True, eq=False)
class PairArrays:
    """The arrays of some pairs.

    loss_curves: of the spots of all pairs, one after the other. spots: how many each pair has.
    sigma_quantiles: of σ of each pair, at `SIGMA_QUANTILES`.
    marked: what was added to each pair and what of it is invented (`conformal/added.py`); None:
    that was not looked at.
    described: the numbers that describe each X (`kinds/statistics.py`); None: not kept.
    """

    loss_curves: LossCurves
    spots: NDArray[np.int64]  # [n]
    sigma_quantiles: NDArray[np.float32]  # [n, 101]
    marked: NDArray[np.uint16] | None = None  # [n, 2, 65]
    described: NDArray[np.float32] | None = None  # [n, d]

    @classmethod
    def from_pairs(cls, pairs: Sequence[MeasuredPair]) -> PairArrays:
        """Join what was measured of these pairs, in their order."""
        return cls(
            LossCurves.from_curves(curve for pair in pairs for curve in pair.loss_curves),
            np.array([len(pair.loss_curves) for pair in pairs], np.int64),
            np.array([pair.sigma_quantiles for pair in pairs], np.float32).reshape(
                len(pairs), len(SIGMA_QUANTILES)
            ),
            _marked([pair.marked for pair in pairs]),
            _described([pair.described for pair in pairs]),
        )

    def pair(self, place: int, info: PairInfo) -> MeasuredPair:
        """Return one of the pairs again."""
        return MeasuredPair(
            info,
            tuple(self.spots_of(place)),
            self.sigma_quantiles[place],
            None if self.marked is None else self.marked[place],
            np.empty(0, np.float32) if self.described is None else self.described[place],
        )

    def take(self, places: Sequence[int]) -> PairArrays:
        """Return the arrays of the pairs at these places, in this order."""
        spots = [np.arange(self._ends[i] - self.spots[i], self._ends[i]) for i in places]
        rows = np.array(places, np.int64)
        return PairArrays(
            self.loss_curves.take(np.concatenate([*spots, np.empty(0, np.int64)])),
            self.spots[rows],
            self.sigma_quantiles[rows],
            None if self.marked is None else self.marked[rows],
            None if self.described is None else self.described[rows],
        )

    def spots_of(self, place: int) -> list[LossCurve]:
        """Return the loss curves of the spots of one pair."""
        end = int(self._ends[place])
        return [self.loss_curves[k] for k in range(end - int(self.spots[place]), end)]

    def losses(self, threshold: float, loss_of: Callable[[float], float]) -> NDArray[np.float64]:
        """Return the mean loss of each pair's spots inside {σ < t}, float64 [n].

        loss_of: gives the loss of a spot from its largest error.
        """
        errors = self.loss_curves.losses_below(threshold).tolist()
        counted = np.array([loss_of(error) for error in errors])
        return np.asarray(np.add.reduceat(counted, self._ends - self.spots) / self.spots)

    def stored(self) -> Iterator[bytes]:
        """Give all numbers as bytes that are the same on every machine."""
        for numbers in (self.spots, self.loss_curves.lengths):
            yield numbers.astype("<i8").tobytes()
        for values in (self.loss_curves.levels, self.loss_curves.errors, self.sigma_quantiles):
            yield values.astype("<f4").tobytes()
        if self.marked is not None:
            yield self.marked.astype("<u2").tobytes()
        if self.described is not None:
            yield self.described.astype("<f4").tobytes()

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Behind the last spot of each pair."""
        return np.cumsum(self.spots)


def _marked(marked: Sequence[NDArray[np.uint16] | None]) -> NDArray[np.uint16] | None:
    """What was added to all pairs, uint16 [n, 2, 65]; None if that is unknown of one."""
    known = [of_pair for of_pair in marked if of_pair is not None]
    return np.stack(known) if known and len(known) == len(marked) else None


def _described(described: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """The numbers of all pairs, [n, d], with 8 significant bits; None if one has none."""
    if not described or len({len(numbers) for numbers in described}) > 1 or not len(described[0]):
        return None
    bits = np.ascontiguousarray(described, np.float32).view(np.uint32)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)
