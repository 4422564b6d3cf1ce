"""Samples accumulated into exact integer sums per pixel, from which every estimator of σ follows.

Memory does not depend on M, nor any bit of the result on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.filters import Kernel, smooth
from trustscale_server.pixels.lab import (
    Colours,
    Pixels,
    Seen,
    channel_sum,
    check_rgb,
    l1_apart,
    lab_block,
    pixel_blocks,
)
from trustscale_server.sampling.sigma.features import Maps, known_terms

# Samples enter the sums as integers in units of 2^-20. The unit is below the error of the Lab
# tables, and 1,024 samples still fit: the largest product M · S2 stays under 2^63.
UNITS_OF_SAMPLE = np.float32(1 << 20)
MAX_SAMPLES = 1024

# Up to this many samples are kept whole: 3 bytes a pixel each, where the sums take 20.
MAX_KEPT = 6

_STRIP = 64  # rows of another image that are made at once

_Moments: TypeAlias = (
    tuple[NDArray[np.float32], None] | tuple[NDArray[np.int32], NDArray[np.float64]]
)


class PixelRows(Protocol):
    """Pixels [H, W, 3], or rows that are made on demand."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice, /) -> Pixels: ...


class Moments:
    """The samples of one request. Another shape or dtype, and measuring no sample, are ValueErrors.

    Args:
        shape: (H, W) of the samples; a trailing channel axis of 3 is accepted.
        enlarged: E, the input X enlarged to the size of the samples, uint8 [H, W, 3]; None: no
            residual.
        samples: how many there will be; None: unknown.
        facts: those of `FACTS` of X, where they are known.
        truth: Y, for `distance`.

    is_asked_once: whether a fitted σ may drop the samples once it has measured them.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        enlarged: PixelRows | None = None,
        samples: int | None = None,
        *,
        facts: Mapping[str, float] | None = None,
        truth: Seen | None = None,
    ) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.count = 0
        self._unfolded: list[Pixels] = []
        # A single one is exact, see `_distance`.
        self._most_kept = samples if samples is not None and samples <= MAX_KEPT else 1
        # S1 per channel, and S2, the squares summed over the channels, as every estimator does.
        self.sums = np.zeros((3, 0), np.int32)
        # float64 holds these integers exactly (1,024 · 3 · 2^40 < 2^53) and adds them faster.
        self.squares = np.zeros(0, np.float64)
        self._enlarged = enlarged
        if enlarged is not None:
            check_rgb(enlarged[:1])
            self._check_size(enlarged.shape)
        self.is_asked_once = False
        self.facts = facts
        self._truth = truth
        if isinstance(truth, Colours):
            self._check_size(truth.lab.shape[1:])
        elif truth is not None:
            self._check(truth)
        pixels = 0 if truth is None else self.shape[0] * self.shape[1]
        self._distances = np.full(pixels, np.nan, np.float32)

    def add(self, rgb: Pixels) -> None:
        """Add one of at most `MAX_SAMPLES` samples, uint8 [H, W, 3], never changed afterwards."""
        self._check(rgb)
        if self.count == MAX_SAMPLES:
            raise ValueError(f"at most {MAX_SAMPLES} samples can be accumulated")
        self.count += 1
        self._unfolded.append(rgb)
        if self.count > self._most_kept:
            self._accumulate_all()

    @property
    def distance(self) -> NDArray[np.float32] | None:
        """‖Y − Ŷ‖₁ in normalised Lab, float32 [H, W], if all colours of Ŷ were looked at.

        So they are looked up once for σ and D. Only of a single sample.
        """
        if self._truth is None or np.isnan(self._distances.min()):
            return None
        return self._distances.reshape(self.shape)

    def _check(self, rgb: Pixels) -> None:
        check_rgb(rgb)
        self._check_size(rgb.shape)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if shape[:2] != self.shape:
            raise ValueError(f"expected a sample of {self.shape}, got {shape[:2]}")

    def _accumulate_all(self) -> None:
        pixels = self.shape[0] * self.shape[1]
        if self._unfolded and not self.squares.size:
            self.sums = np.zeros((3, pixels), np.int32)
            self.squares = np.zeros(pixels, np.float64)
        while self._unfolded:
            sample = self._unfolded.pop().reshape(-1, 3)
            for block in pixel_blocks(pixels):
                _fold(sample[block], self.sums[:, block], self.squares[block])

    def _sums(self, block: slice) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        if not self._unfolded:
            return self.sums[:, block], self.squares[block]
        count = block.stop - block.start
        sums, squares = np.zeros((3, count), np.int32), np.zeros(count, np.float64)
        for sample in self._unfolded:
            _fold(sample.reshape(-1, 3)[block], sums, squares)
        return sums, squares

    def pixel_variance(self) -> NDArray[np.float32]:
        """Return σ^var before smoothing: Σ_c Var_M, a new float32 [H, W] ≥ 0 (paper §2.2)."""
        self.raise_if_empty()
        if self.count == 1:
            return np.zeros(self.shape, np.float32)
        variance = np.empty(self.shape[0] * self.shape[1], np.float32)
        for block in pixel_blocks(len(variance)):
            variance[block] = self._variance_of(*self._sums(block))
        return variance.reshape(self.shape)

    def _variance_of(
        self, sums: NDArray[np.int32], squares: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return np.asarray(
            self._spread(sums, squares) * (1.0 / (self.count * float(UNITS_OF_SAMPLE)) ** 2)
        )

    def raise_if_empty(self) -> None:
        """Raise ValueError unless a sample has been added."""
        if self.count == 0:
            raise ValueError("no samples have been added")

    def _spread(self, sums: NDArray[np.int32], squares: NDArray[np.float64]) -> NDArray[np.int64]:
        """M · S2 − Σ_c S1² in integers: exact, so equal samples give exactly zero."""
        whole = sums.astype(np.int64)
        spread = self.count * squares.astype(np.int64)
        return np.asarray(spread - np.einsum("cn,cn->n", whole, whole))

    def identical(self) -> bool:
        """Return whether all samples so far are the same image (never true of fewer than two)."""
        return self.count > 1 and not any(
            self._spread(*self._sums(block)).any()
            for block in pixel_blocks(self.shape[0] * self.shape[1])
        )

    def departure(self) -> NDArray[np.float32]:
        """Return Σ_c |E_M[μ] − E| in normalised Lab, float32 [H, W]: how far the mean is from E."""
        if self._enlarged is None:
            raise ValueError("σ needs the enlarged input, which was not given")
        self.raise_if_empty()
        plane = np.empty(self.shape, np.float32)
        for top in range(0, self.shape[0], _STRIP):
            bottom = min(top + _STRIP, self.shape[0])
            strip, place = self._enlarged[top:bottom].reshape(-1, 3), plane[top:bottom].reshape(-1)
            for own, block in self._blocks(top, bottom):
                lab = _lab(strip[own])
                place[own] = l1_apart(self._mean(self._moments(block)), lab, out=lab)
        return plane

    def _blocks(self, top: int, bottom: int) -> Iterator[tuple[slice, slice]]:
        """Blocks of the pixels of some rows: their places in these rows, and in the image."""
        first = top * self.shape[1]
        for own in pixel_blocks((bottom - top) * self.shape[1]):
            yield own, slice(first + own.start, first + own.stop)

    def _moments(self, block: slice, out: NDArray[np.float32] | None = None) -> _Moments:
        """Of some pixels, the Lab colours of a single sample, in `out` if given, else S1 and S2."""
        if self.count == 1 and self._unfolded:
            lab = _lab(self._unfolded[0].reshape(-1, 3)[block], out)
            if self._truth is not None:
                # Strips share rows, so two threads may write a pixel: the same finished number.
                self._distances[block] = self._missed(lab, self._truth, block)
            return lab, None
        return self._sums(block)

    def _missed(self, lab: NDArray[np.float32], truth: Seen, block: slice) -> NDArray[np.float32]:
        if isinstance(truth, Colours):
            known = truth.lab.reshape(3, -1)[:, block]
            return l1_apart(lab, known, out=np.empty_like(lab))
        true = _lab(truth.reshape(-1, 3)[block])
        return l1_apart(lab, true, out=true)

    def _mean(self, moments: _Moments) -> NDArray[np.float32]:
        """E_M[μ]; of a single sample itself."""
        own, squares = moments
        mean = own.astype(np.float32, copy=False)
        if squares is not None:
            mean *= np.float32(1.0 / (self.count * float(UNITS_OF_SAMPLE)))
        return mean

    def _distance(self, other: Pixels, moments: _Moments) -> NDArray[np.float32]:
        """E_M Σ_c (μ − other)²; other: the same pixels of E, uint8 [n, 3]."""
        own, squares = moments
        lab = _lab(other)
        if squares is None:
            np.subtract(own, lab, out=lab)
            lab *= lab
            return channel_sum(lab)
        # S2 + Σ_c E (M E − 2 S1), all integers below 2^53, which float64 holds exactly: the order
        # of the samples has no part.
        lab *= UNITS_OF_SAMPLE
        whole = np.rint(lab).astype(np.float64)
        rest = self.count * whole
        rest -= 2.0 * own
        rest *= whole
        distance = squares + rest.sum(axis=0)
        return np.asarray(distance * (1.0 / (self.count * float(UNITS_OF_SAMPLE) ** 2)), np.float32)

    @property
    def known(self) -> frozenset[str]:
        """The names of all terms that can be measured (`MapSource`)."""
        there = {"variance": self.count > 1, "residual": self._enlarged is not None}
        known = {name for name, is_known in there.items() if is_known}
        return known_terms(known, facts=self.facts is not None)

    def maps(self) -> Maps:
        return self.rows(0, self.shape[0])

    def rows(self, top: int, bottom: int) -> Maps:
        """Return the maps of some rows that the terms of a fitted σ are measured on."""
        self.raise_if_empty()
        shape = (bottom - top, self.shape[1])
        mean = np.empty((3, *shape), np.float32)
        variance = np.empty(shape, np.float32) if self.count > 1 else None
        residual = None if self._enlarged is None else np.empty(shape, np.float32)
        enlarged = None if self._enlarged is None else self._enlarged[top:bottom].reshape(-1, 3)
        for place, block in self._blocks(top, bottom):
            own = mean.reshape(3, -1)[:, place]
            moments = self._moments(block, own)
            if moments[1] is not None:
                own[:] = self._mean(moments)
            if variance is not None:
                variance.reshape(-1)[place] = self._variance_of(*self._sums(block))
            if residual is not None and enlarged is not None:
                residual.reshape(-1)[place] = self._distance(enlarged[place], moments)
        return Maps(mean, variance, residual, self.facts)

    def release(self) -> None:
        """Free the maps, as `MapSource` asks."""
        if self.is_asked_once:
            self._unfolded.clear()
            # Not slices of them, which would hold them.
            self.sums, self.squares = np.zeros((3, 0), np.int32), np.zeros(0, np.float64)

    def patch_variance(self, kernel: Kernel, size: int) -> NDArray[np.float32]:
        """Return Σ_c E_M[μ² * K] − (E_M[μ * K])², float32 [H, W] (paper §2.2, σ^ker, literally).

        K is linear, so E_M is taken first. The difference cancels leading digits, hence float64.
        """
        self.raise_if_empty()
        self._accumulate_all()
        unit = self.count * float(UNITS_OF_SAMPLE)
        patch = (self.squares / (unit * float(UNITS_OF_SAMPLE))).reshape(self.shape)
        smooth(patch, kernel, size, out=patch)
        for channel in self.sums:
            mean = (channel / unit).reshape(self.shape)
            smooth(mean, kernel, size, out=mean)
            mean *= mean
            patch -= mean
        return np.maximum(patch, 0, out=patch).astype(np.float32)


def _fold(pixels: Pixels, sums: NDArray[np.int32], squares: NDArray[np.float64]) -> None:
    """Add uint8 [n, 3] to S1 [3, n] and S2 [n]."""
    lab = _lab(pixels)
    lab *= UNITS_OF_SAMPLE
    np.rint(lab, out=lab)
    sums += lab.astype(np.int32)
    square = lab.astype(np.float64)
    square *= square
    for channel in square:
        squares += channel


def _lab(pixels: Pixels, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    lab = np.empty((3, len(pixels)), np.float32) if out is None else out
    lab_block(pixels, lab)
    return lab
