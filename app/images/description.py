"""What an upload is: its traces of compression, their description, its kind and class.

**How strongly a file was compressed** is read from the file itself. Nothing else known of an upload
affects an upscaler's error as much. JPEG files hold quantisation tables, lossy WebP and AVIF files
a quantiser, which map to the quality, 1 to 100, of common encoders. An earlier compression leaves
pixels near its coarser grid (`resaved_quality`).

**The description of a picture** is about twenty numbers of each tile, over all of the picture.
Whatever happened to a picture, it left its trace in how strongly neighbouring pixels differ: across
one, two and four pixels, in the luma and in the chroma, along and across, evenly or with a period.
The quantiles over the tiles describe the picture, so that a region that is unlike the others counts
(an enlarged photograph in a collage, a caption). They do not say what a picture shows: the learned
table says what the numbers mean.

**The kind of an upload**, and whether it is of any kind that was calibrated. One table, linear in
the description of the picture and in what its file says, has a row for each *kind*: a usual way of
making uploads (`degrade.USUAL`), or something foreign, as random chains of other programs make it.
`python -m benchmarks.kinds` learns it (multinomial logistic regression). The own kind with the
highest score gives the class. How far the best foreign kind exceeds it is the *strangeness*, which
a calibration turns into a conformal p-value: a table that is wrong costs power, never validity,
since the same function reads calibrating pictures.

**The class** follows from what is known of an input before any generation. The same code runs on
calibration inputs and on uploads. A class is a function of the upload alone, so the curve of a
class holds for its uploads (Mondrian calibration). The rule is part of the pipeline.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.conformal.fidelity import Pixels, to_8_bit

# --- How strongly a file was compressed, read from the file itself.

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


LOSSLESS, PALETTE = Compression("lossless"), Compression("palette")

TITLES: Final = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "heic": "HEIC"}


def read_compression(data: bytes, image: Image.Image) -> Compression:
    """Return the compression that an opened file declares, without reading its pixels."""
    form = str(image.format)
    if form in {"JPEG", "MPO"}:
        tables = getattr(image, "quantization", None) or {}
        return Compression("jpeg", jpeg_quality(tables[0]) if 0 in tables else None)
    if form == "WEBP":
        return _webp(data)
    if form == "AVIF":
        return Compression("avif", avif_quality(data))
    if form == "GIF" or image.mode == "P":
        return PALETTE
    tiff_is_lossy = image.info.get("compression") in {"jpeg", "tiff_jpeg", "webp"}
    if form in {"PNG", "BMP", "PPM"} or (form == "TIFF" and not tiff_is_lossy):
        return LOSSLESS
    return Compression("heic" if form == "HEIF" else "other")


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


_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # of RGB
_GRID = 8  # pixels of a side of the blocks of JPEG
_MOST_BLOCKS = 1024  # that are examined: 256×256 pixels
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
_DCT[1::2, _GRID // 2 :] *= -1  # the odd waves
# The coefficients that are examined: waves of few periods.
_LOW: Final = np.flatnonzero([0 < row + column < 6 for row, column in np.ndindex(_GRID, _GRID)])
_RESAVED: Final = np.arange(30, 96)  # qualities whose traces are searched for
_CLEARLY = 3  # by which a quality must be lower than a WebP or AVIF file's
_COARSER, _AGREED = 1.4, 0.28  # how much coarser than a JPEG file's own steps, and agreed
_CERTAIN = 6.0  # standard deviations; never compressed pictures stay below 3
_COARSE = 3.0  # rounding to 8 bits hides smaller steps


def worst_of(compression: Compression, rgb: NDArray[np.uint8]) -> Compression:
    """Return the strongest compression that file and pixels show.

    compression: of the file. rgb: uint8 [h, w, 3], from a multiple of 8 pixels on.
    """
    codec, quality = compression
    if codec != "lossless" and quality is None:
        return compression
    if codec == "jpeg" and quality is not None:
        resaved = resaved_quality(rgb, _coarser_than(quality), own=quality)
    else:
        resaved = resaved_quality(rgb, 101 if quality is None else quality - _CLEARLY)
    return compression if resaved is None else Compression("jpeg", resaved)


def _coarser_than(quality: int) -> int:
    """The lowest JPEG quality whose steps are not much larger than those of another."""
    scales = np.array([_scale(other) for other in range(1, 101)])
    return 1 + int((scales >= _COARSER * _scale(quality)).sum())


def resaved_quality(rgb: NDArray[np.uint8], below: int = 101, own: int | None = None) -> int | None:
    """Return the lower JPEG quality of an earlier compression; None without a trace of one.

    For each quality's table, the mean of cos(2π x/step) over the coefficients x of 8×8 blocks is
    near 1 if that table was used, and has mean 0 and variance ½ per coefficient otherwise. The grid
    is searched at the corner and, for crops, where most coefficients are nearly 0.

    Args:
        rgb: uint8 [h, w, 3].
        below: only lower qualities are searched for.
        own: of the JPEG file. Its multiples of one step agree a little with other steps, and well
            if the smallest do not count: two means must be larger.
    """
    luma = np.asarray(rgb @ _LUMA, np.float32)
    for top, left in dict.fromkeys([(0, 0), _grid_place(luma)]):
        quality = _grid_quality(luma[top:, left:], below, own)
        if quality is not None:
            return quality
    return None


def _grid_place(luma: NDArray[np.float32]) -> tuple[int, int]:
    """Where the first whole block probably begins, with most coefficients nearly 0."""
    seen = luma[:_SEARCHED, :_SEARCHED]
    share = np.zeros((_GRID, _GRID))
    for top, left in np.ndindex(share.shape):
        coefficients = _coefficients(seen[top:, left:])
        share[top, left] = (np.abs(coefficients) < 0.5).mean() if coefficients.size else 0
    top, left = np.unravel_index(int(share.argmax()), share.shape)
    return int(top), int(left)


def _coefficients(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """DCT of whole blocks from the corner, [blocks, 64]."""
    rows, columns = (side // _GRID for side in luma.shape)
    tiled = luma[: rows * _GRID, : columns * _GRID].reshape(rows, _GRID, columns, _GRID)
    blocks = tiled.swapaxes(1, 2).reshape(-1, _GRID, _GRID)
    blocks = blocks[:: max(1, -(-len(blocks) // _MOST_BLOCKS))] - np.float32(128)
    coefficients = np.asarray(_DCT @ blocks @ _DCT.T, np.float32)
    return coefficients.reshape(-1, _GRID * _GRID)


def _grid_quality(luma: NDArray[np.float32], below: int, own: int | None) -> int | None:
    searched = _RESAVED[below > _RESAVED]
    # Of coefficients beyond half a step, then of those beyond half a step of the file's own.
    sums, counts = np.zeros((2, len(searched))), np.zeros((2, len(searched)), np.int64)
    tables = _tables()[searched - 1][:, _LOW]
    smallest = np.full(len(_LOW), np.inf) if own is None else _tables()[own - 1][_LOW] / 2
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
    if own is not None:
        is_found &= (means >= _AGREED).all(axis=0)
    return int(searched[is_found.argmax()]) if is_found.any() else None


_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # kinds of OBU
_MOST_SIDE, _MOST_PIXELS = 4096, 4096 * 2304  # of a tile

# base_q_idx at which libavif with libaom writes a quality, measured on photographs.
_INDEX: Final = (0, 32, 76, 112, 148, 196, 236, 255)
_QUALITY: Final = (100, 90, 75, 63, 50, 30, 10, 1)


class _Unread(Exception):
    """The file has an unsupported form."""


class _PlainBits:
    """Bits of a byte string, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise _Unread
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)


def avif_quality(data: bytes) -> int | None:
    """Return the quality, 1 to 100, at which libavif writes such a file, or None."""
    place = data.find(b"mdat")
    if place < 0:
        return None
    try:
        return _quality(data[place + 4 :])
    except _Unread:
        return None


def _quality(stream: bytes) -> int:
    size: tuple[int, int, bool] | None = None
    for kind, body in _units(stream):
        if kind == _SEQUENCE:
            size = _sequence(_PlainBits(body[:64]))
        elif kind in {_FRAME, _FRAME_HEADER} and size is not None:
            index = _base_q_idx(_PlainBits(body[:32]), *size)
            return round(float(np.interp(index, _INDEX, _QUALITY)))
    raise _Unread


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(stream):
        head = stream[place]
        if head & 0x82 != 2:  # a forbidden bit, or a unit without its size
            raise _Unread
        place += 2 if head & 4 else 1
        size = shift = 0
        while True:
            if place >= len(stream) or shift > 28:
                raise _Unread
            byte = stream[place]
            place += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield head >> 3 & 15, stream[place : place + size]
        place += size


def _sequence(bits: _PlainBits) -> tuple[int, int, bool]:
    """Width and height in superblocks, and whether frames say if they are superresolved."""
    bits.take(3)  # profile
    if bits.take(2) != 3:  # a still picture with the reduced header
        raise _Unread
    bits.take(5)  # level
    across, down = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(across) + 1, bits.take(down) + 1
    if width > _MOST_SIDE or width * height > _MOST_PIXELS:  # it has to be tiled
        raise _Unread
    side = 128 if bits.take(1) else 64
    bits.take(2)  # filters of intra prediction
    return -(-width // side), -(-height // side), bool(bits.take(1))


def _base_q_idx(bits: _PlainBits, across: int, down: int, may_superres: bool) -> int:
    bits.take(1)  # disable_cdf_update
    for_screens = bits.take(1)
    if for_screens:
        bits.take(1)  # whole motion vectors
    if may_superres and bits.take(1):
        raise _Unread
    if bits.take(1):
        bits.take(32)  # display size
    if for_screens:
        bits.take(1)  # copies within the picture
    if not bits.take(1):  # tiles of one size
        raise _Unread
    tiles = 0
    for most in (across, down):
        log = 0
        while 1 << log < min(most, 64) and bits.take(1):
            log += 1
        tiles += log
    if tiles:
        bits.take(tiles + 2)
    return bits.take(8)


# --- The description of a picture: about twenty numbers of each tile, over all of the picture.

Tiles: TypeAlias = NDArray[np.float32]
"""Planes of tiles, float32 [tiles, h, w]."""

Energies: TypeAlias = NDArray[np.float64]
"""A number of each tile, [tiles]."""

TILE: Final = 32  # pixels; a multiple of the blocks of JPEG
MOST_TILES: Final = 400  # that are described, evenly over the picture
_SMALL: Final = 4 * TILE  # as wide as the inputs that the table was learned from
_QUANTILES: Final = (0.1, 0.5, 0.9)
_LEAST_ENERGY: Final = 0.05  # of differences, as rounding to 8 bits leaves
_TO_YCC: Final = np.array([_LUMA, [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)
_PERIODS: Final = (8, 4, 3, 2)  # of blocks of files, and of interpolation
_LEAST_PROFILE: Final = 24  # pixels, a multiple of all periods


def tiles_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return at most `MOST_TILES` whole tiles of a picture, or all of a small one.

    Quantiles over few tiles say little, so tiles of pictures with a side below `_SMALL` overlap.
    """
    height, width = (min(TILE, side) for side in rgb.shape[:2])
    step = TILE if min(rgb.shape[:2]) >= _SMALL else _GRID  # where tiles begin
    places = sliding_window_view(rgb, (height, width), (0, 1))[::step, ::step]
    tiles = np.moveaxis(places, 2, 4).reshape(-1, height, width, 3)
    return tiles[:: -(-len(tiles) // MOST_TILES)]


def describe(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """Return the numbers of a picture, uint8 [h, w, 3]; the chroma's are NaN for grey."""
    tiles = tiles_of(rgb)
    luma, *chroma = (np.ascontiguousarray(p) for p in np.moveaxis(tiles @ _TO_YCC.T, 3, 0))
    first, second = _both(luma), _both(luma, 2)
    first_energy, second_energy = _energy(*first), _energy(*second)
    levels = {
        **_of_luma(luma, first, second, first_energy, second_energy),
        **_of_chroma(chroma, first_energy, second_energy),
    }
    is_strong = levels["first"] >= np.median(levels["first"])
    numbers: dict[str, float] = {}
    for name, values in levels.items():
        of_all = np.quantile(values, _QUANTILES).tolist()
        of_strong = np.quantile(values[is_strong], _QUANTILES[:2]).tolist()
        for share, number in zip(_QUANTILES, of_all, strict=True):
            numbers[f"{name} {share}"] = number
        for share, number in zip(_QUANTILES, of_strong, strict=False):
            numbers[f"{name} {share} of strong"] = number
    numbers |= _periods("luma", [luma]) | _periods("chroma", chroma)
    numbers |= _of_colours(tiles)
    if not np.ptp(tiles, axis=3).any():
        numbers |= {name: np.nan for name in numbers if name.startswith("chroma")}
    return numbers


def _energy(*planes: Tiles) -> Energies:
    """Logarithm of the mean square of planes together, [tiles]."""
    means = [np.square(p).mean((1, 2)) if p.size else np.zeros(len(p)) for p in planes]
    return np.asarray(np.log(np.mean(means, axis=0, dtype=np.float64) + _LEAST_ENERGY))


def _both(plane: Tiles, order: int = 1) -> tuple[Tiles, Tiles]:
    """Differences across and down."""
    return np.diff(plane, order, axis=2), np.diff(plane, order, axis=1)


def _slanted(plane: Tiles, order: int = 1) -> tuple[Tiles, Tiles]:
    """Differences along both diagonals."""
    differences = []
    for difference in (plane, plane[:, :, ::-1]):
        for _ in range(order):
            difference = difference[:, 1:, 1:] - difference[:, :-1, :-1]  # noqa: PLW2901
        differences.append(difference)
    return differences[0], differences[1]


def _of_luma(
    luma: Tiles,
    first: tuple[Tiles, Tiles],
    second: tuple[Tiles, Tiles],
    first_energy: Energies,
    second_energy: Energies,
) -> dict[str, Energies]:
    """Of each tile: energies of differences against each other, shares of flat pixels.

    first, second: its differences of these orders, across and down, whose energies are given.
    """
    diagonal = np.diff(first[0], axis=1)
    apart = [
        _energy(luma[:, :, step:] - luma[:, :, :-step], luma[:, step:] - luma[:, :-step])
        for step in (2, 4)
    ]
    standing_out = _energy(_standing_out(luma), _standing_out(luma.swapaxes(1, 2)))
    flat = np.mean([(d == 0).mean((1, 2)) if d.size else np.ones(len(d)) for d in first], axis=0)
    middle = (
        np.median(np.abs(diagonal).reshape(len(luma), -1), axis=1)
        if diagonal.size
        else 0 * first_energy
    )
    return {
        "first": first_energy,
        "second": second_energy - first_energy,
        "fourth": _energy(*_both(luma, 4)) - second_energy,
        "apart 2": apart[0] - first_energy,
        "apart 4": apart[1] - apart[0],
        "diagonal": _energy(diagonal) - first_energy,
        "diagonal 2": _energy(np.diff(np.diff(luma, 2, axis=2), 2, axis=1)) - second_energy,
        "standing out": standing_out - second_energy,
        "direction": np.ptp([_energy(d) for d in (*first, *_slanted(luma))], axis=0),
        "direction 2": np.ptp([_energy(d) for d in (*second, *_slanted(luma, 2))], axis=0),
        "flat": np.log(flat + 0.01),
        "noise": np.log(middle + 0.25) - first_energy / 2,
    }


def _of_chroma(
    chroma: list[Tiles], first_energy: Energies, second_energy: Energies
) -> dict[str, Energies]:
    """Of each tile, against the energies of the luma."""
    first = _energy(*(d for plane in chroma for d in _both(plane)))
    second = _energy(*(d for plane in chroma for d in _both(plane, 2)))
    return {
        "chroma first": first - first_energy,
        "chroma second": second - first,
        "chroma detail": second - second_energy,
    }


def _standing_out(plane: Tiles) -> Tiles:
    """How far each pixel is above or below both vertical neighbours."""
    above, middle, below = plane[:, :-2], plane[:, 1:-1], plane[:, 2:]
    return middle - np.clip(middle, np.minimum(above, below), np.maximum(above, below))


def _periods(name: str, planes: list[Tiles]) -> dict[str, float]:
    """How strongly the roughness of columns or rows repeats with each period, in all tiles."""
    strengths = dict.fromkeys(_PERIODS, 0.0)
    for turned in (0, 1):
        rough = sum(np.abs(np.diff(p.swapaxes(1, 2) if turned else p, 2, axis=2)) for p in planes)
        profile = np.sqrt(np.asarray(rough)).mean((0, 1))
        length = len(profile) // _LEAST_PROFILE * _LEAST_PROFILE
        if not length:
            continue
        profile = profile[:length] / (profile[:length].mean() + 1e-3)
        waves = np.abs(np.fft.rfft(profile - profile.mean())) / length
        for period in _PERIODS:
            own = waves[length // period :: length // period][: max(1, period // 2)]
            strengths[period] = max(strengths[period], float(np.sqrt(np.square(own).mean())))
    return {f"{name} period {period}": float(np.log(v + 0.003)) for period, v in strengths.items()}


def _of_colours(tiles: NDArray[np.uint8]) -> dict[str, float]:
    """Of all tiles: what a colour filter, a curve of tones and a palette leave."""
    green = tiles[..., 1].astype(np.float32)
    rough = np.abs(np.diff(green, 2, axis=2)[:, 1:-1] + np.diff(green, 2, axis=1)[:, :, 1:-1])
    is_even = np.add.outer(*(np.arange(side) for side in rough.shape[1:])) % 2 == 0
    halves = [rough[:, half].mean() if rough[:, half].size else 0.0 for half in (is_even, ~is_even)]
    counts = np.bincount(tiles[..., 1].ravel(), minlength=256) / green.size
    jumps = np.abs(np.diff(counts, 2))[1:-1].sum() / 2
    pixels = tiles.reshape(-1, 3)[:: -(-green.size // 2**14)].astype(np.int32)
    colours = len(np.unique(pixels @ np.array([65536, 256, 1]))) / len(pixels)
    even, odd = np.log(np.add(halves, 0.1))
    return {
        "checkered": float(abs(even - odd)),
        "comb": float(np.log(jumps + 0.02)),
        "colours": float(np.log(colours + 0.01)),
    }


# --- What kind of upload a picture is, and whether it is of any kind that was calibrated.

UNKNOWN: Final = "other"
"""The class of files that are compressed in a way that nothing reads: it is never calibrated."""

MOST: Final = 5.0
"""Standard deviations that a number counts at most, so that none decides alone."""

_OTHERS: Final = {
    UNKNOWN: "compressed in an unknown way",
    "grey": "of one channel",
    "colour": "of three channels",
}
_SHARP: Final = {"lossless", "noisy"}
_NEAR: Final = 1.0  # by which a soft kind may be less likely, in nats
_USUAL_QUALITY: Final = 50  # of a file that does not declare it
_FORMS: Final = {
    "jpeg": "jpeg",
    "webp": "webp",
    "avif": "heic",
    "heic": "heic",
    "palette": "palette",
}


class Kind(NamedTuple):
    """The kind of an upload.

    name: the class. strangeness: large where something foreign explains the picture better.

    softness: how much better a soft kind explains it than its own.
    """

    name: str
    strangeness: float
    softness: float

    @property
    def is_nearly_soft(self) -> bool:
        """Whether it passes as sharp, and a soft kind explains it nearly as well."""
        return self.name in _SHARP and self.softness > -_NEAR


class Table(NamedTuple):
    """The learned table that tells kinds of uploads apart.

    numbers: names, [d]. kinds: names, [k]. centre, spread: of each number, [d]. classes: of the
    kinds, [k]; None: foreign. weights: [k, d]. bias: [k]. is_soft: bool [k]. words: by class.
    """

    numbers: tuple[str, ...]
    kinds: tuple[str, ...]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    classes: tuple[str | None, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    is_soft: NDArray[np.bool_]
    words: Mapping[str, str]

    def kind_of(self, numbers: Mapping[str, float]) -> Kind:
        """Return the kind of a picture with these numbers; NaN ones are ignored."""
        values = (np.array([numbers[name] for name in self.numbers]) - self.centre) / self.spread
        scores = self.weights @ np.nan_to_num(np.clip(values, -MOST, MOST)) + self.bias
        is_own = np.array([name is not None for name in self.classes])
        own = np.where(is_own, scores, -np.inf)
        place = int(own.argmax())
        strangeness = _together(scores[~is_own]) - _together(scores[is_own])
        softness = scores[self.is_soft].max() - own[place]
        name = self.classes[place] or UNKNOWN
        return Kind(name, round(float(strangeness), 3), round(float(softness), 3))


def _together(scores: NDArray[np.float64]) -> float:
    """The logarithm of the sum of likelihoods."""
    return float(np.logaddexp.reduce(scores))


@cache
def kinds_table() -> Table:
    """Return the table in the repository."""
    document = json.loads((resources.files(__package__) / "kinds.json").read_text(encoding="utf-8"))
    kinds = document["kinds"]
    centre, spread = np.array(list(document["numbers"].values())).T
    return Table(
        tuple(document["numbers"]),
        tuple(kinds),
        centre,
        spread,
        tuple(kind["class"] for kind in kinds.values()),
        np.array([kind["weights"] for kind in kinds.values()]),
        np.array([kind["bias"] for kind in kinds.values()]),
        np.array([name.startswith("soft") for name in kinds]),
        document["classes"],
    )


def file_numbers(said: Compression, worst: Compression) -> dict[str, float]:
    """Return numbers for what the file says, and what its pixels show of an earlier JPEG."""
    losses = [
        0.0 if codec == "lossless" else (1 - (quality or _USUAL_QUALITY) / 100) ** 0.5
        for codec, quality in (said, worst)
    ]
    forms = {form: float(_FORMS.get(said.codec) == form) for form in dict.fromkeys(_FORMS.values())}
    return {"file loss": losses[0], "loss": losses[1], "resaved": losses[1] - losses[0], **forms}


def kind_of(described: Mapping[str, float], said: Compression, worst: Compression) -> Kind:
    """Return the kind of an upload from its description and its compression."""
    kind = kinds_table().kind_of({**described, **file_numbers(said, worst)})
    return kind._replace(name=UNKNOWN) if said.codec == "other" else kind


def ways_of(name: str) -> list[str]:
    """Return the usual ways of making uploads of a class."""
    kinds = zip(kinds_table().kinds, kinds_table().classes, strict=True)
    return [kind for kind, its_class in kinds if its_class == name]


def class_of_way(way: str) -> str | None:
    """Return the class that a way of making uploads is meant for, or None if unknown."""
    known = kinds_table()
    return dict(zip(known.kinds, known.classes, strict=True)).get(way)


def class_in_words(name: str) -> str:
    """Return the class for people, such as "saved as JPEG of quality 85 or more"."""
    return {**kinds_table().words, **_OTHERS}.get(name, name)


# --- What is known of an input before any generation, and the class that follows.

UPLOAD: Final = "upload/5"
"""Classes by the learned table (`kinds.json`); a new number may change classes."""

BANDS: Final = "bands/1"
"""Classes of data that were stretched: of one channel, or of three that differ."""

RULES: Final = (UPLOAD, BANDS)
"""The available rules; another version of one is another rule."""

_MIDDLE_SIDE = 512  # of the part in the middle whose facts σ depends on
# log₂ of the factor of an enlargement as a linear function of `energies`, fitted to photographs by
# least squares: a constant and weights, of pictures without and with loss.
_CLEAN, _LOSSY = (1.540, (0.679, -0.335, -0.382)), (1.731, (0.533, -0.152, -0.447))
_LOSSLESS: Final = Kind("lossless", strangeness=0.0, softness=-2.0)


@dataclass(frozen=True, slots=True)
class InputFeatures:
    """What is known of an upload X before any generation.

    compression: the strongest that file and pixels show.
    detail: mean of log(1 + |∇|) of the luma in grey levels.
    noise: log of the median of the diagonal second difference, which structure hardly changes.
    contrast: log of the standard deviation of the luma; light: its mean, 0 to 1.
    colour: log of the mean range of the three channels.
    softness: log₂ of the factor by which it was probably enlarged; 0: none.
    kind: of upload, by the learned table.
    """

    compression: Compression
    detail: float
    noise: float
    contrast: float
    light: float
    colour: float
    softness: float
    kind: Kind = _LOSSLESS

    @property
    def is_nearly_soft(self) -> bool:
        """Whether it passes as sharp, and was probably blurred or enlarged a little."""
        return self.kind.is_nearly_soft

    def terms(self) -> dict[str, float]:
        """Return the facts for a fitted σ; changing one raises `TRUST_LAYER_VERSION`.

        loss: 0 (lossless) to 1. lossy, jpeg: 1 if so, else 0. The others as above, rounded, since
        sums on other machines may differ in their last bits.
        """
        codec, quality = self.compression
        is_lossy = codec != "lossless"
        return {
            "loss": 1 - (_USUAL_QUALITY if quality is None else quality) / 100 if is_lossy else 0.0,
            "lossy": float(is_lossy),
            "jpeg": float(codec == "jpeg"),
            "softness": round(self.softness, 3),
            "noise": round(self.noise, 3),
            "detail": round(self.detail, 3),
        }

    def numbers(self) -> dict[str, float]:
        """Return the numbers that are compared with other pictures."""
        names = ("detail", "noise", "contrast", "light", "colour", "softness")
        numbers = {name: float(getattr(self, name)) for name in names}
        return {**numbers, "strangeness": self.kind.strangeness}


def look_at(picture: Pixels, compression: Compression) -> InputFeatures:
    """Return the facts of X, [h, w, 3], given what its file says of its compression."""
    rgb = to_8_bit(picture)
    height, width = rgb.shape[:2]
    # A multiple of 8 from the corner keeps a grid of blocks in place.
    top, left = (max(0, (side - _MIDDLE_SIDE) // 2) // 8 * 8 for side in (height, width))
    pixels = rgb[top : top + _MIDDLE_SIDE, left : left + _MIDDLE_SIDE]
    worst = worst_of(compression, pixels)
    luma = np.asarray(pixels @ _LUMA, np.float32)
    padded = np.pad(luma, ((0, 1), (0, 1)), mode="edge")
    right = np.diff(padded, axis=1)
    across, down = right[:-1], np.diff(padded, axis=0)[:, :-1]
    diagonal = np.abs(np.diff(right, axis=0)) / 2
    red, green, blue = np.moveaxis(pixels, 2, 0)  # a reduction over three of them is slow
    highest = np.maximum(np.maximum(red, green), blue).astype(np.int16)
    channels = highest - np.minimum(np.minimum(red, green), blue)
    constant, weights = _CLEAN if worst == LOSSLESS else _LOSSY
    return InputFeatures(
        worst,
        detail=float(np.log1p(np.abs(across) + np.abs(down)).mean()),
        noise=float(np.log(np.median(diagonal) / 0.6745 + 0.25)),
        contrast=float(np.log1p(luma.std())),
        light=float(luma.mean() / 255),
        colour=float(np.log1p(channels.mean())),
        softness=float(constant + np.dot(weights, energies(luma))),
        kind=kind_of(describe(rgb), compression, worst),
    )


def energies(luma: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the levels of the luma, float32 [h, w], in grey levels, for the softness.

    Logarithms of mean squares, across and down together, of differences: between neighbours, over
    two pixels, of the fourth order.
    """

    def level(*differences: NDArray[np.float32]) -> float:
        means = [np.square(d).mean(dtype=np.float64) if d.size else 0.0 for d in differences]
        return float(np.log(np.mean(means) + _LEAST_ENERGY))

    return (
        level(np.diff(luma, axis=0), np.diff(luma, axis=1)),
        level(luma[2:] - luma[:-2], luma[:, 2:] - luma[:, :-2]),
        level(np.diff(luma, 4, axis=0), np.diff(luma, 4, axis=1)),
    )


def classify(rule: str, facts: InputFeatures) -> str:
    """Return the class of an upload, such as `soft`. Raises ValueError: not one of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {RULES}, got {rule!r}")
    if rule == BANDS:
        return "colour" if facts.colour else "grey"
    return facts.kind.name
