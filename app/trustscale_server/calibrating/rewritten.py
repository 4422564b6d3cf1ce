"""Where a model has rewritten a photograph most, by structure and contrast, with its truth.

A squared error finds bright edges that are a pixel off. People see something else: a fence that
became wires, letters that became others. So both pictures are compared as SSIM compares structure
(Wang et al. 2004, eq. 10): how much their local patterns correlate, whatever their brightness,
where both of them have a pattern that can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.filters import gaussian_blur
from trustscale_server.pixels.lab import LUMA

SIDE: Final = 128
"""Pixels a side of the square that is shown around a place."""

# Deviations of Gaussians, in pixels.
_FINE: Final = 1.0  # what is finer is grain, or an edge half a pixel off
_COARSE: Final = 4.0  # what is coarser was in what the model got
_NEAR: Final = 5.0  # over which patterns are compared
_AROUND: Final = 18.0  # over which people see that something else is there

# Contrasts, in steps of 255.
_VISIBLE: Final = 3.0  # of a pattern that is just seen
_ENOUGH: Final = 20.0  # from here on more contrast makes nothing worse


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A place that was rewritten.

    box: left, top, right and bottom of a square around it, in pixels. badness: in [0, 1]; 0: the
    same pattern, or none that can be seen; 1: the opposite of a strong one.
    """

    box: tuple[int, int, int, int]
    badness: float


def badness(truth: NDArray[np.uint8], output: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much each place was rewritten, float32 [H, W] in [0, 1].

    truth, output: uint8 [H, W, 3], of one size.

    Raises:
        ValueError: they differ in shape.
    """
    if truth.shape != output.shape:
        raise ValueError(f"truth and output differ in shape: {truth.shape} and {output.shape}")
    ours, theirs = (_pattern(picture) for picture in (output, truth))

    def mean(product: NDArray[np.float32]) -> NDArray[np.float32]:
        return gaussian_blur(product, _NEAR)

    contrasts = np.sqrt(np.maximum(mean(ours * ours) * mean(theirs * theirs), 0))
    shared = mean(ours * theirs)
    structure = (shared + _VISIBLE**2) / (contrasts + _VISIBLE**2)
    strength = np.clip((np.sqrt(contrasts) - _VISIBLE) / (_ENOUGH - _VISIBLE), 0, 1)
    apart = np.asarray(np.clip((1 - structure) / 2, 0, 1) * strength, np.float32)
    return gaussian_blur(apart, _AROUND)


def worst(
    truth: NDArray[np.uint8], output: NDArray[np.uint8], count: int = 1, *, side: int = SIDE
) -> list[Rewritten]:
    """Return the places that were rewritten most, the worst first, whose squares do not overlap.

    Fewer than `count` where nothing else was rewritten. Shapes as of `badness`.
    """
    values = badness(truth, output).copy()
    height, width = values.shape
    side = min(side, height, width)
    places = []
    for _ in range(count):
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        bad = float(values[y, x])
        if bad == 0:
            break
        left = int(np.clip(x - side // 2, 0, width - side))
        top = int(np.clip(y - side // 2, 0, height - side))
        places.append(Rewritten((left, top, left + side, top + side), bad))
        rows = slice(max(0, top - side // 2), top + side + side // 2)
        values[rows, max(0, left - side // 2) : left + side + side // 2] = 0
    return places


def _pattern(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Lightness without what is finer or far coarser than a pattern, float32 [H, W]."""
    lightness = picture[..., :3].astype(np.float32) @ LUMA
    fine = gaussian_blur(lightness, _FINE)
    return np.asarray(fine - gaussian_blur(lightness, _COARSE), np.float32)
