"""Move an enlarged picture until its reduction agrees with its source.

Ŷ, [k·h, k·w, 3], is moved towards X, [h, w, 3], by back projection (Irani and Peleg 1991):

    Ŷ′ = Ŷ + U(G(X − R(Ŷ)))

R is the antialiased bicubic reduction by k, U the bicubic enlargement, both of Pillow in integers,
G a Gaussian of `softness` pixels of X. Only what X can show is corrected; what is finer than its
pixels stays the model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trustscale_server.pixels.filters import gaussian_blur
from trustscale_server.pixels.lab import Pixels, normalised_lab
from trustscale_server.pixels.resize import enlarged_rows, resized

_ROWS = 64  # of the output that are corrected at once: they stay in the cache


def aligned(sample: Pixels, source: Pixels, softness: float) -> Pixels:
    """Return the sample with the colours of its source, as deep as it was.

    Args:
        sample: Ŷ, uint8 or uint16 [k·h, k·w, 3], k ≥ 1; a scale of 1 is left as it is, since a
            restoration changes X on purpose.
        source: X, [h, w, 3] of the same type.
        softness: standard deviation of G in pixels of X; 0: exact.

    Raises:
        ValueError: the sizes are no multiples of each other, or the types differ.
    """
    height, width = source.shape[:2]
    scale = sample.shape[0] // height
    if sample.shape != (scale * height, scale * width, 3) or sample.dtype != source.dtype:
        raise ValueError(f"{sample.shape} is not a whole number of times {source.shape}")
    if scale == 1:
        return sample
    return _moved(sample, source, _reduced(sample, source), softness)


def _reduced(sample: Pixels, source: Pixels) -> Pixels:
    """R(Ŷ), as large as X."""
    height, width = source.shape[:2]
    return resized(sample, (width, height), Image.Resampling.BICUBIC)


def _moved(sample: Pixels, source: Pixels, reduced: Pixels, softness: float) -> Pixels:
    """Ŷ′, by the difference of X from R(Ŷ)."""
    scale = len(sample) // len(source)
    middle = np.iinfo(source.dtype).max // 2 + 1
    apart = source.astype(np.int32) - reduced + middle
    missing: Pixels = np.clip(apart, 0, np.iinfo(source.dtype).max).astype(source.dtype)
    if softness:
        missing = _blurred(missing, softness)
    result = np.empty_like(sample)
    for top in range(0, len(sample), _ROWS):
        rows = slice(top, top + _ROWS)
        moved = sample[rows].astype(np.int32)
        moved += enlarged_rows(missing, scale, top, top + len(moved))
        moved -= middle
        np.clip(moved, 0, np.iinfo(sample.dtype).max, out=moved)
        result[rows] = moved
    return result


def _blurred(missing: Pixels, softness: float) -> Pixels:
    """The planes blurred by a Gaussian, rounded."""
    planes = [
        gaussian_blur(plane, softness) for plane in np.moveaxis(missing, 2, 0).astype(np.float32)
    ]
    return np.asarray(np.rint(np.stack(planes, axis=2)), missing.dtype)


def consistency_db(sample: Pixels, source: Pixels) -> float:
    """Return how well the reduced sample agrees with its source, as a PSNR in dB, at most 99."""
    return _psnr(_reduced(sample, source), source)


def _psnr(reduced: Pixels, source: Pixels) -> float:
    apart = float(((reduced.astype(np.float64) - source) ** 2).mean())
    apart /= float(np.iinfo(source.dtype).max) ** 2
    return min(99.0, -10 * math.log10(max(apart, 1e-12)))


def _colour_shift(reduced: Pixels, source: Pixels) -> float:
    """How far the mean colour moved, L1 in normalised CIELAB."""
    means = [normalised_lab(pixels).mean(axis=(1, 2)) for pixels in (reduced, source)]
    return float(np.abs(means[0] - means[1]).sum())


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a sample agrees with its source, and what aligning changes.

    db, aligned_db: `consistency_db` before and after. shift: of the mean colour, L1 in normalised
    CIELAB in steps of 100.
    """

    db: float
    aligned_db: float
    shift: float

    @classmethod
    def from_pictures(cls, sample: Pixels, source: Pixels) -> Agreement:
        """Compare an enlarged sample with its source, as exactly as its scale allows."""
        reduced = _reduced(sample, source)
        moved = _moved(sample, source, reduced, 0.0)
        return cls(
            db=_psnr(reduced, source),
            aligned_db=consistency_db(moved, source),
            shift=100 * _colour_shift(reduced, source),
        )

    @property
    def helps(self) -> bool:
        """Whether aligning removes an error that is there to be seen."""
        return self.db < 45 and self.aligned_db > self.db + 1  # dB; at 45 nobody sees it

    def __str__(self) -> str:
        needs = "aligning is of no use"
        if self.helps:
            needs = f"aligning helps: {self.aligned_db:.0f} dB"
        return (
            f"reduced, its pictures agree with the upload to {self.db:.0f} dB; the mean colour "
            f"moves by {self.shift:.1f} of 100 steps; {needs}"
        )
