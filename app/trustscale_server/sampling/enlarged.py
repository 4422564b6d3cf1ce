"""E, the input X enlarged by no model: what σ compares the samples with."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import enlarged_rows

# The enlargement of a strip depends on two more rows of the input; one is spare.
_MARGIN = 3


class Enlarged:
    """Rows of E, X enlarged k times by no model; slicing (`enlarged[top:bottom]`) makes them.

    Bicubic. Pillow computes 8 bits in integers, so they are the same on every machine and in every
    strip. 16 bits it computes in floating point: their last bit may depend on where a strip begins,
    if k is no power of two; strips begin at the same rows on every machine. It is part of σ:
    another filter would be another estimator.
    """

    def __init__(self, rgb: Pixels, scale: int) -> None:
        height, width = rgb.shape[:2]
        self.shape = (scale * height, scale * width, 3)
        self._rgb = rgb
        self._scale = scale

    def __getitem__(self, rows: slice) -> Pixels:
        """Pixels as of X, [bottom − top, k·w, 3]; of X itself where k = 1."""
        top, bottom, _ = rows.indices(self.shape[0])
        k, width = self._scale, self.shape[1]
        if k == 1 or self._rgb.dtype == np.uint16:
            return enlarged_rows(self._rgb, k, top, bottom)
        first = max(0, top // k - _MARGIN)
        strip = self._rgb[first : -(-bottom // k) + _MARGIN]
        # Along the rows first, as Pillow does, then only what is wanted. Its box is of float32,
        # where parts of a pixel are exact if k is a power of two.
        step = 1 if k & (k - 1) == 0 else k
        above, below = top - top % step, bottom + -bottom % step
        wide = Image.fromarray(strip).resize((width, len(strip)), Image.Resampling.BICUBIC)
        box = (0, above / k - first, width, below / k - first)
        tall = wide.resize((width, below - above), Image.Resampling.BICUBIC, box=box)
        return np.asarray(tall)[top - above : bottom - above]
