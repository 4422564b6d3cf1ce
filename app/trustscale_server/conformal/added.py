"""What a model added, how much of it is real, and the promise about the part that is marked.

With E the plain enlargement of X, a = Ŷ − E is what was added and t = Y − E what there was to add,
both of lightness. Around each cell, with means ⟨·⟩ of a Gaussian of one cell,

    g = ⟨a, t⟩ / ⟨t, t⟩ cut to [0, 1],    invented share q = ⟨(a − g t)²⟩ / ⟨a²⟩  ∈ [0, 1]

so detail that goes the right way, but not all of it, counts as real. A score s says, without Y, how
large q may be; the detail of the cells with s < t is *marked*: it holds up. Cells where ⟨a²⟩ is too
small to be seen are *unchanged*, and no part of what follows.

**The loss of a scene.** With e = a² of a cell as a share of its sum over the picture,

    A(t) = Σ_{s < t} e          the share of the added detail that is marked
    I(t) = Σ_{s < t} q e ≤ A(t) what of it is invented
    x(t) = (I(t) − ρ A(t)) / max(A(t), h)  ∈ [−ρ, 1 − ρ],    h = 1/5

E[x(t)] ≤ 0 says: **of the detail that is marked, at most the share ρ is invented, on average over
pictures, each of which counts alike from a fifth of its detail on, and below in proportion.** A
picture without a mark is neither for nor against. (If it counted as one without invention, pictures
with nothing marked would pay for those that are marked wrongly.)

**Why a certainty.** x is not monotone in t, and no threshold that follows from a calibration keeps
E[x(t̂)] ≤ 0 for every law: where E[x(t)] is a little above 0 for all t that mark anything, any rule
that marks anything with positive probability breaks it. Conformal risk control for the smallest
monotone majorant of x has no way out either, since max(x, 0) is 0 for no scene that errs. So the
promise is about the calibration at hand: **with probability at least 1 − δ over its n scenes, drawn
independently from one law, E[x(t̂) | calibration] ≤ 0.** (Learn then test, Angelopoulos et al.
2021, by fixed-sequence testing.)

*Proof.* The thresholds t_0 < t_1 < … are fixed beforehand, t_0 by ρ alone. At each the null
hypothesis is E[x(t_k)] > 0. It is rejected if the largest wealth K_j of bets on x_i(t_k) against
A = 0 (`betting.py`) is at least 1/δ, which then has probability at most δ. t̂ is the last
threshold before the first, from t_0 on, that is not rejected; without one nothing is marked, and x
is 0. If E[x(t̂)] > 0, the first t_k with E[x(t_k)] > 0 is among those that were rejected: an event
of probability at most δ, whatever the number of thresholds. ∎ The score needs to be nothing but a
function of X and Ŷ; a bad one marks little.

**Weights.** Of scenes with weights W_i each is kept with the probability W_i (`keep_by_weight`),
and loses the weighted mean of its pairs.

**Harder pictures** (Γ > 1). For every law Q under which each kind of picture is at most Γ times
as frequent as in the calibration's law, E_Q[x] ≤ c + Γ E[max(x − c, 0)], whatever c is. For a c
that is fixed beforehand the right side is an expectation under the calibration's law of a number of
at most c + Γ (1 − ρ − c), and is tested in place of E[x].
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from trustscale_server.conformal.betting import Prior, bets, largest_wealth
from trustscale_server.conformal.scenes import keep_by_weight

STEPS: Final = 64
"""Thresholds t = k/64 of the score, k = 0 … 64."""

COUNTED: Final = 0.2
"""h: from this share of its detail on, a marked picture counts in full."""

DELTA: Final = 0.1
"""δ: the calibration keeps its promise with probability 1 − δ."""

VISIBLE: Final = 0.01
"""Root of ⟨a²⟩ below which nothing visible was added: one of the 100 steps of lightness."""

FULL_SHARE: Final = 65535
"""A and I of 1 as they are stored."""

_PRIOR = Prior(mean=0.0, variance=0.02, size=10)  # of x

_Plane = NDArray[np.float32]


def invented_share(added: _Plane, agrees: _Plane, missing: _Plane) -> _Plane:
    """Return q, float32 [h, w] in [0, 1], from means of a², a t and t² of cells, [h, w] each."""
    a2, at, t2 = (
        scipy.ndimage.gaussian_filter(plane, 1.0, mode="reflect")
        for plane in (added, agrees, missing)
    )
    tiny = np.float32(1e-12)
    g = np.clip(at / np.maximum(t2, tiny), 0, 1)
    invented = (a2 - g * (2 * at - g * t2)) / np.maximum(a2, tiny)
    return np.asarray(np.clip(invented, 0, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Marked:
    """A(t) and I(t) of one picture at t = k/64, float32 [65] each, 0 ≤ I ≤ A ≤ 1, rising.

    Both are 0 throughout where nothing visible was added.
    """

    marked: NDArray[np.float32]
    invented: NDArray[np.float32]

    @classmethod
    def from_cells(cls, codes: NDArray[np.uint8], energy: _Plane, invented: _Plane) -> Marked:
        """Add up the cells of a picture.

        codes: the score as ⌊64 s⌋ < 64, or more where nothing visible was added, uint8 [h, w].
        energy: the mean of a² in each cell, float32 [h, w]. invented: q, float32 [h, w].
        """
        judged = codes < STEPS
        places = codes[judged]
        weights = energy[judged].astype(np.float64)
        total = float(weights.sum())
        if total <= 0:
            nothing = np.zeros(STEPS + 1, np.float32)
            return cls(nothing, nothing)
        marked, wrong = (
            np.append(0, np.cumsum(np.bincount(places, values, STEPS)) / total).astype(np.float32)
            for values in (weights, weights * invented[judged])
        )
        return cls(np.minimum(marked, 1), np.minimum(wrong, marked))

    @property
    def packed(self) -> NDArray[np.uint16]:
        """A and I, uint16 [2, 65] of 65535ths: A rounded down and I up, so that x only grows."""
        down, up = np.floor(FULL_SHARE * self.marked), np.ceil(FULL_SHARE * self.invented)
        return np.stack([down, np.minimum(up, down)]).astype(np.uint16)


def excess(
    marked: NDArray[np.float32], invented: NDArray[np.float32], rho: float
) -> NDArray[np.float64]:
    """Return x(t), float64 [n, 65] in [−ρ, 1 − ρ], from A and I, float32 [n, 65] each."""
    a, i = marked.astype(np.float64), invented.astype(np.float64)
    return np.asarray((i - rho * a) / np.maximum(a, COUNTED))


def threshold(
    marked: NDArray[np.float32],
    invented: NDArray[np.float32],
    rho: float,
    *,
    scenes: Sequence[Hashable] | None = None,
    weights: Sequence[float | Fraction] | None = None,
    delta: float = DELTA,
    robust: float = 1.0,
) -> int:
    """Return k of the threshold t = k/64 up to which detail holds up; 0: nothing does.

    Args:
        marked: A of the pairs, float32 [n, 65], in an order that is independent of the losses.
        invented: I of the same pairs.
        rho: the share that may be invented, in (0, 1), fixed beforehand.
        scenes: which scene each pair shows; None: each its own.
        weights: of the pairs in their scenes, at most 1 in the sum of one; None: 1.
        delta: the probability, over the draw of the scenes, that the promise does not hold.
        robust: Γ ≥ 1.

    Raises:
        ValueError: ρ, δ or Γ is out of range.
    """
    if not (0 < rho < 1 and 0 < delta < 1 and 1 <= robust < math.inf):
        raise ValueError("rho and delta must be between 0 and 1, and robust at least 1")
    x, largest = excess(marked, invented, rho), 1 - rho
    if robust > 1:
        cut = -0.5 * rho  # c
        x = cut + robust * np.maximum(x - cut, 0)
        largest = cut + robust * (1 - rho - cut)
    of_scenes = _of_scenes(x, scenes, weights)
    if not len(of_scenes):
        return 0
    # No scene can take more than 95 % of the wealth.
    bet = bets(of_scenes, delta, _PRIOR, largest=0.95 / largest)
    start = math.ceil(rho * STEPS)
    is_rejected = (largest_wealth(of_scenes, bet, 0.0) >= 1 / delta)[start:]
    count = len(is_rejected) if is_rejected.all() else int(np.argmin(is_rejected))
    return start + count - 1 if count else 0


def _of_scenes(
    x: NDArray[np.float64],
    scenes: Sequence[Hashable] | None,
    weights: Sequence[float | Fraction] | None,
) -> NDArray[np.float64]:
    """The weighted mean of each scene that is kept, float64 [m, 65]."""
    of_pairs = np.ones(len(x)) if weights is None else np.array(weights, np.float64)
    numbers: dict[Hashable, int] = {}
    names = range(len(x)) if scenes is None else scenes
    place = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.intp)
    total = np.bincount(place, of_pairs, len(numbers))
    sums = np.zeros((len(numbers), x.shape[1]))
    np.add.at(sums, place, x * of_pairs[:, None])
    is_kept = keep_by_weight(total)
    return np.asarray(sums[is_kept] / total[is_kept, None])
