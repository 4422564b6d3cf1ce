"""Normalised CIELAB of sRGB images, from tables and correctly rounded arithmetic only."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in Y′ (Rec. 601)."""

# Linear sRGB to CIE XYZ (IEC 61966-2-1) and the D65 white point, as in scikit-image.
_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])

# X/Xn, Y/Yn and Z/Zn are integers of 21 bits in one 64-bit word, so that one sum serves all three.
# The unit leaves room for the rounding of the shares: no sum carries into its neighbour.
_XYZ_WIDTH = 21
_XYZ_FIELD = (1 << _XYZ_WIDTH) - 1
_XYZ_UNIT = _XYZ_FIELD - 3

_BLOCK = 1 << 15  # pixels per block: temporaries stay in the cache

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
"""An image of 8 or 16 bits, mostly [H, W, 3]; its largest value is white."""


class Colours(NamedTuple):
    """An image in normalised Lab, float32 [3, H, W], converted once to compare several with it."""

    lab: NDArray[np.float32]


Seen: TypeAlias = Pixels | Colours
"""An image as pixels, [H, W, 3], or as the colours that were computed of them."""


class LabTables(NamedTuple):
    """The tables that colours are looked up in."""

    green_red: NDArray[np.int64]  # [65536]: share of green and red in X, Y, Z, packed
    blue: NDArray[np.int64]  # [256]: share of blue
    f: NDArray[np.float32]  # [2^21]: the Lab function f(t) at t = k / _XYZ_UNIT


@cache
def lab_tables() -> LabTables:
    """Return the tables of this module."""
    red, green, blue = _shares(256)
    t = np.arange(1 << _XYZ_WIDTH) / _XYZ_UNIT
    # Near black the Lab function is a straight line.
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116).astype(np.float32)
    return LabTables((green[:, None] + red).reshape(-1), blue, f)


@cache
def _shares(count: int) -> NDArray[np.int64]:
    """The shares of `count` levels of red, green and blue in X, Y, Z; packed, int64 [3, count]."""
    value = np.arange(count) / (count - 1)
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    share = (_XYZ_FROM_RGB / _WHITE[:, None])[:, :, None] * linear  # [3 XYZ, 3 RGB, count]
    x, y, z = np.rint(share * _XYZ_UNIT).astype(np.int64)
    return np.asarray(x << 2 * _XYZ_WIDTH | y << _XYZ_WIDTH | z)


def check_rgb(rgb: Pixels) -> None:
    """Raise ValueError unless `rgb` is a non-empty [H, W, 3] image of 8 or 16 bits."""
    is_rgb = rgb.ndim == 3 and rgb.shape[2] == 3 and 0 not in rgb.shape
    if rgb.dtype not in (np.uint8, np.uint16) or not is_rgb:
        raise ValueError(
            f"expected a non-empty uint8 or uint16 [H, W, 3] image, got {rgb.dtype} {rgb.shape}"
        )


def check_pair(first: Pixels, second: Pixels) -> None:
    """Raise ValueError unless both are non-empty [H, W, 3] images of one size and depth."""
    check_rgb(first)
    check_rgb(second)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} differ in size")
    if first.dtype != second.dtype:
        raise ValueError(f"{first.dtype} and {second.dtype} differ in depth")


def normalised_lab(rgb: Pixels) -> NDArray[np.float32]:
    """Return normalised Lab, float32 [3, H, W] in [0, 1], of an [H, W, 3] sRGB image."""
    check_rgb(rgb)
    height, width, _ = rgb.shape
    out = np.empty((3, height * width), np.float32)
    pixels = rgb.reshape(-1, 3)
    for start in range(0, height * width, _BLOCK):
        block = slice(start, start + _BLOCK)
        lab_block(pixels[block], out[:, block])
    return out.reshape(3, height, width)


def lab_distance(first: Pixels, second: Pixels) -> NDArray[np.float32]:
    """Return ‖u − v‖₁ per pixel in normalised Lab, float32 [H, W], of two images (`check_pair`)."""
    check_pair(first, second)
    height, width, _ = first.shape
    distance = np.empty(height * width, np.float32)
    first_pixels, second_pixels = (image.reshape(-1, 3) for image in (first, second))
    for block in pixel_blocks(height * width):
        lab, apart = np.empty((2, 3, block.stop - block.start), np.float32)
        lab_block(first_pixels[block], lab)
        lab_block(second_pixels[block], apart)
        distance[block] = l1_apart(lab, apart, out=apart)
    return distance.reshape(height, width)


def l1_apart(
    lab: NDArray[np.float32], other: NDArray[np.float32], *, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return ‖u − v‖₁, float32 [n], of colours, float32 [3, n] each, computed in `out`."""
    np.subtract(lab, other, out=out)
    np.abs(out, out=out)
    return channel_sum(out)


def channel_sum(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum float32 [3, n] over the channels, in their order, into the first."""
    total, second, third = planes
    total += second
    total += third
    return np.asarray(total)


def lab_block(pixels: Pixels, out: NDArray[np.float32]) -> None:
    """Compute normalised Lab of [n, 3] pixels into float32 [3, n]."""
    tables = lab_tables()
    # No index can be out of range; mode="clip" spares numpy the check.
    if pixels.dtype == np.uint16:
        red, green, blue = _shares(1 << 16)
        xyz = red.take(pixels[:, 0], mode="clip")
        xyz += green.take(pixels[:, 1], mode="clip")
        xyz += blue.take(pixels[:, 2], mode="clip")
    else:
        # As a number of two bytes, red and green are the index.
        green_red = np.ndarray(len(pixels), "<u2", np.ascontiguousarray(pixels), strides=(3,))
        xyz = tables.green_red.take(green_red.astype(np.intp), mode="clip")
        xyz += tables.blue.take(pixels[:, 2].astype(np.intp), mode="clip")
    lightness, a, b = out
    tables.f.take(xyz & _XYZ_FIELD, out=b, mode="clip")
    xyz >>= _XYZ_WIDTH
    tables.f.take(xyz & _XYZ_FIELD, out=lightness, mode="clip")
    xyz >>= _XYZ_WIDTH
    tables.f.take(xyz, out=a, mode="clip")
    a -= lightness
    a *= np.float32(500 / 254)
    a += np.float32(0.5)
    np.subtract(lightness, b, out=b)
    b *= np.float32(200 / 254)
    b += np.float32(0.5)
    lightness *= np.float32(1.16)
    lightness -= np.float32(0.16)
    np.maximum(lightness, 0, out=lightness)  # black: 1.16 · 16/116 − 0.16 rounds to −7e-9


def pixel_blocks(count: int) -> list[slice]:
    """Return slices, of a cache-sized block each at most, that cover `count` pixels."""
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def to_8_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the pixels in 8 bits, rounded if they had more."""
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_16_bit(pixels: Pixels) -> NDArray[np.uint16]:
    """Return the pixels in 16 bits, scaled if they had fewer."""
    if pixels.dtype == np.uint16:
        return pixels.view(np.uint16)
    return pixels.astype(np.uint16) * np.uint16(257)
