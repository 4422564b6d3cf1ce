"""PNG files, strip by strip: rows are filtered by numpy and compressed by ISA-L.

libpng tries five filters on every row, and zlib searches long. Here all rows have the one filter
that suits their kind of picture, so a file takes an eighth of the time and has 4 (trust levels) to
17 % (photographs) more bytes (`python -m benchmarks.formats`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any, Final, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

Chunk = tuple[bytes, bytes]
"""Its name and what it holds."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LEVEL: Final = 1
_STRIP: Final = 1 << 18  # bytes of rows that are filtered together: they stay in the cache
_UP, _AVERAGE = 2, 3


class _Kind(NamedTuple):
    """How pixels of a type and a number of channels are written.

    step: bytes to the pixel on the left.
    """

    depth: int
    colour: int
    step: int
    filter: int


_KINDS: Final = {
    ("bool", 1): _Kind(1, 0, 1, _UP),
    ("uint16", 1): _Kind(16, 0, 2, _UP),
    ("uint16", 3): _Kind(16, 2, 6, _AVERAGE),
    ("uint8", 3): _Kind(8, 2, 3, _AVERAGE),
    ("uint8", 4): _Kind(8, 6, 4, _AVERAGE),
}


def png(pixels: NDArray[Any], chunks: Iterable[Chunk] = ()) -> bytes:
    """A PNG file of bool or uint16 [H, W] (grey), or uint8 or uint16 [H, W, 3], or uint8 [H, W, 4].

    True is white.

    `chunks` stand before the pixels.

    Raises:
        KeyError: another type or number of channels.
    """
    height, width, *channels = pixels.shape
    kind = _KINDS[pixels.dtype.name, *(channels or [1])]
    out = BytesIO()
    out.write(_SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, kind.depth, kind.colour, 0, 0, 0)
    for chunk in ((b"IHDR", header), *chunks):
        _write(out, chunk)
    packer = isal_zlib.compressobj(_LEVEL)
    for strip in _filtered(pixels, kind):
        if packed := packer.compress(strip):
            _write(out, (b"IDAT", packed))
    _write(out, (b"IDAT", packer.flush()))
    _write(out, (b"IEND", b""))
    return out.getvalue()


def _write(out: BytesIO, chunk: Chunk) -> None:
    name, data = chunk
    out.write(struct.pack(">I", len(data)))
    out.write(name)
    out.write(data)
    out.write(struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name))))


def _filtered(pixels: NDArray[Any], kind: _Kind) -> Iterator[NDArray[np.uint8]]:
    """The rows behind their filter's number, some at a time (PNG, 9.2)."""
    above: NDArray[np.uint8] | None = None
    count = max(1, _STRIP // max(1, pixels[:1].nbytes))
    for top in range(0, len(pixels), count):
        rows = _bytes(pixels[top : top + count])
        if above is None:
            above = np.zeros_like(rows[0])
        out = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        out[:, 0] = kind.filter
        expected = np.concatenate([above[np.newaxis], rows[:-1]])
        if kind.filter == _AVERAGE:
            left, up = rows[:, : -kind.step], expected[:, kind.step :]
            mean = left & up  # ⌊(left + up) / 2⌋ without the ninth bit of the sum
            mean += (left ^ up) >> 1
            up[:] = mean
            expected[:, : kind.step] >>= 1
        np.subtract(rows, expected, out=out[:, 1:])
        above = rows[-1]
        yield out


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows of pixels as a file has them, uint8 [rows, bytes]."""
    if pixels.dtype == np.bool_:
        return np.packbits(pixels, axis=1)
    ordered = pixels.astype(">u2") if pixels.dtype == np.uint16 else np.ascontiguousarray(pixels)
    return ordered.reshape(len(pixels), -1).view(np.uint8)
