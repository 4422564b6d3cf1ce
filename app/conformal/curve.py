"""From the errors of calibration pictures to thresholds, masks and trust levels.

**Loss curves.** One image's loss as a function of the threshold is reduced to its breakpoints,
which is exact and tiny. The loss L(t) = max{D(p) : σ(p) ≤ t} is a step function: sorted by σ, it
rises only where D exceeds everything before it, a few to a few thousand times in millions of
pixels. The risk curve depends on each image through these breakpoints only.

To avoid sorting the image, two cheap passes drop pixels that cannot be breakpoints:

1. The loss curve of every 64th pixel is made by sorting. A table over the upper 16 bits of σ (for
   non-negative floats, the order of the bits is the order of the numbers) holds its loss at the
   lower edge of each bucket. A pixel whose D does not exceed the entry of its bucket is dropped,
   and before that a group of them whose largest D does not exceed the entry of their smallest σ.
2. The others are compared with the subsample's loss at their exact σ, ties included.

Only the survivors and the subsample's breakpoints are sorted. A dropped pixel has another one of
equal or smaller σ and equal or larger D, so this is exact.

Loss curves are kept `coarse`: levels rounded down and errors up to eight significant bits, so that
no loss is understated. At the levels that are left nothing is lost.

**Step curves.** Thresholds, masks and trust levels follow from calibration scenes. A *step curve*
gives for a threshold t a value that bounds the expected loss of the mask {σ ≤ t}: `RiskCurve` on
average, `HighProbabilityCurve` with a stated probability. It rises only at the breakpoints of the
calibration images. With t_α = sup{t : value(t) ≤ α}, the trust mask is {p : σ(p) < t_α}: strictly,
since the value may jump above α at t_α. That is {p : value(σ(p)) ≤ α}, so the *trust level* α(p) =
value(σ(p)) holds the masks of all α at once.

**Spots.** What loses is a window of the output, the *spot* (`spots`), and L is the
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

**Backtests.** What to expect of a calibration, from its own loss curves: in repeated random splits
half of the scenes calibrate, the others are served; nothing is generated. The splits are not
independent, so the intervals describe the spread over splits.

**Which pictures may go out without a look**: a decision per picture, and one for a whole batch.
A picture is *bad* if more than the share s of its pixels, all of them and not only the
trusted ones, are off by more than τ: D > τ. Its σ_high is the σ that 5 % of its pixels exceed, or
none where s = 0. With one picture of each of n calibration scenes its p-value is

    p = (1 + #{i ≤ n: picture i is bad and its σ_high is at most this one's}) / (n + 1)

which is R for the loss 1{bad and σ_high ≤ t} and B = 1.

**One picture** is accepted if p ≤ δ, for a δ that is fixed in advance. **P(bad and accepted) ≤ δ**
over the draw of the n scenes and of the picture, if all n + 1 pictures are exchangeable. *Proof.*
Call a picture k of the n + 1 *low* if it is bad and at most δ (n + 1) bad ones among them, itself
included, have a σ_high up to its own. Of the low ones that with the largest σ_high has all of them
up to its own, so there are at most δ (n + 1). The new one is bad and accepted only if it is low,
and is as likely as any other to be one of them. ∎ It is exact for any n, and accepts nothing below
n = 1/δ − 1: 19 for δ = .05. Nothing follows for the accepted ones alone: where few are accepted,
many of these may be bad. So a class whose pictures are nearly all bad accepts none (`passes`);
accepting less keeps the promise.

**A batch** of m pictures, each of another scene: with K the largest k for which k of their p-values
are at most δ k/m, accept those with p ≤ δ K/m (Benjamini and Hochberg). **Of the accepted ones at
most the share δ is bad, on average over batches** (0 of none), if all n + m pictures are
exchangeable (Jin and Candès 2023). *Proof.* Let j be bad and accepted, and count j among the
calibrating pictures instead of the 1: q_l = #{i ≤ n or i = j: bad, σ_high up to that of l}/(n + 1).
Then q_l ≤ p_l, and they are equal unless σ_high of l is below that of j, so that p_l ≤ p_j and l is
accepted anyway. So any k that fits the q from K on fits the p, and the q have the same K; with 0 in
place of q_j, too. This K is symmetric in j and the n calibrating pictures, given the m − 1 others,
so P(j bad and q_j ≤ δ K/m) ≤ δ K/m given K, as above. Hence the expected 1{j bad and accepted}/K is
at most δ/m; add the m of them. ∎ A p-value may be raised to 1 by a rule that looks only at the
picture: that only takes terms from the sum. Taking a of the K pictures out afterwards multiplies
the share by at most K/(K − a).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.fidelity import largest_float32

# --- One image's loss as a function of the threshold, reduced to its breakpoints (exact, tiny).

_STRIDE = 64  # subsample: its sort costs less than one pass over the image
_GROUP, _APART = 8, 2048  # pixels that are looked at together, and how far apart they are
_UPPER_HALF = 1 if np.little_endian else 0  # where the upper 16 bits of a float32 lie

_LOWER: Final = np.uint32(0xFFFF)  # the bits of a float32 that `coarse` drops


@dataclass(frozen=True, slots=True, eq=False)
class LossCurve:
    """The breakpoints of L(t): at `levels[k]` the loss rises to `errors[k]`.

    Both are float32 and strictly increasing; below `levels[0]`, or without breakpoints, it is 0.
    """

    levels: NDArray[np.float32]
    errors: NDArray[np.float32]

    def __post_init__(self) -> None:
        levels = np.ascontiguousarray(self.levels, np.float32)
        errors = np.ascontiguousarray(self.errors, np.float32)
        if levels.ndim != 1 or levels.shape != errors.shape:
            raise ValueError("levels and errors must be vectors of the same length")
        if not (np.isfinite(levels).all() and np.isfinite(errors).all()):
            raise ValueError("levels and errors must be finite")
        rising = (levels[1:] > levels[:-1]).all() and (errors[1:] > errors[:-1]).all()
        if not rising or (errors.size and errors[0] <= 0):
            raise ValueError("levels and errors must be strictly increasing, errors above 0")
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "errors", errors)

    def __len__(self) -> int:
        return len(self.levels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LossCurve):
            return NotImplemented
        return np.array_equal(self.levels, other.levels) and np.array_equal(
            self.errors, other.errors
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_maps(cls, indecision: NDArray[np.float32], error: NDArray[np.float32]) -> LossCurve:
        """Make the loss curve of an image from σ and D, float32 [H, W], both finite.

        Raises:
            ValueError: shapes differ, the maps are empty, or a value is not finite or negative.
        """
        if indecision.shape != error.shape or indecision.size == 0:
            raise ValueError(
                f"σ {indecision.shape} and D {error.shape} must be of one non-empty shape"
            )
        sigma = np.ascontiguousarray(indecision, np.float32).reshape(-1)
        loss = np.ascontiguousarray(error, np.float32).reshape(-1)
        # min and max are NaN if any value is, without a temporary of the image.
        sigma_low, sigma_high = sigma.min(), sigma.max()
        loss_low, loss_high = loss.min(), loss.max()
        if not (np.isfinite(sigma_low) and np.isfinite(sigma_high)):
            raise ValueError("σ contains values that are not finite")
        if not (loss_low >= 0 and np.isfinite(loss_high)):
            raise ValueError("D contains values that are negative or not finite")
        coarse_levels, coarse_errors = _running_maximum(sigma[::_STRIDE], loss[::_STRIDE])
        if sigma_low >= 0:
            candidates = _not_beaten(sigma, loss, coarse_levels, coarse_errors)
            sigma, loss = sigma[candidates], loss[candidates]
        exceeds = loss > _steps_at(coarse_levels, coarse_errors, sigma)
        return cls(
            *_running_maximum(
                np.concatenate([coarse_levels, sigma[exceeds]]),
                np.concatenate([coarse_errors, loss[exceeds]]),
            )
        )

    def coarse(self, most: float) -> LossCurve:
        """Return a coarser curve that is nowhere smaller, up to the largest error that counts.

        Levels are rounded down and errors up to 8 significant bits.
        """
        errors = np.minimum(coarse_up(self.errors), largest_float32(most))
        return LossCurve(*_running_maximum(coarse_down(self.levels), errors))

    def counted(self, most: float) -> LossCurve:
        """Return the loss curve of min(D, most).

        Raises:
            ValueError: `most` is not positive.
        """
        if not most > 0:
            raise ValueError("errors can only be counted up to a positive number")
        limit = largest_float32(most)
        # The first error that reaches the limit is the last one to rise.
        count = int(np.searchsorted(self.errors, limit, side="left")) + 1
        return LossCurve(self.levels[:count], np.minimum(self.errors[:count], limit))

    def exceeding(self, tolerance: float) -> LossCurve:
        """Return the loss curve of 1{D > τ}, which rises once, where L exceeds the tolerance."""
        first = int(np.searchsorted(self.errors.astype(np.float64), tolerance, side="right"))
        return LossCurve(
            self.levels[first : first + 1], np.ones_like(self.errors[first : first + 1])
        )

    def losses(
        self, thresholds: NDArray[np.floating], side: Literal["left", "right"]
    ) -> NDArray[np.float32]:
        """L(t−) of each threshold for "left", L(t) for "right"; float32 of their shape."""
        return _steps_at(self.levels, self.errors, thresholds, side)

    def loss(self, threshold: float) -> float:
        """Return L(t), the worst error over the pixels with σ ≤ t, 0 without any."""
        return float(self.losses(np.array([threshold]), "right")[0])

    def loss_below(self, threshold: float) -> float:
        """Return L(t−), the worst error over the mask {σ < t}, 0 if it is empty."""
        index = int(np.searchsorted(self.levels, threshold, side="left"))
        return float(self.errors[index - 1]) if index else 0.0


class LossCurves(Sequence[LossCurve]):
    """Many loss curves in two arrays; each curve is made when it is read.

    levels, errors: float32 [N] of all breakpoints. lengths: int64, how many each curve has.
    """

    def __init__(
        self, levels: NDArray[np.float32], errors: NDArray[np.float32], lengths: NDArray[np.int64]
    ) -> None:
        self.levels, self.errors, self.lengths = levels, errors, lengths
        self.ends = np.cumsum(lengths)

    @classmethod
    def of(cls, curves: Iterable[LossCurve]) -> LossCurves:
        """Join these curves."""
        all_curves = list(curves)
        nothing = np.empty(0, np.float32)
        return cls(
            np.concatenate([*(curve.levels for curve in all_curves), nothing]),
            np.concatenate([*(curve.errors for curve in all_curves), nothing]),
            np.array([len(curve) for curve in all_curves], np.int64),
        )

    def check(self) -> None:
        """Check what a file holds, all curves at once.

        Raises:
            ValueError: the lengths do not add up, or as of each `LossCurve`.
        """
        if (self.lengths < 0).any() or self.lengths.sum() != len(self.levels):
            raise ValueError("the lengths do not add up")
        firsts = (self.ends - self.lengths)[self.lengths > 0]
        rising = (self.levels[1:] > self.levels[:-1]) & (self.errors[1:] > self.errors[:-1])
        rising[firsts[1:] - 1] = True  # from one to the next
        finite = np.isfinite(self.levels).all() and np.isfinite(self.errors).all()
        if not finite or not rising.all() or (self.errors[firsts] <= 0).any():
            raise ValueError("levels and errors must be finite, rising, and errors above 0")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> LossCurve:  # type: ignore[override]
        end = self.ends[place]
        own = slice(end - self.lengths[place], end)
        curve = object.__new__(LossCurve)
        object.__setattr__(curve, "levels", self.levels[own])
        object.__setattr__(curve, "errors", self.errors[own])
        return curve

    def __iter__(self) -> Iterator[LossCurve]:
        return (self[place] for place in range(len(self)))

    def take(self, places: NDArray[np.int64]) -> LossCurves:
        """Return the curves at these places, in this order."""
        lengths = self.lengths[places]
        starts = np.repeat((self.ends - self.lengths)[places], lengths)
        steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return LossCurves(self.levels[starts + steps], self.errors[starts + steps], lengths)

    def losses_below(self, threshold: float) -> NDArray[np.float64]:
        """Return L(t−) of each curve, float64."""
        counts = np.add.reduceat(np.append(self.levels < threshold, False), self._starts)
        counts[self.lengths == 0] = 0
        before = self.ends - self.lengths + counts - 1
        losses = np.append(self.errors, np.float32(0))[np.where(counts > 0, before, -1)]
        return np.asarray(losses.astype(np.float64))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.asarray(self.ends - self.lengths)


def coarse_down(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest float32 of 8 significant bits ≤ each level; 0 stays 0."""
    bits = (levels + np.float32(0)).view(np.uint32)  # −0 becomes 0
    bits = np.where(levels < 0, bits + _LOWER, bits)  # sign and magnitude: down is away from 0
    return np.asarray(bits & ~_LOWER).view(np.float32)


def coarse_up(errors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smallest float32 of 8 significant bits ≥ each error, which is ≥ 0."""
    bits = np.ascontiguousarray(errors, np.float32).view(np.uint32)
    return np.asarray((bits + _LOWER) & ~_LOWER).view(np.float32)


def _running_maximum(
    sigma: NDArray[np.float32], loss: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Breakpoints of the running maximum of `loss` in the order of `sigma`, ties closed first."""
    sigma = sigma + np.float32(0)  # −0 and 0 are one level
    order = np.argsort(sigma)  # of any order within a level only the largest loss is kept
    sigma = sigma[order]
    running = np.maximum.accumulate(loss[order])
    last = last_of_level(sigma)
    sigma, running = sigma[last], running[last]
    rises = np.append(running[:1] > 0, running[1:] > running[:-1])
    return sigma[rises], running[rises]


def last_of_level(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the last entry of each run of equal values in a sorted vector."""
    return np.append(levels[1:] > levels[:-1], True)[: len(levels)]


def _steps_at(
    levels: NDArray[np.float32],
    errors: NDArray[np.float32],
    at: NDArray[np.floating],
    side: Literal["left", "right"] = "right",
) -> NDArray[np.float32]:
    steps = np.append(np.float32(0), errors)
    return steps[np.searchsorted(levels, at, side=side)]


def _not_beaten(
    sigma: NDArray[np.float32],
    loss: NDArray[np.float32],
    levels: NDArray[np.float32],
    errors: NDArray[np.float32],
) -> NDArray[np.intp]:
    """First pass: indices of the pixels that exceed the table entry of their bucket (σ ≥ 0)."""
    # The upper half of the bits of a float32 is its bucket; with zeros below, its lower edge.
    edges = (np.arange(1 << 15, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(invalid="ignore"):  # buckets of NaN are never looked up
        table = _steps_at(levels, errors, edges)

    def entry(sigma: NDArray[np.float32]) -> NDArray[np.float32]:
        bucket = sigma.view(np.uint16)[..., _UPPER_HALF::2] & np.uint16(0x7FFF)  # −0 belongs to 0
        return table.take(bucket)

    whole = len(sigma) - len(sigma) % (_GROUP * _APART)
    groups = (-1, _GROUP, _APART)
    lowest = sigma[:whole].reshape(groups).min(axis=1)
    highest = loss[:whole].reshape(groups).max(axis=1)
    run, place = np.nonzero(highest > entry(lowest))
    members = (run * (_GROUP * _APART) + place)[:, None] + _APART * np.arange(_GROUP)
    left = np.append(members, np.arange(whole, len(sigma)))
    return left[loss[left] > entry(sigma[left])]


# --- Step curves: the thresholds, masks and trust levels that follow from calibration scenes.

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


# --- What to expect of a calibration, from its own loss curves: repeated random splits.

MOST_TRUSTED: Final = 0.95
"""Share of the calibrating area beyond which nothing more is trusted: an α that would trust it all
promises nothing about where errors are."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What is known of each pair of a calibration.

    spots: the loss curves of its spots. scenes: its scene. weights: what it counts of that.
    sigma_quantiles: float32 [pairs, q], evenly spaced, from 0 to 1. losses_at: the mean loss of the
    spots of each, float64 [pairs], inside {σ < t}.
    """

    spots: Sequence[Sequence[LossCurve]]
    scenes: Sequence[Hashable]
    weights: Sequence[Fraction]
    sigma_quantiles: NDArray[np.float32]
    losses_at: Callable[[float], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class BacktestRow:
    """One α: mean, 5 % and 95 % quantile over the splits.

    violations: share of the splits whose served half lost more than α on average: about half for a
    guarantee in expectation; about δ for one with high probability, and more with few scenes.
    """

    alpha: float
    risk: float
    risk_low: float
    risk_high: float
    trusted: float
    trusted_low: float
    trusted_high: float
    violations: float


def backtest(
    pairs: Pairs,
    bound: float,
    alphas: Sequence[float],
    *,
    splits: int = 100,
    seed: int = 0,
    curve_of: Callable[..., StepCurve] = RiskCurve.from_loss_curves,
) -> list[BacktestRow]:
    """Estimate loss and trusted area of held-out halves, for each α.

    curve_of: as `RiskCurve.from_loss_curves`.

    Raises:
        ValueError: fewer than 2 scenes, or no splits.
    """
    members = places_of(pairs.scenes)
    n = len(members)
    if n < 2 or splits < 1:
        raise ValueError("a backtest needs at least 2 images of different scenes and 1 split")
    random = np.random.Generator(np.random.PCG64(seed))
    risks = np.empty((splits, len(alphas)))
    areas = np.empty((splits, len(alphas)))
    for split in range(splits):
        order = random.permutation(n)
        served = np.concatenate([members[k] for k in order[n // 2 :]])
        fitted = [i for k in order[: n // 2] for i in members[k]]
        curve = curve_of(
            [curve for i in fitted for curve in pairs.spots[i]],
            bound,
            scenes=[pairs.scenes[i] for i in fitted for _ in pairs.spots[i]],
            weights=[
                pairs.weights[i] / len(pairs.spots[i]) for i in fitted for _ in pairs.spots[i]
            ],
            highest=highest_trusted(
                pairs.sigma_quantiles[fitted], [pairs.weights[i] for i in fitted]
            ),
        )
        weights = np.array([float(pairs.weights[i]) for i in served])
        for place, alpha in enumerate(alphas):
            threshold = curve.threshold(alpha)
            losses = pairs.losses_at(threshold)[served]
            risks[split, place] = np.average(losses, weights=weights)
            shares = trusted_shares(pairs.sigma_quantiles[served], threshold)
            areas[split, place] = np.average(shares, weights=weights)
    return [
        BacktestRow(
            alpha,
            *_spread(risks[:, place]),
            *_spread(areas[:, place]),
            float((risks[:, place] > alpha).mean()),
        )
        for place, alpha in enumerate(alphas)
    ]


def _spread(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.quantile(values, (0.05, 0.95))
    return float(values.mean()), float(low), float(high)


def sigma_quantiles(sigma: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the quantiles of σ at levels in [0, 1], interpolated in float64.

    The bits are those of `np.quantile`; sorting is faster than selecting a hundred ranks.
    """
    ordered = np.sort(sigma, axis=None)
    place = levels * (ordered.size - 1)
    below = np.floor(place).astype(np.intp)
    low, high = ordered[below], ordered[np.minimum(below + 1, ordered.size - 1)]
    share, step = place - below, high - low
    quantiles = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    return quantiles.astype(np.float32)


def trusted_shares(sigma_quantiles: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return the share of pixels with σ < t of each image, from quantiles [images, q]."""
    below = np.count_nonzero(sigma_quantiles < threshold, axis=1)
    return np.asarray(np.minimum(below / (sigma_quantiles.shape[1] - 1), 1))


def highest_trusted(sigma_quantiles: NDArray[np.float32], weights: Sequence[Fraction]) -> float:
    """Return the least σ that `MOST_TRUSTED` of the images' weighted area does not exceed.

    From evenly spaced quantiles [images, q].
    """
    steps = sigma_quantiles.shape[1] - 1
    values = sigma_quantiles[:, 1:].reshape(-1)
    areas = np.repeat([float(weight) / steps for weight in weights], steps)
    order = np.argsort(values)
    below = np.cumsum(areas[order])
    return float(values[order][np.searchsorted(below, MOST_TRUSTED * below[-1])])


# --- Which pictures may go out without a look: a decision per picture, and one for a whole batch.

TOLERANCES: Final = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
"""The τ to choose from."""

_ONE_IN: Final = 20  # pixels exceed σ_high
_DIGITS: Final = 10_000  # shares are rounded up to whole parts of this
_KEYS: Final = 1 << 15  # of σ: the upper 16 bits of a float32 without a sign
_ROUNDING: Final = 1 + 1e-12


def off_shares(error: NDArray[np.float32]) -> tuple[float, ...]:
    """Return the share of pixels with D > τ for each of `TOLERANCES`, rounded up.

    error: D of a whole picture, float32 [H, W].
    """
    counts = (int(np.count_nonzero(error > tolerance)) for tolerance in TOLERANCES)
    return tuple(-(-count * _DIGITS // error.size) / _DIGITS for count in counts)


class SigmaCounts:
    """Counts the σ of a picture, in strips of any order.

    σ is rounded down to 7 binary digits after the first, in calibration as in answers.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_KEYS, np.int64)

    def add(self, sigma: NDArray[np.float32]) -> None:
        """Count these, float32 of any shape, finite and ≥ 0."""
        keys = (sigma.reshape(-1) + np.float32(0)).view(np.int32)  # −0 becomes 0
        keys >>= 16
        self._counts += np.bincount(keys, minlength=_KEYS)

    def high(self) -> tuple[float, float]:
        """Return the σ that 5 % of the pixels exceed at most; 0 without pixels."""
        below = self._counts.cumsum()
        total = int(below[-1])
        least = (total - total // _ONE_IN, total)
        keys = np.searchsorted(below, least).astype(np.int32)
        sigmas = (keys << 16).view(np.float32)
        return float(sigmas[0]), float(sigmas[1])


def high_sigma(sigma: NDArray[np.float32]) -> tuple[float, float]:
    """Return `SigmaCounts.high` of a whole σ, float32 [H, W]."""
    counts = SigmaCounts()
    counts.add(sigma)
    return counts.high()


def p_value(bad: NDArray[np.float64], n: int, high: float) -> float:
    """Return the p-value of a picture with this σ_high.

    bad: σ_high of the bad ones among the n calibrating pictures, in any order.
    """
    return (1 + int(np.count_nonzero(bad <= high))) / (n + 1)


def passes(bad: NDArray[np.float64], known: NDArray[np.float64], high: float, delta: float) -> bool:
    """Return whether a picture with this σ_high is accepted by itself.

    There must be a σ_high from its own on up to which p ≤ δ and at least half of the pictures are
    good, the new one counted as bad. bad, known: σ_high of the bad ones, and of all of them.
    """
    ends = np.append(known[known >= high], high)
    worse = 1 + np.searchsorted(np.sort(bad), ends, side="right")
    among = 1 + np.searchsorted(np.sort(known), ends, side="right")
    is_rare = worse / (len(known) + 1) <= delta
    return bool((is_rare & (2 * worse <= among)).any())


def accepted_of_batch(p_values: Sequence[float], delta: float) -> list[bool]:
    """Decide which pictures of a batch are accepted, given p-values and δ, in their order."""
    values = np.asarray(p_values, np.float64)
    ranks = np.arange(1, len(values) + 1)
    fits = np.sort(values) * len(values) <= delta * ranks * _ROUNDING
    most = int(ranks[fits].max(initial=0))
    return [bool(fit) for fit in values * len(values) <= delta * most * _ROUNDING]
