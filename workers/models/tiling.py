"""Padding, tile positions and merging, all decided by sizes in low-resolution pixels.

Follows SinSR's tiling ("chopping", Wang et al. 2024): overlapping tiles, each an
independent image with its own padding and noise, merged by a plain average.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Box:
    """A tile: rows top..bottom and columns left..right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows in the tile."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns in the tile."""
        return self.right - self.left


def starts(length: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin along one side: every `stride`, the last moved back to fit."""
    if length <= tile:
        return [0]
    # dict, because two starts can be moved to the same place; it keeps the order
    return list(dict.fromkeys(min(start, length - tile) for start in range(0, length, stride)))


def boxes(height: int, width: int, tile: int, stride: int) -> Iterator[Box]:
    """The tiles of a height×width image in running order, rows outermost."""
    for top in starts(height, tile, stride):
        for left in starts(width, tile, stride):
            yield Box(top, min(top + tile, height), left, min(left + tile, width))


def padded(size: int, multiple: int) -> int:
    """`size` rounded up to a multiple of `multiple`."""
    return -(-size // multiple) * multiple


def pad_reflect(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad the bottom and the right to multiples of `multiple` by mirroring.

    The edge pixel is not repeated. Up to a pad of size-1 this is the ordinary reflection
    that SinSR uses. Beyond it (sides of half a multiple and less, for which the original
    fails) the mirror image is mirrored again, as often as needed; a side of one pixel is
    repeated. That is our own rule: it continues the ordinary one without a seam.

    Args:
        image: [..., H, W], any dtype.
        multiple: what both sides must be multiples of.

    Returns:
        [..., H', W']; the input itself when nothing is missing.
    """
    for dim in (-2, -1):
        size = image.shape[dim]
        target = padded(size, multiple)
        if target != size:
            period = max(2 * (size - 1), 1)
            position = torch.arange(target, device=image.device) % period
            mirrored = torch.where(position < size, position, period - position)
            image = image.index_select(dim, mirrored)
    return image


class Merger:
    """Averages overlapping upscaled tiles of several samples at once.

    The sums live in host memory: a whole upscaled image in float32 is large, and the device
    holds just one tile of it.
    """

    def __init__(self, samples: int, height: int, width: int, scale: int) -> None:
        self._scale = scale
        shape = (3, height * scale, width * scale)
        self._sum = torch.zeros((samples, *shape), dtype=torch.float32)
        self._count = torch.zeros(shape[1:], dtype=torch.float32)

    def add(self, box: Box, first: int, tiles: torch.Tensor) -> None:
        """Add one tile's results, for the samples from `first` on.

        Args:
            box: the tile's place in the low-resolution image.
            first: index of the sample that tiles[0] belongs to.
            tiles: float32[b, 3, k*box.height, k*box.width].
        """
        k = self._scale
        rows, columns = slice(k * box.top, k * box.bottom), slice(k * box.left, k * box.right)
        self._sum[first : first + len(tiles), :, rows, columns] += tiles.cpu()
        if first == 0:
            self._count[rows, columns] += 1

    def result(self) -> torch.Tensor:
        """The averages, float32[samples, 3, kH, kW]. Reuses the sums: call it once."""
        return self._sum.div_(self._count)
