"""The overlay: the upscaled image with the untrusted regions drained of colour and tinted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.conformal.lab import Pixels

OPAQUE = 255

# Magenta is rare in photographs and distinct from grey in all common forms of colour blindness.
_TINT = np.array([196, 0, 130], np.float32)
_STRENGTH = np.float32(0.45)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def opaque_part(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Where uint8 [H, W, 3 or 4] is wholly opaque, bool [H, W]; None: everywhere.

    Only there anything can be trusted or not.
    """
    return None if pixels.shape[2] == 3 else pixels[..., 3] == OPAQUE


def overlay(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """uint8 [H, W, 3]: `image`, with the pixels outside `mask` in grey under a magenta tint.

    The brightness stays visible, so one sees what is not to be believed; a line marks the border.
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
