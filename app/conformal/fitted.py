"""The fitted σ: weights of the terms of `texture.py` as an artefact with its provenance.

A calibration holds for any σ, whatever it was fitted to: weights that suit other pictures give a
smaller mask, never a broken promise. One thing must not be: that σ was fitted to the very pairs it
is calibrated with. Therefore the artefact names the photographs that it was fitted on.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.conformal import texture

MOST_WEIGHT = 100.0  # of one term; a fit that says more is no fit
_MOST_LOG = 60.0  # of σ, so that it stays a float32 above 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Weights, and where they come from. Nothing but `weights` and `offset` changes σ.

    weights: (term, weight) pairs; the terms are those of `texture.term_names()`.
    offset: w₀, which puts σ on the scale of D; the mask does not depend on it.
    name: what people call it.
    upscaler: fingerprint of the upscaler whose errors were fitted.
    samples: M that it was fitted for.
    metric: D that was fitted, as lists show it.
    scenes, pairs: how many it was fitted on.
    photographs: the first 16 hexadecimal digits of the SHA-256 of the files of their Y, in order.
    note: whatever else should be known.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple((str(t), float(w)) for t, w in self.weights))
        object.__setattr__(self, "photographs", tuple(map(str, self.photographs)))
        names = [term for term, _ in self.weights]
        if unknown := set(names) - set(texture.term_names()):
            raise ValueError(f"there are no terms {sorted(unknown)}")
        if not names or len(set(names)) < len(names):
            raise ValueError("a fit has at least one term, and each once")
        numbers = [self.offset, *(weight for _, weight in self.weights)]
        if not all(math.isfinite(number) and abs(number) <= MOST_WEIGHT for number in numbers):
            raise ValueError(f"weights must be numbers of at most {MOST_WEIGHT:g}")
        if len(self.name) > 200 or len(self.note) > 2000 or len(self.photographs) > 100_000:
            raise ValueError("the provenance of the fit is too long")

    @classmethod
    def of(cls, document: Any) -> Fit:
        """A fit from JSON values.

        Raises:
            ValueError, TypeError: they are not those of a fit.
        """
        return cls(**document)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @property
    def needs_input(self) -> bool:
        """Whether σ looks at the input X."""
        return any(texture.energy_of(term) == "residual" for term, _ in self.weights)

    @property
    def least_samples(self) -> int:
        """M from which on all of its terms say something."""
        varies = any(texture.energy_of(term) == "variance" for term, _ in self.weights)
        return 2 if varies else 1

    def sigma(self, maps: texture.Measured) -> NDArray[np.float32]:
        """σ = exp(w₀ + Σ_j w_j f_j), float32 [H, W], finite and > 0."""
        log_sigma = texture.log_sigma(maps, dict(self.weights)) + self.offset
        cells = np.exp(np.clip(log_sigma, -_MOST_LOG, _MOST_LOG))
        return texture.enlarge(cells, maps.shape)


SHIPPED = ("span-x4-m1", "span-x4-m2")
"""The fits for the embedded upscaler; of each, for one M."""


def shipped_for(upscaler: str, samples: int, metric: str) -> Fit | None:
    """The shipped fit for an upscaler's fingerprint, M and D; None: there is none."""
    for name in SHIPPED:
        fit = shipped(name)
        if (fit.upscaler, fit.samples, fit.metric) == (upscaler, samples, metric):
            return fit
    return None


@cache
def shipped(name: str) -> Fit:
    """A fit that comes with this program, by the name of its file in `fits/`."""
    data = resources.files("app.conformal").joinpath("fits", f"{name}.json").read_text("utf-8")
    return Fit.of(json.loads(data))
