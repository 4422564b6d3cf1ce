"""The features of the fitted σ: logarithms of energies of the samples and of what they add to X.

    log σ(p) = w₀ + Σ_j w_j · f_j(p), or a function of several such sums (`fits.Fit`)

Each *term* f_j is the logarithm of a non-negative energy at one level of a pyramid. The cells of
level 0 are 4×4 output pixels, those of each further level twice as wide, up to 512 pixels; a coarse
term is interpolated linearly to the cells of level 0. The energies are

    variance          Σ_c Var_M, the disagreement of the samples; it needs two of them
    residual          E_M Σ_c (μ − E)², what the samples add to E, the enlarged input
    detail            the variance of L within a cell of level 0, of the mean of the samples
    slope, curve      |∇L|² and (ΔL)² of the mean of the samples
    light<b>, color<b>  what the mean image loses in L, and in a and b, by a small blur at level b:
                      its spectrum, octave by octave

and facts of the input, `fact loss` and so on: one number for all cells each (`FACTS`). `variance@2`
is the logarithm of the mean over a cell of level 2, `log variance@2` the mean of the logarithm.

Where the truth has more detail than any upscaler can return, samples often agree on too little; the
fall of the energy from octave to octave shows how much is missing, the coarsest levels how hard the
photograph is. What the upscaler adds may be invented; one sample shows it.

`pyramid.py` measures the terms, `weighted_sum.py` adds them up. The weights are a `fits.Fit`, which
`fitting.py` finds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

CELL = 4  # output pixels, as wide as the neighbourhood of D
DEPTHS = 8  # the coarsest cell, 512 pixels, is a whole photograph of the fit
OCTAVES = 5  # of light and color
STRIP = 16  # rows of cells at once: temporaries stay in the cache
FACTS = ("loss", "lossy", "jpeg", "softness", "noise", "detail")
"""Of the input, as `kinds/features.py` measures them."""
_FACT = "fact "

# Fields of `Maps` that some images lack.
OPTIONAL = ("variance", "residual")
OF_PIXELS = (*OPTIONAL, "detail", "slope", "curve")

# Levels with terms. Coarse neighbours are almost alike, means of logarithms the more so.
_LEVELS_OF_MEANS = (0, 1, 2, 3, 5, 7)
_LEVELS_OF_LOGS = (2, 5, 7)


class Maps(NamedTuple):
    """What the terms are measured on.

    mean: E_M[μ] in normalised Lab, float32 [3, H, W].
    variance: Σ_c Var_M over the channels, float32 [H, W] ≥ 0; None: of a single sample.
    residual: E_M Σ_c (μ − E)² in normalised Lab, float32 [H, W] ≥ 0; None: X is unknown.
    facts: those of `FACTS` of the input, if known.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32] | None = None
    residual: NDArray[np.float32] | None = None
    facts: Mapping[str, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The (H, W) of the image."""
        return self.mean.shape[1], self.mean.shape[2]

    @property
    def known(self) -> frozenset[str]:
        """The names of all terms that can be measured."""
        there = {name for name in OPTIONAL if getattr(self, name) is not None}
        return known_terms(there, facts=self.facts is not None)

    def rows(self, top: int, bottom: int) -> Maps:
        """Return the maps of some rows."""
        planes = (getattr(self, name) for name in OPTIONAL)
        return Maps(
            self.mean[:, top:bottom],
            *(None if plane is None else plane[top:bottom] for plane in planes),
        )

    def release(self) -> None:
        """Do nothing, since others hold these maps."""


class MapFn(Protocol):
    """A function like `map` over some numbers, in threads or not."""

    def __call__(self, function: Callable[[int], T], numbers: range, /) -> Iterable[T]: ...


OnRows = Callable[[int, NDArray[np.float32]], T]
"""Gets some rows of a plane, and the number of the first of them."""


class MapSource(Protocol):
    """`Maps` of an image that are made strip by strip, and never whole."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def known(self) -> frozenset[str]: ...
    @property
    def facts(self) -> Mapping[str, float] | None: ...
    def rows(self, top: int, bottom: int) -> Maps: ...
    def release(self) -> None:
        """Free the maps: all terms are measured, and no more rows are needed."""


def known_terms(there: Container[str], *, facts: bool) -> frozenset[str]:
    """Return the names of the terms that these energies of `OPTIONAL` allow."""
    missing = {name for name in OPTIONAL if name not in there}
    if not facts:
        missing |= {f"{_FACT}{name}" for name in FACTS}
    return frozenset(term for term in term_names() if energy_of(term) not in missing)


@cache
def term_names() -> tuple[str, ...]:
    """Return the names of all terms: facts, then the others from fine to coarse."""
    of_levels = (f"{name}@{depth}" for depth in range(DEPTHS) for name in names_at(depth))
    return (*of_levels, *(f"{_FACT}{name}" for name in FACTS))


def energy_of(term: str) -> str:
    """Return the energy whose logarithm a term is, without its band; a fact is itself."""
    return term.removeprefix("log ").partition("@")[0].rstrip("0123456789")


def names_at(depth: int) -> Iterator[str]:
    """Return the names of the terms of one level, without its number."""
    if depth not in _LEVELS_OF_MEANS:
        return
    bands = range(min(depth + 1, OCTAVES))
    for energy in (*OF_PIXELS, *(f"{kind}{b}" for b in bands for kind in ("light", "color"))):
        yield energy
        # Where a band is measured, the mean of one logarithm is the logarithm.
        if depth in _LEVELS_OF_LOGS and not energy.endswith(str(depth)):
            yield f"log {energy}"


def is_fact(term: str) -> bool:
    """Return whether a term is one number for the whole image."""
    return term.startswith(_FACT)


def fact_of(maps: MapSource, term: str) -> float:
    """Return the value of a term that is a fact."""
    assert maps.facts is not None  # noqa: S101 - it is known
    return maps.facts[term.removeprefix(_FACT)]


def wait_for(results: Iterable[None]) -> None:
    """Wait for all of these futures."""
    deque(results, maxlen=0)
