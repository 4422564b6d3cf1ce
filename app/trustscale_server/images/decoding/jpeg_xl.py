"""The size of a JPEG XL picture from its first bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from trustscale_server.platform.errors import BadImage

SIGNATURE: Final = re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")

_LONGEST: Final = 16  # bytes; the size takes at most 11
_RATIOS: Final = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) that a JPEG XL file declares, before any rotation.

    Raises:
        BadImage: there is no such header.
    """
    start = data[:_LONGEST]
    if not start.startswith(b"\xff\x0a"):
        start = b""
        for piece in _codestream(data):
            start += piece[: _LONGEST - len(start)]
            if len(start) == _LONGEST:
                break
    if not start.startswith(b"\xff\x0a"):
        raise BadImage("The JPEG XL file has no header.")
    bits = _Bits(start[2:])
    is_small = bool(bits.read(1))
    height = _side(bits, is_small=is_small)
    ratio = bits.read(3)
    if not ratio:
        return _side(bits, is_small=is_small), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _side(bits: _Bits, *, is_small: bool) -> int:
    return 8 * (1 + bits.read(5)) if is_small else 1 + bits.read((9, 13, 18, 30)[bits.read(2)])


class _Bits:
    """Bits of bytes, from the least significant one on; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")

    def read(self, count: int) -> int:
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value


def _codestream(data: bytes) -> Iterator[bytes]:
    """The parts of the codestream in a file of boxes."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1 and place + 16 <= len(data):
            (length,), head = struct.unpack_from(">Q", data, place + 8), 16
        end = place + length if length else len(data)
        if end < place + head:
            return
        if kind in {b"jxlc", b"jxlp"}:
            first = place + head + (4 if kind == b"jxlp" else 0)  # the number of the part
            yield data[first : min(end, first + _LONGEST)]
        place = end
