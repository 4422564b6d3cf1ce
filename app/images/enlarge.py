"""E: the input at the size of the output, by no model. What a sample adds to it is the model's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def enlarge(rgb: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """uint8 [k·h, k·w, 3] of uint8 [h, w, 3]: bicubic; `rgb` itself where k = 1.

    Pillow computes it in integers, so it is the same on every machine. It is part of σ, and so of
    the pipeline: another filter would be another estimator.
    """
    if scale == 1:
        return rgb
    height, width = rgb.shape[:2]
    size = (scale * width, scale * height)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
