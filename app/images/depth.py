"""Images of more than 8 bits per channel: how many they have, and what is left of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.conformal.lab import Pixels
from app.errors import BadImage

_BITS: Final = 0x0102  # a tag of TIFF

# 16-bit data that end below a quarter of the range: probably of 10 or 12 bits.
_DARK: Final = 64

_ROWS: Final = 64


def depth_of(image: Image.Image, data: bytes) -> int:
    """Bits per channel of the file; Pillow keeps only the upper 8 of colours."""
    if data.startswith(b"\x89PNG") and len(data) > 24:
        return data[24]
    if (tags := getattr(image, "tag_v2", None)) is not None:
        return int(max(np.atleast_1d(tags.get(_BITS, 8))))
    return int(image.info.get("bit_depth") or (16 if image.mode.startswith(("I", "F")) else 8))


def depth_notes(rgb: NDArray[np.uint8], depth: int, *, is_grey: bool) -> list[str]:
    """Notes on pixels that had more than 8 bits.

    Raises:
        BadImage: nothing is left of them.
    """
    top = int(rgb.max())
    if top == 0:
        raise BadImage(
            f"All values of the {depth}-bit image are so small that with 8 bits they are black. "
            "Send stretch=p0,p100 to have them stretched."
        )
    how = "was rounded to 8" if is_grey else "was cut to the upper 8"
    notes = [f"The image has {depth} bits per channel; it {how}. With a stretch all are kept."]
    if top < _DARK:
        notes.append(
            f"Its brightest value is {top} of 255 then. If the file holds data of 10 or 12 bits, "
            "send stretch=p0,p100: the upscaler sees an almost black image."
        )
    return notes


def from_deep_grey(image: Image.Image, notes: list[str], *, is_negative: bool) -> Image.Image:
    """Grey of 16 bits, or floats, to 8 bits; with alpha if one of its values is transparent.

    Rounded to nearest. What lies outside of 0 … 65,535, or 0 … 1 of floats, is cut, with a note.
    """
    values = np.asarray(image)
    top = 65535 if image.mode.startswith("I") else 1
    grey = np.empty(values.shape, np.uint8)
    cut = 0
    for start in range(0, len(values), _ROWS):  # floats of all would take many times the image
        part = values[start : start + _ROWS]
        cut += part.size - int(np.count_nonzero((part >= 0) & (part <= top)))
        share = np.clip(np.nan_to_num(part.astype(np.float64)) / top, 0, 1)
        grey[start : start + _ROWS] = np.rint((1 - share if is_negative else share) * 255)
    if cut:
        notes.append(f"{cut:,} of its values lie outside of 0 … {top:,} and were cut.")
    shallow = Image.fromarray(grey)
    # Compared at full depth: neighbours that round to the same grey are not transparent.
    transparent = image.info.get("transparency")
    if transparent is not None:
        shallow.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return shallow


def shallow(pixels: Pixels) -> NDArray[np.uint8]:
    """The pixels in 8 bits, rounded; themselves if they are."""
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def deep(pixels: Pixels) -> NDArray[np.uint16]:
    """The pixels in 16 bits; themselves if they are."""
    if pixels.dtype == np.uint16:
        return pixels.view(np.uint16)
    return pixels.astype(np.uint16) * np.uint16(257)
