"""From pixels to network tensors and back; padding, overlapping tiles and their merging."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike

from trustscale_server.upscalers.base import RGB
from trustscale_worker.errors import ModelFailed


@dataclass(frozen=True)
class TileBox:
    """A tile: rows top..bottom and columns left..right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def cut(self, grid: torch.Tensor, factor: int = 1) -> torch.Tensor:
        """Return this tile of [..., factor·H, factor·W] as a view."""
        return grid[
            ..., factor * self.top : factor * self.bottom, factor * self.left : factor * self.right
        ]


def starts(length: int, tile: int, stride: int) -> list[int]:
    """Return where tiles begin along one side, every `stride`; the last is moved back to fit."""
    if length <= tile:
        return [0]
    return list(dict.fromkeys(min(start, length - tile) for start in range(0, length, stride)))


def boxes(height: int, width: int, tile: int, stride: int) -> Iterator[TileBox]:
    """Yield the tiles of an image in running order, rows outermost."""
    for top in starts(height, tile, stride):
        for left in starts(width, tile, stride):
            yield TileBox(top, min(top + tile, height), left, min(left + tile, width))


def pad_reflect(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad the bottom and the right of [..., H, W], on the CPU, to multiples by mirroring.

    Up to a pad of size-1 this is the reflection that SinSR uses. Beyond it (sides of half a
    multiple and less, where the original fails) the mirror image is mirrored again; a side of one
    pixel is repeated.
    """
    pads = [(0, 0)] * (image.ndim - 2) + [(0, -side % multiple) for side in image.shape[-2:]]
    return torch.from_numpy(np.pad(image.numpy(), pads, mode="reflect"))


class Merger:
    """Averages overlapping tiles of several samples, in host memory."""

    def __init__(self, samples: int, channels: int, height: int, width: int, scale: int) -> None:
        self._scale = scale
        shape = (height * scale, width * scale)
        self._sum = torch.zeros((samples, channels, *shape), dtype=torch.float32)
        self._weights = torch.zeros(shape, dtype=torch.float32)

    def add(
        self, box: TileBox, tiles: torch.Tensor, first: int = 0, weight: torch.Tensor | float = 1.0
    ) -> None:
        """Add one tile's results.

        `box` is its place in the low-resolution image, `tiles` float32[b, channels, k*box.height,
        k*box.width], `first` the sample of tiles[0], `weight` of all positions or of each.
        """
        box.cut(self._sum[first : first + len(tiles)], self._scale).add_(weight * tiles.cpu())
        if first == 0:
            box.cut(self._weights, self._scale).add_(weight)

    def result(self) -> torch.Tensor:
        """Return the averages, float32[samples, channels, kH, kW]; call it once."""
        return self._sum.div_(self._weights)


class TiledGrid:
    """A grid in tiles of at most `side`; neighbours overlap by a quarter of it and blend."""

    def __init__(self, height: int, width: int, side: int) -> None:
        self._size = (height, width)
        self._overlap = max(1, side // 4)
        self.boxes: list[TileBox] = list(boxes(height, width, side, side - self._overlap))

    def cut(self, grid: torch.Tensor, factor: int = 1) -> list[torch.Tensor]:
        return [box.cut(grid, factor) for box in self.boxes]

    def join(self, tiles: Sequence[torch.Tensor], factor: int = 1) -> torch.Tensor:
        """Join the tiles, in order, to the grid, float32 [1, C, factor·H, factor·W]."""
        if len(self.boxes) == 1:
            return tiles[0]
        merger = Merger(1, tiles[0].shape[1], *self._size, factor)
        for box, tile in zip(self.boxes, tiles, strict=True):
            fades = (self._fade(factor * side, factor) for side in (box.height, box.width))
            merger.add(box, tile, weight=torch.outer(*fades))
        return merger.result()

    def _fade(self, length: int, factor: int) -> torch.Tensor:
        """Weights along a side: rising over the overlap, 1 inside."""
        distance = torch.arange(length) + 0.5
        fade = torch.minimum(distance, length - distance) / (factor * self._overlap)
        return fade.clamp(max=1)


def to_tensor(image: RGB, device: torch.device | str = "cpu") -> torch.Tensor:
    """Convert [h, w, 3] of 8 or 16 bits to float32[1, 3, h, w] in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.permute(2, 0, 1)[None].float() / np.iinfo(image.dtype).max


def to_pixels(image: torch.Tensor, dtype: DTypeLike = np.uint8) -> RGB:
    """Convert float32[3, H, W], clamped to [0, 1], to rounded uint8 or uint16 [H, W, 3].

    Raises:
        ModelFailed: see `finite`.
    """
    rounded = finite(image).clamp(0, 1).mul_(np.iinfo(dtype).max).round_()
    rounded = rounded.to(torch.uint8 if dtype == np.uint8 else torch.int32)
    return rounded.permute(1, 2, 0).contiguous().cpu().numpy().astype(dtype, copy=False)


def finite(values: torch.Tensor) -> torch.Tensor:
    """Return the values, or raise ModelFailed if some are infinite or NaN.

    NaN would become black, or some code, in all samples: a mask would trust it.
    """
    smallest_and_largest = torch.stack(values.aminmax())  # NaN if any value is
    if not smallest_and_largest.isfinite().all():
        raise ModelFailed(
            "the network gave values that are not finite; in half precision they may be too large"
        )
    return values
