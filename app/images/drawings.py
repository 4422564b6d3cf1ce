"""Pictures of a mask: the overlay tints what is not trusted, the composite replaces it."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from app.conformal.lab import Pixels

OPAQUE = 255

# Magenta is rare in photographs, and distinct from grey in all common forms of colour blindness.
_TINT = np.array([196, 0, 130], np.float32)
_STRENGTH = np.float32(0.45)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def opaque_part(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Where uint8 [H, W, 3 or 4] is wholly opaque, bool [H, W]; None: everywhere."""
    return None if pixels.shape[2] == 3 else pixels[..., 3] == OPAQUE


def overlay(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """uint8 [H, W, 3]: `image`, with the pixels outside `mask` in grey under a magenta tint.

    The brightness stays visible; a line marks the border.
    """
    out = image.copy()
    untrusted = ~mask
    grey = image[untrusted].astype(np.float32) @ _LUMA
    out[untrusted] = np.rint(grey[:, None] * (1 - _STRENGTH) + _TINT * _STRENGTH)
    out[untrusted & _beside(mask)] = _TINT.astype(np.uint8)
    return out


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels have a neighbour of the mask above, below, left or right."""
    found = np.zeros_like(mask)
    found[1:] |= mask[:-1]
    found[:-1] |= mask[1:]
    found[:, 1:] |= mask[:, :-1]
    found[:, :-1] |= mask[:, 1:]
    return found


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
