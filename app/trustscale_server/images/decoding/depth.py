"""Images of more than 8 bits per channel: how deep they are, and what 8 bits keep of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from trustscale_server.platform.errors import BadImage

_ROWS: Final = 64


def depth_of(image: Image.Image, data: bytes) -> int:
    """Return the bits per channel of the file; of colours Pillow keeps the upper 8."""
    if data.startswith(b"\x89PNG") and len(data) > 24:
        return data[24]
    if (tags := getattr(image, "tag_v2", None)) is not None:
        return int(max(np.atleast_1d(tags.get(Base.BitsPerSample, 8))))
    return int(image.info.get("bit_depth") or (16 if image.mode.startswith(("I", "F")) else 8))


def depth_notes(rgb: NDArray[np.uint8], depth: int, *, is_grey: bool) -> list[str]:
    """Return notes on pixels that had more than 8 bits. Raises BadImage: all are black now."""
    top = int(rgb.max())
    if top == 0:
        raise BadImage(
            f"All values of the {depth}-bit image are so small that with 8 bits they are black. "
            "Send stretch=p0,p100 to have them stretched."
        )
    change = "was rounded to 8" if is_grey else "was cut to the upper 8"
    notes = [f"The image has {depth} bits per channel; it {change}. With a stretch all are kept."]
    if top < 64:
        notes.append(
            f"Its brightest value is {top} of 255 then. If the file holds data of 10 or 12 bits, "
            "send stretch=p0,p100: the upscaler sees an almost black image."
        )
    return notes


def from_deep_grey(image: Image.Image, *, is_negative: bool) -> tuple[Image.Image, list[str]]:
    """Round grey of 16 bits, or floats, to 8 bits; with alpha if one value is transparent.

    Values outside 0 … 65,535, or 0 … 1 of floats, are cut, with a note.
    """
    values = np.asarray(image)
    top = 65535 if image.mode.startswith("I") else 1
    grey = np.empty(values.shape, np.uint8)
    cut = 0
    for start in range(0, len(values), _ROWS):  # floats of all would take many times the image
        rows = values[start : start + _ROWS]
        cut += rows.size - int(np.count_nonzero((rows >= 0) & (rows <= top)))
        share = np.clip(np.nan_to_num(rows.astype(np.float64)) / top, 0, 1)
        grey[start : start + _ROWS] = np.rint((1 - share if is_negative else share) * 255)
    notes = [f"{cut:,} of its values lie outside of 0 … {top:,} and were cut."] if cut else []
    shallow = Image.fromarray(grey)
    # At full depth: neighbours that round to the same grey are opaque.
    transparent = image.info.get("transparency")
    if transparent is not None:
        shallow.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return shallow, notes
