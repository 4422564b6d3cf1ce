"""Parts of a grid that overlap, and how they are put together without seams."""

from collections.abc import Iterable

import torch

from workers.models.tiling import Box, boxes


class Parts:
    """The parts of an [H, W] grid; neighbours share a quarter of a side and fade into each other.

    Args:
        height: of the grid.
        width: of the grid.
        side: most of a part's side.
    """

    def __init__(self, height: int, width: int, side: int) -> None:
        self.size = (height, width)
        self._overlap = max(1, side // 4)
        self.boxes: list[Box] = list(boxes(height, width, side, side - self._overlap))

    def cut(self, grid: torch.Tensor, factor: int = 1) -> list[torch.Tensor]:
        """The parts of [..., factor·H, factor·W]."""
        return [
            grid[
                ...,
                factor * box.top : factor * box.bottom,
                factor * box.left : factor * box.right,
            ]
            for box in self.boxes
        ]

    def join(self, parts: Iterable[torch.Tensor], factor: int = 1) -> torch.Tensor:
        """The grid, float32 [1, C, factor·H, factor·W], of parts float32 [1, C, …] in order."""
        if len(self.boxes) == 1:
            return next(iter(parts))
        height, width = (factor * side for side in self.size)
        total: torch.Tensor | None = None
        weights = torch.zeros(height, width)
        for box, part in zip(self.boxes, parts, strict=True):
            if total is None:
                total = torch.zeros(1, part.shape[1], height, width)
            rows = slice(factor * box.top, factor * box.bottom)
            columns = slice(factor * box.left, factor * box.right)
            weight = self._fade(factor * box.height, factor)[:, None] * self._fade(
                factor * box.width, factor
            )
            total[..., rows, columns] += weight * part
            weights[rows, columns] += weight
        assert total is not None  # noqa: S101 - a grid has parts
        return total / weights

    def _fade(self, length: int, factor: int) -> torch.Tensor:
        """Weights along a side: rising over the overlap, 1 inside."""
        distance = torch.arange(length) + 0.5
        fade = torch.minimum(distance, length - distance) / (factor * self._overlap)
        return fade.clamp(max=1)
