"""Pictures in other sizes, of 8 or 16 bits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, Field

Scalar = TypeVar("Scalar", np.bool_, np.uint16)

_SCREENS: Final = {"4k": 3840, "8k": 7680}
_PAPER_MM: Final = {"a0": 1189, "a1": 841, "a2": 594, "a3": 420, "a4": 297, "a5": 210, "a6": 148}
_REACH: Final = 3  # rows that an enlarged row depends on to either side, and one more


def _longest_side(value: Any) -> int:
    """The longest side in pixels of a number, a screen or a print like `a3@300`.

    Raises ValueError.
    """
    text = str(value).strip().lower()
    if text in _SCREENS:
        return _SCREENS[text]
    if re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        return int(text)
    printed = re.fullmatch(r"(a\d)@([1-9]\d{0,4})", text, re.ASCII)
    if printed is None or printed[1] not in _PAPER_MM:
        raise ValueError(
            f"{value!r} is no longest side in pixels (3000), no screen ({', '.join(_SCREENS)}) and "
            f"no print with its dots per inch (a3@300; {min(_PAPER_MM)} to {max(_PAPER_MM)})"
        )
    return round(_PAPER_MM[printed[1]] / 25.4 * int(printed[2]))


LongestSide = Annotated[
    int, BeforeValidator(_longest_side, json_schema_input_type=Annotated[int, Field(ge=1)] | str)
]


def resized(
    pixels: NDArray[Any], size: tuple[int, int], resample: Image.Resampling
) -> NDArray[Any]:
    """Return uint8, uint16 or float32 [h, w] or [h, w, c] in another size (width, height)."""
    if pixels.ndim == 2 or (pixels.dtype == np.uint8 and pixels.shape[2] in {3, 4}):
        return np.asarray(Image.fromarray(pixels).resize(size, resample))
    planes = np.moveaxis(pixels, 2, 0)  # all other colours Pillow lacks
    return np.dstack([np.asarray(Image.fromarray(p).resize(size, resample)) for p in planes])


def enlarged_rows(pixels: NDArray[Any], scale: int, top: int, bottom: int) -> NDArray[Any]:
    """Return rows of the bicubic enlargement of a picture, [bottom − top, k·w] or [..., c].

    They are those of the whole enlargement, as exactly as Pillow computes the type: only the rows
    that they depend on are enlarged. Types are those of `resized`.
    """
    if scale == 1:
        return pixels[top:bottom]
    first = max(0, top // scale - _REACH)
    strip = pixels[first : -(-bottom // scale) + _REACH]
    size = scale * strip.shape[1], scale * len(strip)
    large = resized(strip, size, Image.Resampling.BICUBIC)
    return large[top - scale * first : bottom - scale * first]


def size_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the (width, height) of the same shape with this longest side."""
    share = longest / max(size)
    width, height = (max(1, round(side * share)) for side in size)
    return width, height


def largest_within(values: NDArray[Scalar], height: int, width: int) -> NDArray[Scalar]:
    """Return the largest value that each pixel of a reduction covers, even in part."""
    return np.ascontiguousarray(_largest(_largest(values, height).T, width).T)


def _largest(values: NDArray[Scalar], count: int) -> NDArray[Scalar]:
    """Along the first axis."""
    edges = np.arange(count + 1) * len(values) / count
    first, last = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int) - 1
    largest: NDArray[Scalar] = np.maximum.reduceat(values, first, axis=0)
    np.maximum(largest, values[last], out=largest)
    return largest
