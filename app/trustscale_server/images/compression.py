"""How strongly a file was compressed, read from the file itself.

Nothing else known of an upload affects an upscaler's error as much. JPEG files hold quantisation
tables, lossy WebP, AVIF and HEIC files a quantiser, which map to the quality, 1 to 100, of common
encoders. An earlier compression leaves pixels near its coarser grid (`resaved_quality`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.quantisers import avif_quality, heic_quality
from trustscale_server.pixels.lab import LUMA

Codec = Literal["lossless", "jpeg", "webp", "avif", "heic", "palette", "other"]

# The luminance table of ISO/IEC 10918-1, Annex K.1, which encoders scale by their quality.
_ANNEX_K = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


class Compression(NamedTuple):
    """How a file is compressed.

    codec: `other` is lossy or not known. quality: 1 to 100, None if it is not known.
    """

    codec: Codec
    quality: int | None = None

    @property
    def scored_quality(self) -> int | None:
        """The quality that classes and scores depend on: HEIC's was not known when they were made.

        Whether it is below what was calibrated depends on that of any file.
        """
        return None if self.codec == "heic" else self.quality


LOSSLESS, PALETTE = Compression("lossless"), Compression("palette")

_FRAMES: Final[Mapping[str, tuple[Codec, Callable[[bytes], int | None]]]] = {
    "AVIF": ("avif", avif_quality),
    "HEIF": ("heic", heic_quality),
}

TITLES: Final = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "heic": "HEIC"}


def read_compression(data: bytes, image: Image.Image) -> Compression:
    """Return the compression that an opened file declares, without reading its pixels."""
    form = str(image.format)
    if form in {"JPEG", "MPO"}:
        tables = getattr(image, "quantization", None) or {}
        return Compression("jpeg", jpeg_quality(tables[0]) if 0 in tables else None)
    if form == "WEBP":
        return _webp(data)
    if form in _FRAMES:
        codec, quality_of = _FRAMES[form]
        return Compression(codec, quality_of(data))
    if form == "GIF" or image.mode == "P":
        return PALETTE
    tiff_is_lossy = image.info.get("compression") in {"jpeg", "tiff_jpeg", "webp"}
    if form in {"PNG", "BMP", "PPM"} or (form == "TIFF" and not tiff_is_lossy):
        return LOSSLESS
    return Compression("other")


def jpeg_quality(table: list[int]) -> int:
    """Return the quality whose Annex K table is nearest to this luminance table."""
    logs = np.log(np.maximum(np.array(table, np.float64), 1))
    return 1 + int(np.abs(np.log(_tables()) - logs).sum(axis=1).argmin())


def _scale(quality: int) -> int:
    """The factor on Annex K's steps, in percent."""
    return 5000 // quality if quality < 50 else 200 - 2 * quality


@cache
def _tables() -> NDArray[np.int64]:
    """The luminance tables of quality 1 to 100, int64 [100, 64]."""
    scale = np.array([_scale(quality) for quality in range(1, 101)])
    scaled = (_ANNEX_K.reshape(1, 64) * scale[:, None] + 50) // 100
    return np.asarray(np.clip(scaled, 1, 255), np.int64)


def _webp(data: bytes) -> Compression:
    """Of a WebP container (RIFF), whose picture is a chunk `VP8L` (lossless) or `VP8 `."""
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        if name == b"VP8L":
            return LOSSLESS
        if name == b"VP8 ":
            return Compression("webp", _vp8_quality(data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return Compression("other")


class _Bits:
    """The boolean decoder of VP8 (RFC 6386, section 7), for equiprobable bits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 2
        self.value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self.range, self.shift = 255, 0

    def bit(self) -> int:
        split = 1 + (((self.range - 1) * 128) >> 8)
        bit = int(self.value >= split << 8)
        self.value -= (split << 8) * bit
        self.range = self.range - split if bit else split
        while self.range < 128:
            self.value <<= 1
            self.range <<= 1
            self.shift += 1
            if self.shift == 8:
                self.shift = 0
                self.value |= self.data[self.place] if self.place < len(self.data) else 0
                self.place += 1
        return bit

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = 2 * value + self.bit()
        return value

    def signed(self, bits: int) -> int:
        value = self.number(bits)
        return -value if self.bit() else value

    def optional(self, count: int, bits: int) -> list[int]:
        """Signed numbers, each behind a bit that says whether it is there; 0 if not."""
        return [self.signed(bits) if self.bit() else 0 for _ in range(count)]


def _segments(bits: _Bits) -> tuple[bool, list[int]]:
    """Whether the segments' quantisers are absolute, and the four values; none: no segments."""
    with_map, with_data = bits.bit(), bits.bit()
    absolute, quantisers = False, []
    if with_data:
        absolute = bool(bits.bit())
        quantisers = bits.optional(4, 7)
        bits.optional(4, 6)  # their loop filters
    if with_map:
        for _ in range(3):  # the tree of the map
            if bits.bit():
                bits.number(8)
    return absolute, quantisers


def _vp8_quality(frame: bytes) -> int | None:
    """The quality at which libwebp writes the quantiser of a key frame (RFC 6386, section 9)."""
    if len(frame) < 12 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    bits = _Bits(frame[10:])
    bits.number(2)  # colour space, clamping
    absolute, segments = _segments(bits) if bits.bit() else (False, [])
    bits.number(10)  # kind, level and sharpness of the loop filter
    if bits.bit() and bits.bit():  # its adjustments
        bits.optional(8, 6)
    bits.number(2)  # partitions
    base = bits.number(7)
    used = segments if absolute else [base + delta for delta in segments]
    index = float(np.mean(used)) if used else float(base)
    # libwebp: quantiser 127 (1 − c^⅓), with c = ⅔ q up to q = 0.75 and 2q − 1 above.
    linear = (1 - min(max(index, 0), 127) / 127) ** 3
    quality = linear * 1.5 if linear < 0.5 else (linear + 1) / 2
    return min(100, max(1, round(100 * quality)))


GRID = 8  # pixels of a side of the blocks of JPEG
_MAX_BLOCKS = 1024  # that are examined: 256×256 pixels
_SEARCHED = 135  # pixels of a side where the grid is searched
# Orthonormal, to the bit of scipy's `dct`, on which classes depend; scipy is slow to import.
_HALF: Final = np.array(
    [
        [0.35355338, 0.35355338, 0.35355338, 0.35355338],
        [0.49039263, 0.4157348, 0.2777851, 0.09754515],
        [0.46193975, 0.1913417, -0.1913417, -0.46193975],
        [0.41573483, -0.09754515, -0.49039263, -0.27778512],
        [0.35355338, -0.35355338, -0.35355338, 0.35355338],
        [0.27778512, -0.49039263, 0.09754515, 0.41573483],
        [0.1913417, -0.46193975, 0.46193975, -0.1913417],
        [0.09754515, -0.2777851, 0.4157348, -0.49039263],
    ],
    np.float32,
)
_DCT: Final = np.hstack([_HALF, _HALF[:, ::-1]])
_DCT[1::2, GRID // 2 :] *= -1  # the odd waves
# The coefficients that are examined: waves of few periods.
_LOW: Final = np.flatnonzero([0 < row + column < 6 for row, column in np.ndindex(GRID, GRID)])
_RESAVED: Final = np.arange(30, 96)  # qualities whose traces are searched for
_CLEARLY = 3  # by which a quality must be lower than a WebP or AVIF file's
_COARSER, _AGREED = 1.4, 0.28  # how much coarser than a JPEG file's own steps, and agreed
_CERTAIN = 6.0  # standard deviations; never compressed pictures stay below 3
_COARSE = 3.0  # rounding to 8 bits hides smaller steps


def strongest_compression(compression: Compression, rgb: NDArray[np.uint8]) -> Compression:
    """Return the strongest compression that file and pixels show.

    compression: of the file. rgb: uint8 [h, w, 3], from a multiple of 8 pixels on.
    """
    codec, quality = compression.codec, compression.scored_quality
    if codec != "lossless" and quality is None:
        return compression
    if codec == "jpeg" and quality is not None:
        resaved = resaved_quality(rgb, _coarser_than(quality), file_quality=quality)
    else:
        resaved = resaved_quality(rgb, 101 if quality is None else quality - _CLEARLY)
    return compression if resaved is None else Compression("jpeg", resaved)


def _coarser_than(quality: int) -> int:
    """The lowest JPEG quality whose steps are not much larger than those of another."""
    scales = np.array([_scale(candidate) for candidate in range(1, 101)])
    return 1 + int((scales >= _COARSER * _scale(quality)).sum())


def resaved_quality(
    rgb: NDArray[np.uint8], below: int = 101, file_quality: int | None = None
) -> int | None:
    """Return the lower JPEG quality of an earlier compression; None without a trace of one.

    For each quality's table, the mean of cos(2π x/step) over the coefficients x of 8×8 blocks is
    near 1 if that table was used, and has mean 0 and variance ½ per coefficient otherwise. The grid
    is searched at the corner and, for crops, where most coefficients are nearly 0.

    Args:
        rgb: uint8 [h, w, 3].
        below: only lower qualities are searched for.
        file_quality: of the JPEG file. Its multiples of one step agree a little with other steps,
            and well if the smallest do not count: two means must be larger.
    """
    luma = np.asarray(rgb @ LUMA, np.float32)
    for top, left in dict.fromkeys([(0, 0), _grid_place(luma)]):
        quality = _grid_quality(luma[top:, left:], below, file_quality)
        if quality is not None:
            return quality
    return None


def _grid_place(luma: NDArray[np.float32]) -> tuple[int, int]:
    """Where the first whole block probably begins, with most coefficients nearly 0."""
    corner = luma[:_SEARCHED, :_SEARCHED]
    share = np.zeros((GRID, GRID))
    for top, left in np.ndindex(share.shape):
        coefficients = _coefficients(corner[top:, left:])
        share[top, left] = (np.abs(coefficients) < 0.5).mean() if coefficients.size else 0
    top, left = np.unravel_index(int(share.argmax()), share.shape)
    return int(top), int(left)


def _coefficients(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """DCT of whole blocks from the corner, [blocks, 64]."""
    rows, columns = (side // GRID for side in luma.shape)
    tiled = luma[: rows * GRID, : columns * GRID].reshape(rows, GRID, columns, GRID)
    blocks = tiled.swapaxes(1, 2).reshape(-1, GRID, GRID)
    blocks = blocks[:: max(1, -(-len(blocks) // _MAX_BLOCKS))] - np.float32(128)
    coefficients = np.asarray(_DCT @ blocks @ _DCT.T, np.float32)
    return coefficients.reshape(-1, GRID * GRID)


def _grid_quality(luma: NDArray[np.float32], below: int, file_quality: int | None) -> int | None:
    searched = _RESAVED[below > _RESAVED]
    # Of coefficients beyond half a step, then of those beyond half a step of the file's own.
    sums, counts = np.zeros((2, len(searched))), np.zeros((2, len(searched)), np.int64)
    tables = _tables()[searched - 1][:, _LOW]
    smallest = (
        np.full(len(_LOW), np.inf)
        if file_quality is None
        else _tables()[file_quality - 1][_LOW] / 2
    )
    coefficients = _coefficients(luma).T[_LOW]
    for values, of_quality, least in zip(coefficients, tables.T, smallest, strict=True):
        steps, place = np.unique(of_quality, return_inverse=True)  # many qualities share one
        ratio = values / steps.astype(np.float32)[:, np.newaxis]
        is_seen = np.stack([np.abs(ratio) > 0.5, np.abs(values) > least + 0 * ratio])
        is_seen &= (steps >= _COARSE)[:, np.newaxis]
        ratio -= np.rint(ratio)  # the cosine is the same, and float32 suffices
        ratio *= np.float32(2 * np.pi)
        cosines = np.cos(ratio, out=ratio)
        sums += (cosines * is_seen).sum(axis=2, dtype=np.float64)[:, place]
        counts += np.count_nonzero(is_seen, axis=2)[:, place]
    means = np.where(counts >= 16, sums / np.maximum(counts, 1), 0)
    certain = means[0] * np.sqrt(2 * counts[0])
    is_found = (certain >= _CERTAIN) & (certain == certain.max(initial=0))
    if file_quality is not None:
        is_found &= (means >= _AGREED).all(axis=0)
    return int(searched[is_found.argmax()]) if is_found.any() else None
