"""PNG files from arrays.

`compress_type=3` is zlib's run-length strategy. With PNG's row filters it gives files as small as
Pillow's default at a quarter of the time; level 1 suffices, since the strategy ignores matches.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

_FAST = {"compress_level": 1, "compress_type": 3}


def png_rgb(rgb: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """An 8-bit RGB (or RGBA) PNG of uint8 [h, w, 3 or 4]."""
    return _png(Image.fromarray(rgb), text)


def png_mask(mask: NDArray[np.bool_], text: Mapping[str, str] | None = None) -> bytes:
    """A 1-bit grey PNG of bool [h, w]; True is white."""
    return _png(Image.fromarray(mask), text)


def png_grey16(values: NDArray[np.uint16], text: Mapping[str, str] | None = None) -> bytes:
    """A 16-bit grey PNG of uint16 [h, w]."""
    return _png(Image.fromarray(values), text)


def _png(image: Image.Image, text: Mapping[str, str] | None) -> bytes:
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info, **_FAST)
    return out.getvalue()
