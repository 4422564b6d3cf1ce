"""Step curves: the thresholds, masks and trust levels that follow from calibration scenes.

A *step curve* gives for a threshold t a value that bounds the expected loss of the mask {σ ≤ t}:
`RiskCurve` on average, `HighProbabilityCurve` with a stated probability. It rises only at the
breakpoints of the calibration images. With t_α = sup{t : value(t) ≤ α}, the trust mask is
{p : σ(p) < t_α}: strictly, since the value may jump above α at t_α. That is {p : value(σ(p)) ≤ α},
so the *trust level* α(p) = value(σ(p)) holds the masks of all α at once.

**Spots.** What loses is a window of the output, the *spot* (`loss_curve.spots`), and L is the
largest error in its trusted part. A picture has many of them, of which a random one is meant.

**Scenes.** The spots of one picture, crops of one photograph, frames of one camera run or slices of
one patient are alike, and not exchangeable with those of a new one. So a *scene* loses the mean
over its n_i spots, L̄_i(t) = (1/n_i) Σ_j L_ij(t), and n counts scenes. The number of spots must
belong to the draw of the scene. By default every loss curve is a scene.

**Weights.** A curve for one class of uploads is about a picture of a random scene, *given that it
is of the class*. Its spots have weights w_ij ≥ 0 with W_i = Σ_j w_ij ≤ 1: the share of the scene
that is of the class, in units of the largest share. L̄_i is Σ_j w_ij L_ij / W_i, and n becomes ΣW_i
in what follows; without weights w_ij = 1/n_i, W_i = 1 and ΣW_i = n.

**The end.** No threshold exceeds the largest σ of the calibration images: what was never seen is
not trusted. Smaller masks keep every promise.

**The guarantee in expectation.** `RiskCurve` is R(t) = (Σ_i W_i L̄_i(t) + B)/(Σ_i W_i + 1), and
t_α = sup{t : R(t) ≤ α}; with one image per scene and no weights, the paper's Eq. 1.
**E[L(t_α−)] ≤ α** for one new spot of a new scene, drawn by weights, over the draw of all n + 1
scenes, if these, each with its spots and their weights, are exchangeable. *Proof.* Let f_i(t) =
W_i (L̄_i(t) − α), which rises in t and is at most B − α (for α ≥ B nothing is claimed). t_α depends
on the n scenes only. As f_{n+1} ≤ B − α, t_α = sup{t : Σ_{i ≤ n} f_i(t) + B − α ≤ 0} is at most
t′ = sup{t : Σ_{i ≤ n+1} f_i(t) ≤ 0}. t′ is symmetric in the n + 1 scenes, so E[f_{n+1}(t′−)] is
that of the mean of all of them, at most 0, and E[f_{n+1}(t_α−)] ≤ 0, too: E[W L̄] ≤ α E[W]. A
picture of the class is from scene i in proportion to W_i, so this is its expected loss. ∎ (Pooling
the spots of all scenes breaks the promise where easy scenes bring more of them.)

The mask {σ < t_α} is strict: R may jump above α at t_α, and where values of σ are equal across
images, the paper's {σ ≤ t_α} (Eq. 2) breaks the promise (test_guarantee.py measures it).

**The error that nine of ten pictures do not exceed.** For a share β fixed in advance let

    t⁺ = sup{t : Σ_i W_i L̄_i(t) ≤ α (Σ_i W_i + 1)}, that of R with B replaced by 0
    τ̂ = min{τ : Σ_i Σ_j w_ij 1{L_ij(t⁺−) > τ} + 1 ≤ β (Σ_i W_i + 1)}

Then P(L_new(t_α−) > τ̂) ≤ β over the draw of the scenes and of the spot, although t_α and τ̂
come from the same scenes. *Proof.* t_α ≤ t′ ≤ t⁺, since Σ_{i ≤ n} f_i ≤ −f_{n+1} ≤ α where
Σ_{i ≤ n+1} f_i ≤ 0. Let τ′ be the least τ that at most the share β of all weights of the n + 1
scenes exceeds at t′. Both are symmetric in them, so E[Σ_j w_j (1{L_j(t′−) > τ′} − β)] ≤ 0 for the
new scene. At τ̂ the n scenes at t⁺ ≥ t′ and the new one, whose Σ_j w_j (1{…} − β) is at most 1 − β,
sum to at most 0, so τ′ ≤ τ̂. And L_new(t_α−) ≤ L_new(t′−). ∎
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.fidelity import largest_float32
from trustscale_server.conformal.loss_curve import LossCurve, LossCurves, last_of_level

# Losses are summed as integers in units of 2^-40, rounded up: exactly, in any order of the images.
UNIT = 1 << 40
CODE_STEPS = 65534  # of the 16-bit trust level; one value is left for "never"
NEVER = 65535

LARGEST = float(np.finfo(np.float32).max)
"""The largest σ, unless the images say otherwise."""

USUALLY: Final = 0.1
"""The default β: the share of spots that may exceed the error of `exceeded_by`."""

_MOST_SUMMED = 1 << 22  # B times the counts of a scene: sums stay within 63 bits

# Above the error of dividing by B and multiplying by 65534.
_SAFE = 1 + 1e-15

# Look-up cells of `_CodeTable`.
_CELLS_PER_THRESHOLD = 128
_FEWEST_CELLS, _MOST_CELLS = 1 << 16, 1 << 19
_FEW = 16  # thresholds in a cell that are compared one by one
_BLOCK = 1 << 16  # pixels at once: temporaries stay in the cache


@dataclass(frozen=True, eq=False)
class StepCurve:
    """A step function whose value is `risks[k]` from `thresholds[k]` up to the next one.

    NaN is a ValueError.

    n: number of scenes; of weighted ones the sum of their weights.
    bound: B, no loss exceeds it.
    min_alpha: the value below the first threshold; for smaller α the mask is empty.
    thresholds: float32, strictly increasing values of σ.
    risks: float64, strictly increasing, in (`min_alpha`, B].
    highest: the largest σ of the images; beyond it nothing is trusted.
    """

    n: float
    bound: float
    min_alpha: float
    thresholds: NDArray[np.float32]
    risks: NDArray[np.float64]
    highest: float = field(default=LARGEST, kw_only=True)

    def risk(self, t: float) -> float:
        """Return the value at t; t may be −inf or inf."""
        if math.isnan(t):
            raise ValueError("t is not a number")
        index = int(np.searchsorted(self.thresholds, t, side="right"))
        return float(self.risks[index - 1]) if index else self.min_alpha

    def threshold(self, alpha: float) -> float:
        """t_α = sup{t : value(t) ≤ α}, at most just above `highest`; −inf for the empty mask."""
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        if alpha < self.min_alpha:
            return -math.inf
        with np.errstate(over="ignore"):  # inf follows the largest float32
            end = float(np.nextafter(np.float32(self.highest), np.float32(np.inf)))
        index = int(np.searchsorted(self.risks, alpha, side="right"))
        return min(float(self.thresholds[index]), end) if index < len(self.risks) else end

    def mask(self, indecision: NDArray[np.float32], alpha: float) -> NDArray[np.bool_]:
        """Return the trust mask {σ < t_α}, bool of the shape of σ; True is trusted."""
        _check_no_nan(indecision)
        return np.asarray(indecision < self.threshold(alpha))

    def trust_code(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Return α(p) in 16 bits: ceil(α(p)/B · 65534), of the shape of σ; 65535 is never trusted.

        `code ≤ floor(α/B · 65534)`, computed in float64, never trusts a pixel outside the mask of
        α. It leaves out pixels whose α(p) is within B/65534 of α.
        """
        _check_no_nan(indecision)
        codes = self._codes.take(indecision)
        codes[indecision > self.highest] = NEVER
        return codes

    def mask_of_code(self, code: NDArray[np.uint16], alpha: float) -> NDArray[np.bool_]:
        """Return the mask of α from `trust_code`, less pixels within B/65534 of α."""
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        limit = math.floor(min(alpha / self.bound, 1.0) * CODE_STEPS)
        return np.asarray(code <= limit) if limit >= 0 else np.zeros(code.shape, bool)

    @cached_property
    def _codes(self) -> _CodeTable:
        """The codes that occur, and where they begin."""
        levels = np.append(self.min_alpha, self.risks)
        # One more than the code of the largest α below the level: whole quotients may be rounded.
        below = np.nextafter(levels, -np.inf) / self.bound * CODE_STEPS * _SAFE
        codes = np.minimum(np.floor(below) + 1, CODE_STEPS).astype(np.uint16)
        changes = codes[1:] != codes[:-1]
        return _CodeTable(self.thresholds[changes], codes[np.append(True, changes)])


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
    """The loss curves of one scene, of which each counts `counts[j] / of`."""

    curves: Sequence[LossCurve]
    counts: Sequence[int]
    of: int

    @property
    def weight(self) -> Fraction:
        """The weight W of the scene, in (0, 1]."""
        return Fraction(sum(self.counts), self.of)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weight w of each loss curve."""
        return np.array(self.counts, np.float64) / self.of

    def loss(self) -> Loss:
        """W L̄, rounded up to whole units, in any order of the curves."""
        curves = LossCurves.of(self.curves)
        units = np.ceil(curves.errors.astype(np.float64) * UNIT).astype(np.int64)
        units *= np.repeat(self.counts, curves.lengths)
        total = summed(curves.levels, units, curves.lengths)
        return Loss(total.levels, -(-total.totals // self.of))


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
    of = min(math.lcm(*denominators), int(_MOST_SUMMED / bound))
    count_of = {key: max(1, int(weight * of)) for key, weight in known.items()}
    counts = [count_of[id(weight)] for weight in weights]
    return Scene(curves, counts, max(of, sum(counts)))  # tiny ones were rounded up


def total_weight(scenes: Iterable[Scene]) -> float:
    """Sum the weights of scenes, ΣW."""
    return float(sum((scene.weight for scene in scenes), Fraction()))


def summed(
    levels: NDArray[np.float32], totals: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Loss:
    """Return the sum, in any order, of losses that have so many steps each."""
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


class _CodeTable:
    """`codes[searchsorted(thresholds, σ, side="right")]` for whole images, ten times faster.

    The bits of a non-negative float32, read as an integer, are in the order of the numbers, whose
    range is cut into equal cells: the table answers for cells without a threshold, and only the few
    other pixels are searched for.
    """

    def __init__(self, thresholds: NDArray[np.float32], codes: NDArray[np.uint16]) -> None:
        self.thresholds, self.codes = thresholds, codes
        self.usable = bool(len(thresholds) and thresholds[0] >= 0)
        if not self.usable:
            return
        keys = thresholds.view(np.int32)
        low, high = int(keys[0]), int(keys[-1])
        span = high - low + 1
        cells_wanted = _CELLS_PER_THRESHOLD * len(thresholds)
        cells = min(max(cells_wanted, _FEWEST_CELLS), _MOST_CELLS)
        self.shift = max(0, (span - 1).bit_length() - cells.bit_length() + 1)
        # Cell 0 is everything below the first threshold's cell, the last one everything above.
        self.offset = (low >> self.shift) - 1
        count = (high >> self.shift) - (low >> self.shift) + 1
        starts = (np.arange(count + 1, dtype=np.int64) + self.offset + 1) << self.shift
        first = np.searchsorted(keys, starts, side="left")
        inside = np.diff(first)
        self.most = int(inside.max())
        below = np.concatenate([[0], first[:-1], [len(keys)]])
        self.of_cells = codes.take(below).astype(np.int32)
        # Cells with thresholds: how many are below.
        split = 1 + np.flatnonzero(inside)
        self.of_cells[split] = ~below[split]

    def take(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        sigma = np.ascontiguousarray(indecision, np.float32).reshape(-1)
        if not (self.usable and sigma.size and sigma.min() >= 0):
            return self._searched(sigma).reshape(indecision.shape)
        out = np.empty(sigma.shape, np.uint16)
        for start in range(0, len(sigma), _BLOCK):
            block = sigma[start : start + _BLOCK]
            cell = (block + np.float32(0)).view(np.int32)  # −0 becomes 0
            cell >>= self.shift
            cell -= np.int32(self.offset)
            codes = self.of_cells.take(cell, mode="clip")
            split = np.flatnonzero(codes < 0)
            codes[split] = self._searched(block[split], ~codes[split])
            out[start : start + _BLOCK] = codes
        return out.reshape(indecision.shape)

    def _searched(
        self, sigma: NDArray[np.float32], place: NDArray[np.int32] | None = None
    ) -> NDArray[np.uint16]:
        """The codes by the thresholds; `place`: how many of them are below the cell of each σ."""
        if place is None or self.most > _FEW:
            return self.codes.take(np.searchsorted(self.thresholds, sigma, side="right"))
        for _ in range(self.most):
            place += sigma >= self.thresholds.take(place, mode="clip")
        return self.codes.take(np.minimum(place, len(self.thresholds)))


def _check_no_nan(indecision: NDArray[np.float32]) -> None:
    if indecision.size and np.isnan(indecision.min()):
        raise ValueError("σ contains NaN")


@dataclass(frozen=True, eq=False)
class RiskCurve(StepCurve):
    """R(t) as its breakpoints; `min_alpha` is B/(ΣW + 1), the risk of the empty mask."""

    @classmethod
    def from_loss_curves(
        cls,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        scenes: Iterable[Hashable] | None = None,
        weights: Iterable[Fraction] | None = None,
        highest: float = LARGEST,
    ) -> RiskCurve:
        """Return the curve of a set of loss curves, in any order.

        Args:
            loss_curves: of the spots, or of whole images.
            bound: B.
            scenes: the scene of each; None: every one is its own.
            weights: w of each; None: all of a scene count alike.
            highest: a σ beyond which nothing is trusted.

        Raises:
            ValueError: as `by_scene`.
        """
        known = by_scene(loss_curves, bound, scenes, weights)
        losses = [scene.loss() for scene in known]
        total = summed(
            np.concatenate([*(loss.levels for loss in losses), np.empty(0, np.float32)]),
            np.concatenate([*(loss.totals for loss in losses), np.empty(0, np.int64)]),
            np.array([len(loss.levels) for loss in losses], np.int64),
        )
        n = total_weight(known)
        risks = (total.totals / UNIT + bound) / (n + 1)
        return cls(n, float(bound), bound / (n + 1), total.levels, risks, highest=float(highest))


def exceeded_by(
    losses: Sequence[NDArray[np.float64]],
    weights: Sequence[NDArray[np.float64]],
    share: float = USUALLY,
) -> float | None:
    """Return τ̂ from L_ij(t⁺−), w_ij and β; None if there are too few scenes for one."""
    values = np.concatenate([*losses, np.empty(0)])
    counted = np.concatenate([*weights, np.empty(0)])
    n = math.fsum(math.fsum(of_scene) for of_scene in weights)  # three thirds are 1
    if 1 / (n + 1) > share:
        return None
    order = np.argsort(-values, kind="stable")
    values, above = values[order], np.cumsum(counted[order])
    # At τ = values[k] at most the first k lie above it.
    over = (above + 1) / (n + 1) > share
    return float(values[np.argmax(over)]) if over.any() else 0.0


def minimal_n(alpha: float, bound: float) -> int:
    """Return the smallest n with B/(n + 1) ≤ α, below which no pixel can be trusted.

    Raises:
        ValueError: alpha or bound is not a positive number.
    """
    if not (0 < alpha < math.inf and 0 < bound < math.inf):
        raise ValueError("alpha and bound must be positive numbers")
    n = max(0, math.ceil(Fraction(bound) / Fraction(alpha)) - 1)
    # The risk curve divides in floating point, which may decide a tie the other way.
    if 0 < n < 1 << 52 and bound / n <= alpha:
        return n - 1
    return n


def leakage_bound(alpha: float, n: float, n_leaked: int, bound: float) -> float:
    """Return the bound that survives if `n_leaked` of n scenes were trained on (Prop. 3.2).

    A model may be perfect on those. Without them t_α is the threshold of the other
    n_new = n − n_leaked scenes at level α(n + 1)/(n_new + 1). At most B.

    Raises:
        ValueError: n_leaked outside [0, n].
    """
    if not 0 <= n_leaked <= n:
        raise ValueError(f"n_leaked must be between 0 and n = {n}, got {n_leaked}")
    return min(bound, alpha * (n + 1) / (n - n_leaked + 1))


def lab_psnr_lower_bound_db(alpha: float) -> float | None:
    """Return a lower bound in dB on the expected PSNR inside a `pointwise` mask.

    Proposition 3.1 with its last step mended: the peak is 1, that of normalised Lab. The root mean
    square over pixels and channels is at most the worst ‖Y − Ŷ‖₁ divided by √3, so, by Jensen's
    inequality, E[PSNR] ≥ −20 log10(α) + 10 log10(3), in normalised Lab, not RGB, an empty mask
    counted as error 0. None for α = 0.
    """
    if alpha <= 0:
        return None
    return -20 * math.log10(alpha) + 10 * math.log10(3)
