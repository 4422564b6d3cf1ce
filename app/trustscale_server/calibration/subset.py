"""The pairs of a calibration for one group and class of uploads, under one guarantee."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import chain
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibration import by_content
from trustscale_server.calibration.guarantees import ErrorQuantile, GuaranteeSettings
from trustscale_server.calibration.manifest import Manifest, PairInfo, scene_of
from trustscale_server.calibration.pair_arrays import PairArrays
from trustscale_server.conformal import CalibrationSet, StepCurve, added, fidelity
from trustscale_server.conformal.backtest import highest_trusted, trusted_shares
from trustscale_server.conformal.scenes import places_of
from trustscale_server.kinds.classes import class_of_way
from trustscale_server.kinds.features import InputFeatures, classify
from trustscale_server.sampling.spec import MeasurementSpec

COVERED: Final = 20
"""Scenes that a class needs to speak for itself."""


@dataclass(frozen=True, eq=False, repr=False)
class Subset:
    """Pairs of a calibration with the curve that masks are cut by.

    manifest: of the calibration.
    guarantee: what masks promise, which may differ from the manifest's.
    infos: what is kept of each pair besides its losses.
    weights: of each pair in its scene; the weights of a scene sum to at most 1.
    arrays: what was measured of them.
    """

    manifest: Manifest
    guarantee: GuaranteeSettings
    infos: Sequence[PairInfo]
    weights: Sequence[Fraction]
    arrays: PairArrays
    # Threads that ask at the same time get the same part.
    _lock: Lock = field(default_factory=Lock, init=False)
    _by_class: dict[str, Subset] = field(default_factory=dict, init=False)

    @property
    def pipeline(self) -> MeasurementSpec:
        """What was calibrated."""
        return self.manifest.pipeline

    @cached_property
    def n(self) -> int:
        """Number of scenes, which the guarantee counts, each by its weight."""
        return math.floor(sum(sum(self.weights[i] for i in places) for places in self.members))

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.infos)

    @cached_property
    def scenes(self) -> Sequence[tuple[str, str]]:
        """The scene of each pair."""
        return [scene_of(pair) for pair in self.infos]

    @cached_property
    def members(self) -> Sequence[Sequence[int]]:
        """The places of the pairs of each scene."""
        return places_of(self.scenes)

    def losses(self, threshold: float) -> NDArray[np.float64]:
        """Return the mean loss of each pair's spots inside {σ < t}, float64 [pairs]."""
        return self.arrays.losses(threshold, self.guarantee.loss_of)

    def mean(self, values: NDArray[np.float64]) -> float:
        """Return the mean of something of each pair, float64 [pairs], by their weights."""
        return float(np.average(values, weights=[float(weight) for weight in self.weights]))

    @cached_property
    def _in_order(self) -> Sequence[Sequence[int]]:
        """The places of the pairs of each scene, in the order of the curve."""
        return by_content.in_order(self.infos, self.members)

    @cached_property
    def added_threshold(self) -> Callable[[float], int | None]:
        """Gives the code of the score below which detail holds up, with at most ρ of it invented.

        0: none does. None: its pairs were made before anybody looked.
        """

        @lru_cache(maxsize=64)
        def found(rho: float) -> int | None:
            if self.arrays.marked is None:
                return None
            places = [*chain.from_iterable(self._in_order)]
            marked = self.arrays.marked[places]
            shares = marked.astype(np.float32) / np.float32(added.FULL_SHARE)
            return added.threshold(
                shares[:, 0],
                shares[:, 1],
                rho,
                scenes=[self.scenes[place] for place in places],
                weights=[self.weights[place] for place in places],
            )

        return found

    @property
    def calibration_set(self) -> CalibrationSet:
        """The errors that its threshold is computed from, scene by scene."""
        places = [*chain.from_iterable(self._in_order)]
        return CalibrationSet.from_pictures(
            [self.arrays.spots_of(place) for place in places],
            self.error_bound,
            scenes=[self.scenes[place] for place in places],
            weights=[self.weights[place] for place in places],
            highest=self.highest,
        )

    @cached_property
    def highest(self) -> float:
        """The σ beyond which nothing is trusted; 0 without pairs."""
        return highest_trusted(self.arrays.sigma_quantiles, self.weights) if self.pairs else 0.0

    @cached_property
    def error_bound(self) -> float:
        """The largest value of the fidelity error."""
        return fidelity.bound(self.pipeline.fidelity)

    @property
    def bound(self) -> float:
        """B, the largest loss that its guarantee counts."""
        return self.guarantee.largest(self.error_bound)

    @cached_property
    def curve(self) -> StepCurve:
        """The curve of all pairs under the calibration's guarantee."""
        return self.guarantee.curve(self.calibration_set)

    @cached_property
    def max_alpha(self) -> float:
        """The α from which on the mask does not grow: all σ up to `highest` are trusted."""
        return self.curve.risk(self.highest)

    @cached_property
    def min_alpha(self) -> float:
        """The smallest α of the curve, found without making the curve."""
        weights = [
            sum((self.weights[place] for place in scene), Fraction()) for scene in self._in_order
        ]
        return self.guarantee.min_alpha(self.error_bound, weights)

    def minimal_n(self, alpha: float) -> int:
        """Return the number of scenes below which its guarantee trusts no pixel at α."""
        return self.guarantee.minimal_n(alpha, self.error_bound)

    def shortfall(self, alpha: float) -> str | None:
        """Explain why nothing is trusted at α and what would help; None if something may be."""
        return self.guarantee.shortfall(alpha, self.error_bound, self.n, self.curve.min_alpha)

    @cached_property
    def typical_error(self) -> Callable[[float], ErrorQuantile | None]:
        """Gives the error that few spots exceed inside the mask of an α, or None.

        It looks at all loss curves for each α, so answers are kept.
        """

        @lru_cache(maxsize=64)
        def found(alpha: float) -> ErrorQuantile | None:
            return self.guarantee.typical_error(self.curve, self.calibration_set, alpha)

        return found

    @cached_property
    def one_of_each(self) -> Sequence[PairInfo]:
        """One pair of each scene at most, drawn by weight.

        Only these are exchangeable with an image of a new scene.
        """
        return by_content.one_of_each(self.infos, self.weights, self.members)

    @cached_property
    def sizes(self) -> frozenset[tuple[int, int]] | None:
        """The (width, height) of outputs that the promise covers: those of the pairs.

        None: it is about spots or words, so about any output.
        """
        if self.pipeline.fidelity.unit != "picture":
            return None
        return frozenset((pair.width, pair.height) for pair in self.infos)

    def answers_size(self, height: int, width: int) -> bool:
        """Return whether its promise is about outputs of this size."""
        return self.sizes is None or (width, height) in self.sizes

    def mean_trusted_fraction(self, threshold: float) -> float:
        """Return the mean share of pixels with σ < t, from the stored quantiles."""
        if not self.pairs:
            return float("nan")
        shares = trusted_shares(self.arrays.sigma_quantiles, threshold)
        return self.mean(shares)

    @property
    def made_of(self) -> str:
        """Short description of the data set."""
        note = self.manifest.provenance.note or ""
        pictures = f"{self.n} scenes" if self.pairs > self.n else f"{self.n} pictures"
        first = note.partition("\n")[0]
        # How σ was fitted is nothing that pictures show.
        about = "" if first.startswith("σ ") else first
        return about or f"{pictures}, of which nothing more is said"

    @cached_property
    def classes(self) -> Mapping[str, int]:
        """The number of pairs of each covered class: with `COVERED` scenes, or a quarter of all."""
        counts = Counter(pair.input_class for pair in self.infos if pair.input_class is not None)
        least = min(COVERED, -(-len(self.members) // 4))
        return {name: counts[name] for name in sorted(counts) if self.read_as(name).n >= least}

    def class_of(self, features: InputFeatures) -> str | None:
        """Return the class of an upload under the calibration's rule; None without a rule."""
        rule = self.pipeline.input_rule
        return None if rule is None else classify(rule, features)

    def covers(self, features: InputFeatures) -> bool:
        """Return whether the X of some pairs were like an upload, as far as classes show."""
        name = self.class_of(features)
        return name is None or name in self.classes

    def of_class(self, name: str | None) -> Subset:
        """Return the pairs of a class of inputs; all of them if it is not covered or None."""
        return self.read_as(name) if name is not None and name in self.classes else self

    def read_as(self, name: str) -> Subset:
        """Return all pairs that are read as of this class, however X was made.

        Of a scene they count as the mixture says, together at most as much as the ways of making X
        that are meant for the class.
        """
        with self._lock:
            if name not in self._by_class:
                shares = self.manifest.shares
                meant = sum(share for way, share in shares.items() if class_of_way(way) == name)
                most = Fraction(meant, sum(shares.values())) if meant else Fraction(1)
                belongs = [pair.input_class == name for pair in self.infos]
                self._by_class[name] = self.only(belongs, most)
            return self._by_class[name]

    def only(self, belong: Sequence[bool], most: Fraction = Fraction(1)) -> Subset:
        """Return the pairs that belong; a scene counts 1 where they have the share `most` of it."""
        places = [place for place, belongs in enumerate(belong) if belongs]
        weights = [self.weights[place] / most for place in places]
        for of_scene in places_of(self.scenes[place] for place in places):
            total = sum(weights[k] for k in of_scene)
            for k in of_scene:
                weights[k] /= max(total, 1)
        return replace(
            self,
            infos=[self.infos[i] for i in places],
            weights=weights,
            arrays=self.arrays.take(places),
        )
