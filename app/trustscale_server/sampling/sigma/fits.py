"""The fitted σ: a small network on the logarithms of energies, and the shipped ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.risk_shape import Shape
from trustscale_server.sampling.sigma import features, weighted_sum
from trustscale_server.sampling.sigma.features import MapFn, MapSource, OnRows

T = TypeVar("T")
BLURS = 4.0, 8.0  # of a departure, in pixels; the larger of both counts (docs/mask-power.md)
_MAX_UNITS = 64
_MAX_LOG_SIGMA = 60.0  # of σ, so that it stays a float32 above 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Weights of a fitted σ, and where they come from.

    Only `weights`, `units` and `offset` change σ.

        log σ = w₀ + Σ_j w_j f_j + Σ_k v_k max(0, b_k + Σ_j u_kj f_j)

    weights: (term, w_j) pairs; the terms are those of `features.term_names()`.
    units: (v_k, b_k, u_k1, u_k2, …) of each unit that bends, one u_kj per term, in their order.
    offset: w₀, which puts σ on the scale of D; the mask does not depend on it.
    upscaler: fingerprint of the upscaler whose errors were fitted.
    samples, metric: M and D that it was fitted for.
    scenes, pairs: how many it was fitted on.
    photographs: the first 16 hexadecimal digits of the SHA-256 of the pixels of their Y, in order.
    classes: of uploads that it is fitted for; none: for all.
    shape: knots (σ, mean loss) of the risk curve of what it was fitted on, which calibrates
    nothing; the mask for a named α does not depend on it.
    """

    weights: tuple[tuple[str, float], ...]
    offset: float = 0.0
    name: str = "fitted"
    upscaler: str | None = None
    samples: int | None = None
    metric: str | None = None
    scenes: int = 0
    pairs: int = 0
    photographs: tuple[str, ...] = ()
    note: str = ""
    classes: tuple[str, ...] = ()
    units: tuple[tuple[float, ...], ...] = ()
    shape: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple((str(t), float(w)) for t, w in self.weights))
        object.__setattr__(self, "photographs", tuple(map(str, self.photographs)))
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "shape", tuple((float(t), float(a)) for t, a in self.shape))
        object.__setattr__(self, "units", tuple(tuple(map(float, unit)) for unit in self.units))
        names = [term for term, _ in self.weights]
        if unknown := set(names) - set(features.term_names()):
            raise ValueError(f"there are no terms {sorted(unknown)}")
        if not names or len(set(names)) < len(names):
            raise ValueError("a fit has at least one term, and each once")
        if len(self.units) > _MAX_UNITS or {len(unit) for unit in self.units} - {len(names) + 2}:
            raise ValueError(f"at most {_MAX_UNITS} units, each with a weight for every term")
        numbers = [self.offset, *(weight for _, weight in self.weights)]
        for most, checked in ((100, numbers), (10_000, chain(*self.units))):
            if not all(math.isfinite(number) and abs(number) <= most for number in checked):
                raise ValueError(f"weights must be numbers of at most {most:g}")
        if self.shape:
            Shape(*zip(*self.shape, strict=True))
        if len(self.name) > 200 or len(self.note) > 2000 or len(self.photographs) > 100_000:
            raise ValueError("the provenance of the fit is too long")

    @property
    def needs_input(self) -> bool:
        """Whether σ looks at the input X."""
        return self._looks_at("residual")

    @property
    def least_samples(self) -> int:
        """The M from which on all of its terms are defined."""
        return 2 if self._looks_at("variance") else 1

    def _looks_at(self, energy: str) -> bool:
        return any(features.energy_of(term) == energy for term, _ in self.weights)

    def log_sigma(self, terms: NDArray[Any]) -> NDArray[np.float64]:
        """Return log σ, float64 [...], from the values of its terms, float [T, ...]."""
        total, *sums = np.tensordot(self._matrix, terms, 1)
        for plane, (v, b, *_) in zip(sums, self.units, strict=True):
            weighted_sum.add_unit(total, plane, (v, b))
        return np.asarray(total + self.offset)

    def sigma(self, maps: MapSource) -> NDArray[np.float32]:
        """Return σ, float32 [H, W], finite and > 0."""
        return weighted_sum.assembled(maps.shape, lambda on_rows: self.strips(maps, on_rows))

    def strips(self, maps: MapSource, on_rows: OnRows[T], map_fn: MapFn = map) -> Iterable[T]:
        """Call `on_rows` for all rows of σ, a strip at a time, in the threads of `map_fn`."""
        names = [term for term, _ in self.weights]
        weights = dict(zip(names, self._matrix.T, strict=True))
        sigma = weighted_sum.log_sigma(maps, weights, [(v, b) for v, b, *_ in self.units], map_fn)
        sigma += self.offset
        np.clip(sigma, -_MAX_LOG_SIGMA, _MAX_LOG_SIGMA, out=sigma)
        np.exp(sigma, out=sigma)
        return weighted_sum.enlarged_cells(sigma, maps.shape, on_rows, map_fn)

    @property
    def _matrix(self) -> NDArray[np.float64]:
        """Weights of the linear sum and of those that the units bend, [1 + K, T]."""
        return np.array([[weight for _, weight in self.weights], *(u[2:] for u in self.units)])


SHIPPED = (
    "span-x4-m1",
    "realesr-x4-m1",
    "span-x4-m1-lossless",
    "realesr-x4-safe-m1",
    "realesr-x4-safe-m1-lossy",
)
"""The fits for the embedded upscalers and one M: of each for all classes, then for some."""


def shipped_for(upscaler: str, samples: int, metric: str) -> tuple[Fit, ...]:
    """Return the shipped fits for an upscaler's fingerprint, M and D, that of all classes first."""
    purpose = (upscaler, samples, metric)
    fits = map(shipped_fit, SHIPPED)
    return tuple(fit for fit in fits if (fit.upscaler, fit.samples, fit.metric) == purpose)


@cache
def shipped_fit(name: str) -> Fit:
    """Return a fit that comes with this program, by the name of its file in `fits/`."""
    data = resources.files(__package__).joinpath("fits", f"{name}.json").read_text("utf-8")
    return Fit(**json.loads(data))
