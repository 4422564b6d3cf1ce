"""The trace that an earlier JPEG compression left in pixels: they lie near its coarser grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.compression import Compression
from trustscale_server.images.quality.jpeg import luminance_tables, scale_of
from trustscale_server.pixels.lab import LUMA

GRID = 8  # pixels of a side of the blocks of JPEG
_MAX_BLOCKS = 1024  # that are examined: 256×256 pixels
_SEARCHED = 135  # pixels of a side where the grid is searched
# Orthonormal, to the bit of scipy's `dct`, on which classes depend; scipy is slow to import.
_HALF: Final = np.array(
    [
        [0.35355338, 0.35355338, 0.35355338, 0.35355338],
        [0.49039263, 0.4157348, 0.2777851, 0.09754515],
        [0.46193975, 0.1913417, -0.1913417, -0.46193975],
        [0.41573483, -0.09754515, -0.49039263, -0.27778512],
        [0.35355338, -0.35355338, -0.35355338, 0.35355338],
        [0.27778512, -0.49039263, 0.09754515, 0.41573483],
        [0.1913417, -0.46193975, 0.46193975, -0.1913417],
        [0.09754515, -0.2777851, 0.4157348, -0.49039263],
    ],
    np.float32,
)
_DCT: Final = np.hstack([_HALF, _HALF[:, ::-1]])
_DCT[1::2, GRID // 2 :] *= -1  # the odd waves
# The coefficients that are examined: waves of few periods.
_LOW: Final = np.flatnonzero([0 < row + column < 6 for row, column in np.ndindex(GRID, GRID)])
_RESAVED: Final = np.arange(30, 96)  # qualities whose traces are searched for
_CLEARLY = 3  # by which a quality must be lower than a WebP or AVIF file's
_COARSER, _AGREED = 1.4, 0.28  # how much coarser than a JPEG file's own steps, and agreed
_CERTAIN = 6.0  # standard deviations; never compressed pictures stay below 3
_COARSE = 3.0  # rounding to 8 bits hides smaller steps


def strongest_compression(compression: Compression, rgb: NDArray[np.uint8]) -> Compression:
    """Return the strongest compression that file and pixels show.

    compression: of the file. rgb: uint8 [h, w, 3], from a multiple of 8 pixels on.
    """
    codec, quality = compression.codec, compression.scored_quality
    if codec != "lossless" and quality is None:
        return compression
    if codec == "jpeg" and quality is not None:
        resaved = resaved_quality(rgb, _coarser_than(quality), file_quality=quality)
    else:
        resaved = resaved_quality(rgb, 101 if quality is None else quality - _CLEARLY)
    return compression if resaved is None else Compression("jpeg", resaved)


def _coarser_than(quality: int) -> int:
    """The lowest JPEG quality whose steps are not much larger than those of another."""
    scales = np.array([scale_of(candidate) for candidate in range(1, 101)])
    return 1 + int((scales >= _COARSER * scale_of(quality)).sum())


def resaved_quality(
    rgb: NDArray[np.uint8], below: int = 101, file_quality: int | None = None
) -> int | None:
    """Return the lower JPEG quality of an earlier compression; None without a trace of one.

    For each quality's table, the mean of cos(2π x/step) over the coefficients x of 8×8 blocks is
    near 1 if that table was used, and has mean 0 and variance ½ per coefficient otherwise. The grid
    is searched at the corner and, for crops, where most coefficients are nearly 0.

    Args:
        rgb: uint8 [h, w, 3].
        below: only lower qualities are searched for.
        file_quality: of the JPEG file. Its multiples of one step agree a little with other steps,
            and well if the smallest do not count: two means must be larger.
    """
    luma = np.asarray(rgb @ LUMA, np.float32)
    for top, left in dict.fromkeys([(0, 0), _grid_place(luma)]):
        quality = _grid_quality(luma[top:, left:], below, file_quality)
        if quality is not None:
            return quality
    return None


def _grid_place(luma: NDArray[np.float32]) -> tuple[int, int]:
    """Where the first whole block probably begins, with most coefficients nearly 0."""
    corner = luma[:_SEARCHED, :_SEARCHED]
    share = np.zeros((GRID, GRID))
    for top, left in np.ndindex(share.shape):
        coefficients = _coefficients(corner[top:, left:])
        share[top, left] = (np.abs(coefficients) < 0.5).mean() if coefficients.size else 0
    top, left = np.unravel_index(int(share.argmax()), share.shape)
    return int(top), int(left)


def _coefficients(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """DCT of whole blocks from the corner, [blocks, 64]."""
    rows, columns = (side // GRID for side in luma.shape)
    tiled = luma[: rows * GRID, : columns * GRID].reshape(rows, GRID, columns, GRID)
    blocks = tiled.swapaxes(1, 2).reshape(-1, GRID, GRID)
    blocks = blocks[:: max(1, -(-len(blocks) // _MAX_BLOCKS))] - np.float32(128)
    coefficients = np.asarray(_DCT @ blocks @ _DCT.T, np.float32)
    return coefficients.reshape(-1, GRID * GRID)


def _grid_quality(luma: NDArray[np.float32], below: int, file_quality: int | None) -> int | None:
    searched = _RESAVED[below > _RESAVED]
    # Of coefficients beyond half a step, then of those beyond half a step of the file's own.
    sums, counts = np.zeros((2, len(searched))), np.zeros((2, len(searched)), np.int64)
    tables = luminance_tables()[searched - 1][:, _LOW]
    smallest = (
        np.full(len(_LOW), np.inf)
        if file_quality is None
        else luminance_tables()[file_quality - 1][_LOW] / 2
    )
    coefficients = _coefficients(luma).T[_LOW]
    for values, of_quality, least in zip(coefficients, tables.T, smallest, strict=True):
        steps, place = np.unique(of_quality, return_inverse=True)  # many qualities share one
        ratio = values / steps.astype(np.float32)[:, np.newaxis]
        is_seen = np.stack([np.abs(ratio) > 0.5, np.abs(values) > least + 0 * ratio])
        is_seen &= (steps >= _COARSE)[:, np.newaxis]
        ratio -= np.rint(ratio)  # the cosine is the same, and float32 suffices
        ratio *= np.float32(2 * np.pi)
        cosines = np.cos(ratio, out=ratio)
        sums += (cosines * is_seen).sum(axis=2, dtype=np.float64)[:, place]
        counts += np.count_nonzero(is_seen, axis=2)[:, place]
    means = np.where(counts >= 16, sums / np.maximum(counts, 1), 0)
    certain = means[0] * np.sqrt(2 * counts[0])
    is_found = (certain >= _CERTAIN) & (certain == certain.max(initial=0))
    if file_quality is not None:
        is_found &= (means >= _AGREED).all(axis=0)
    return int(searched[is_found.argmax()]) if is_found.any() else None
