"""A mask painted on its picture: hatched outside, or faded into another picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from trustscale_server.pixels.lab import Pixels

OPAQUE = 255

# The marking of the page (`js/upscale/paint.js`), as it is near by: colours with their opacity.
# Magenta is rare in photographs, and distinct from grey in all common forms of colour blindness.
_STEP = 8  # pixels from stripe to stripe along an axis
_STRIPE, _SHADE = ((255, 255, 255), 0.55), ((0, 0, 0), 0.34)
_LINE, _RIM = ((255, 255, 255), 0.95), ((224, 0, 140), 0.9)

_STRIP = 256  # rows that are blended together

# What levels of a blurred mask become: all but 0 the mask, or a fade without corners at its ends.
_ANY = [0, *OPAQUE * [OPAQUE]]
_SMOOTH = [round((1 - math.cos(math.pi * k / OPAQUE)) / 2 * OPAQUE) for k in range(OPAQUE + 1)]


def opaque_part(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Return where uint8 [H, W, 3 or 4] is opaque, bool [H, W]; None if everywhere."""
    return None if pixels.shape[2] == 3 else pixels[..., 3] == OPAQUE


def overlay(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """Return `image` in its own colours, hatched outside `mask`, uint8 [H, W, 3].

    A white line with a magenta one inside marks the border.
    """
    height, width = mask.shape
    # Bytes wrap at 256, a multiple of the step.
    along = [np.arange(length).astype(np.uint8) for length in (height, width)]
    place = (along[0][:, None] + along[1]) % _STEP
    doubtful = ~mask
    line = doubtful & _beside(mask)
    rim = doubtful & ~line & _beside(line)
    out = image.copy()
    for where, (colour, opacity) in (
        (doubtful & (place == 0), _STRIPE),
        (doubtful & (place == 1), _SHADE),
        (rim, _RIM),
        (line, _LINE),
    ):
        under = image[where].astype(np.float32)
        out[where] = np.rint(under * (1 - opacity) + np.multiply(colour, opacity, dtype=np.float32))
    return out


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels have a neighbour of the mask above, below, left or right."""
    beside = np.zeros_like(mask)
    beside[1:] |= mask[:-1]
    beside[:-1] |= mask[1:]
    beside[:, 1:] |= mask[:, :-1]
    beside[:, :-1] |= mask[:, 1:]
    return beside


def composed(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], outside: Image.Image, fade: int
) -> NDArray[np.uint8]:
    """Combine the picture inside `mask`, unchanged, with `outside` around it; the edge fades.

    Args:
        picture: uint8 [H, W, 3 or 4]; its transparency stays.
        mask: bool [H, W].
        outside: RGB of any size, resized to the picture (bicubic).
        fade: width of the fade in pixels, all outside the mask.
    """
    height, width = mask.shape
    plain = outside.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.empty_like(picture)
    for top in range(0, height, _STRIP):
        first, bottom = max(0, top - fade), min(height, top + _STRIP)
        share = fading(mask[first : bottom + fade], fade)[top - first :][: bottom - top]
        strip = plain.crop((0, top, width, bottom))
        inside = Image.fromarray(picture[top:bottom])
        if inside.mode == "RGBA":
            strip.putalpha(inside.getchannel("A"))
        pixels[top:bottom] = np.asarray(Image.composite(inside, strip, Image.fromarray(share)))
    return pixels


def fading(mask: NDArray[np.bool_], fade: int) -> NDArray[np.uint8]:
    """Return 255 in the mask, falling to 0 within `fade` pixels beside it, uint8 [h, w].

    What lies near the mask is blurred, which takes a fifth of the time of distances.
    """
    radius = fade // 2
    inside = Image.fromarray(mask).convert("L")
    near = inside
    for along in ((radius, 0), (0, radius)):
        near = near.filter(ImageFilter.BoxBlur(along)).point(_ANY)
    share = near.filter(ImageFilter.BoxBlur(radius)).point(_SMOOTH)
    return np.asarray(ImageChops.lighter(share, inside))
