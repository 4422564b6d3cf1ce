"""The hatching of what is not trusted, as in the service's `overlay.png`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pixels between stripes; colours and their opacities.
_HATCH = 8
_STRIPE, _SHADE = ((255, 255, 255), 0.55), ((0, 0, 0), 0.34)
_LINE, _RIM = ((255, 255, 255), 0.95), ((224, 0, 140), 0.9)


def hatched(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """Return an image hatched outside its mask, bool [H, W]; of 16 bits the upper 8.

    What is not opaque stays as it is: it is neither trusted nor guessed.
    """
    picture = image
    if picture.mode.startswith("I"):  # of 16 bits
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    pixels = np.array(picture.convert("RGB"))
    untrusted = ~mask & (alpha == 255)
    height, width = untrusted.shape
    place = (np.arange(height)[:, None] + np.arange(width)) % _HATCH
    line = untrusted & _beside(mask)
    rim = untrusted & ~line & _beside(line)
    drawn = pixels.copy()
    for where, (colour, opacity) in (
        (untrusted & (place == 0), _STRIPE),
        (untrusted & (place == 1), _SHADE),
        (rim, _RIM),
        (line, _LINE),
    ):
        under = pixels[where].astype(np.float32) * (1 - opacity)
        drawn[where] = np.rint(under + np.multiply(colour, opacity, dtype=np.float32))
    overlay = Image.fromarray(drawn)
    if image.has_transparency_data:
        overlay.putalpha(Image.fromarray(alpha))
    return overlay


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels have a neighbour of the mask above, below, left or right."""
    wide = np.pad(mask, 1)
    return wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
