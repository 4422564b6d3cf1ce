"""A picture in overlapping tiles, and what a network makes of each.

An output pixel of a convolutional network depends on the input within a *radius* only: the sum of
(kernel size − 1) / 2 over the convolutions of its longest path. So each tile reads a `halo` of at
least that radius beyond the pixels that it keeps, except at the border of the image, where the
network applies its border treatment. Tiled equals whole up to the order of floating-point sums.

All tiles of one image have the same shape: onnxruntime's memory arena keeps the blocks of every
shape, and other runtimes compile per shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from trustscale_server.upscalers.base import RGB

_STEP = 4  # sides of tiles are multiples of it, for speed

TileTask = Callable[[], tuple[slice, slice]]
"""Fills the area of one tile in an output, and returns its rows and columns."""


class SampleCancelled(Exception):
    """The caller asked to stop; no output exists."""


@dataclass(frozen=True, slots=True)
class TileSpan:
    """One tile along one axis, in input pixels: reads [start, stop), keeps [first, last)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles of at most `tile` pixels a side, each with a `halo`; else ValueError."""

    tile: int
    halo: int

    def __post_init__(self) -> None:
        if self.halo < 0 or self.tile <= 2 * self.halo:
            raise ValueError(
                f"a tile must be larger than its two halos, got tile {self.tile}, halo {self.halo}"
            )

    def side(self, length: int) -> int:
        span = self.spans(length)[0]
        return span.stop - span.start

    def spans(self, length: int) -> list[TileSpan]:
        """Return the tiles along an axis of `length` >= 1 pixels, equally long, at most `tile`.

        Their kept parts partition [0, length); each kept pixel has `halo` pixels on both sides
        inside its tile, or reaches to the image's border.
        """
        if length <= self.tile:
            return [TileSpan(0, length, 0, length)]
        inner = length - 2 * self.halo
        count = -(-inner // (self.tile - 2 * self.halo))
        # 300 pixels become two of about 170, not 288 and a sliver; bfloat16 is slow at odd lengths.
        extent = -(-inner // count) + 2 * self.halo
        extent = min(self.tile, extent + -extent % _STEP)
        step = extent - 2 * self.halo
        starts = [*(i * step for i in range(count - 1)), length - extent]
        seams = [0, *(start + self.halo for start in starts[1:]), length]
        return [
            TileSpan(start, start + extent, first, last)
            for start, first, last in zip(starts, seams[:-1], seams[1:], strict=True)
        ]


def tiled(
    function: Callable[[RGB], RGB], image: RGB, scale: int, plan: TilePlan
) -> tuple[RGB, list[TileTask]]:
    """Compute `function(image)` tile by tile, in any order or side by side.

    Args:
        function: maps a C-contiguous [h, w, 3] to [scale·h, scale·w, 3] of its type.
        image: [h, w, 3], at least 1 x 1.
        scale: the factor of `function`, >= 1.
        plan: no seam if the halo is at least the radius of `function`.

    Returns:
        The output, complete once every task has been called, and the tasks, one a tile, which raise
        ValueError if `function` returned another shape.
    """
    height, width, channels = image.shape
    output = np.empty((scale * height, scale * width, channels), image.dtype)

    def fill(y: TileSpan, x: TileSpan) -> tuple[slice, slice]:
        window = np.ascontiguousarray(image[y.start : y.stop, x.start : x.stop])
        tile = function(window)
        expected = (scale * window.shape[0], scale * window.shape[1], channels)
        if tile.shape != expected:
            raise ValueError(f"expected a tile of {expected}, got {tile.shape}")
        area = (
            slice(scale * y.first, scale * y.last),
            slice(scale * x.first, scale * x.last),
        )
        output[area] = tile[
            scale * (y.first - y.start) : scale * (y.last - y.start),
            scale * (x.first - x.start) : scale * (x.last - x.start),
        ]
        return area

    spans = product(plan.spans(height), plan.spans(width))
    return output, [partial(fill, y, x) for y, x in spans]


def run_tiled(
    function: Callable[[RGB], RGB],
    image: RGB,
    scale: int,
    plan: TilePlan,
    cancelled: Callable[[], bool] = lambda: False,
) -> RGB:
    """Return the complete output of `tiled`; `cancelled` is called before every tile.

    Raises SampleCancelled once `cancelled` returns true, and ValueError as `tiled`.
    """
    output, tiles = tiled(function, image, scale, plan)
    for compute in tiles:
        if cancelled():
            raise SampleCancelled
        compute()
    return output
