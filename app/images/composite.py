"""A composite: the picture inside its mask, something plain outside."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

_STRIP = 256  # rows that are blended together


def composed(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], rest: Image.Image, fade: int
) -> NDArray[np.uint8]:
    """The picture where `mask` is true, unchanged; `rest` elsewhere; a smooth fade between.

    Args:
        picture: uint8 [H, W, 3 or 4]; its transparency stays.
        mask: bool [H, W].
        rest: RGB of any size, resized to the picture (bicubic).
        fade: width of the fade in pixels, all outside the mask.
    """
    pixels = picture.copy()
    plain = np.asarray(rest.resize(mask.shape[::-1], Image.Resampling.BICUBIC))
    for top in range(0, len(mask), _STRIP):
        first, rows = max(0, top - fade), slice(top, top + _STRIP)
        share = fading(mask[first : rows.stop + fade], fade)[top - first :][:_STRIP, :, None]
        own, inside = pixels[rows, :, :3], mask[rows, :, None]
        blend = np.rint(own * share + plain[rows] * (1 - share)).astype(np.uint8)
        pixels[rows, :, :3] = np.where(inside, own, blend)
    return pixels


def fading(mask: NDArray[np.bool_], fade: int) -> NDArray[np.float32]:
    """1 in the mask, falling smoothly to 0 beyond `fade` pixels beside it, float32 [h, w]."""
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    away = scipy.ndimage.distance_transform_edt(~mask).astype(np.float32)
    np.minimum(away / (fade + 1), 1, out=away)
    return np.asarray((1 + np.cos(np.pi * away)) / 2, np.float32)
