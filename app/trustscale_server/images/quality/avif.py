"""How coarsely an AVIF file is quantised: it is one frame of a video, AV1.

Only headers are read, of a bounded number of units and bits. A file of another form than the common
ones has no known quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from trustscale_server.images.quality.bits import Bits, Unread

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # kinds of OBU

# base_q_idx at which libavif with libaom writes a quality, measured on photographs.
_INDEX: Final = (0, 32, 76, 112, 148, 196, 236, 255)
_QUALITY: Final = (100, 90, 75, 63, 50, 30, 10, 1)


def avif_quality(data: bytes) -> int | None:
    """Return the quality, 1 to 100, at which libavif writes such a file, or None."""
    place = data.find(b"mdat")
    if place < 0:
        return None
    try:
        return _quality(data[place + 4 :])
    except Unread:
        return None


def _quality(stream: bytes) -> int:
    size: tuple[int, int, bool] | None = None
    for kind, body in _units(stream):
        if kind == _SEQUENCE:
            size = _sequence(Bits(body[:64]))
        elif kind in {_FRAME, _FRAME_HEADER} and size is not None:
            index = _base_q_idx(Bits(body[:32]), *size)
            return round(float(np.interp(index, _INDEX, _QUALITY)))
    raise Unread


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(stream):
        head = stream[place]
        if head & 0x82 != 2:  # a forbidden bit, or a unit without its size
            raise Unread
        place += 2 if head & 4 else 1
        size = shift = 0
        while True:
            if place >= len(stream) or shift > 28:
                raise Unread
            byte = stream[place]
            place += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield head >> 3 & 15, stream[place : place + size]
        place += size


def _sequence(bits: Bits) -> tuple[int, int, bool]:
    """Width and height in superblocks, and whether frames say if they are superresolved."""
    bits.take(3)  # profile
    if bits.take(2) != 3:  # a still picture with the reduced header
        raise Unread
    bits.take(5)  # level
    across, down = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(across) + 1, bits.take(down) + 1
    if width > 4096 or width * height > 4096 * 2304:  # it has to be tiled
        raise Unread
    side = 128 if bits.take(1) else 64
    bits.take(2)  # filters of intra prediction
    return -(-width // side), -(-height // side), bool(bits.take(1))


def _base_q_idx(bits: Bits, across: int, down: int, may_superres: bool) -> int:
    bits.take(1)  # disable_cdf_update
    for_screens = bits.take(1)
    if for_screens:
        bits.take(1)  # whole motion vectors
    if may_superres and bits.take(1):
        raise Unread
    if bits.take(1):
        bits.take(32)  # display size
    if for_screens:
        bits.take(1)  # copies within the picture
    if not bits.take(1):  # tiles of one size
        raise Unread
    tiles = 0
    for most in (across, down):
        log = 0
        while 1 << log < min(most, 64) and bits.take(1):
            log += 1
        tiles += log
    if tiles:
        bits.take(tiles + 2)
    return bits.take(8)
