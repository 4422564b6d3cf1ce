"""E: the input at the size of the output, by no model. What a sample adds to it is the model's."""

from __future__ import annotations

from PIL import Image

from app.conformal.lab import Pixels
from app.images.reduce import resized

# Input rows beyond a strip that its enlargement depends on are two; one more costs next to nothing.
_MARGIN = 3


class Enlarged:
    """Rows of E by slicing, `enlarged[top:bottom]`: it is never there as a whole.

    Bicubic. Pillow computes it in integers, so it is the same on every machine and in every strip.
    It is part of σ, and so of the pipeline: another filter would be another estimator.

    Args:
        rgb: X, [h, w, 3] of 8 or 16 bits.
        scale: k.
    """

    def __init__(self, rgb: Pixels, scale: int) -> None:
        height, width = rgb.shape[:2]
        self.shape = (scale * height, scale * width, 3)
        self._rgb = rgb
        self._scale = scale

    def __getitem__(self, rows: slice) -> Pixels:
        """Pixels as of X, [bottom − top, k·w, 3]; of X itself where k = 1."""
        top, bottom, _ = rows.indices(self.shape[0])
        if self._scale == 1:
            return self._rgb[top:bottom]
        first = max(0, top // self._scale - _MARGIN)
        strip = self._rgb[first : -(-bottom // self._scale) + _MARGIN]
        size = (self.shape[1], self._scale * len(strip))
        large = resized(strip, size, Image.Resampling.BICUBIC)
        start = self._scale * first
        return large[top - start : bottom - start]
