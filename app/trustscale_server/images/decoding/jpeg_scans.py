"""How often a JPEG file goes over its blocks: a scan takes much time, and few bytes."""

from __future__ import annotations

import re
import struct
from typing import Final

from trustscale_server.platform.errors import DecodeLimit

_MAX_PASSES: Final = 32
"""Over all blocks of a picture; common programs make at most a dozen."""

_NEXT_MARKER: Final = re.compile(rb"\xff+[^\0\xd0-\xd7\xff]", re.DOTALL)
_SCAN, _END = 0xDA, 0xD9
_NOT_FRAMES: Final = {0xC4, 0xC8, 0xCC}  # tables, among the markers C0 to CF


def check_scans(data: bytes) -> None:
    """Count the blocks of all scans of a JPEG file; a damaged one only as far as it is read.

    Raises:
        DecodeLimit: they are those of more than `_MAX_PASSES` pictures.
    """
    blocks: dict[int, float] = {}
    passes, place = 0.0, 2
    while (match := _NEXT_MARKER.search(data, place)) is not None:
        marker, place = data[match.end() - 1], match.end()
        if marker == _END:
            return
        if marker in {0x01, 0xD8} or len(data) < place + 2:
            continue  # without a segment
        (length,) = struct.unpack_from(">H", data, place)
        segment = data[place + 2 : place + length]
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            blocks = _shares(segment)
        elif marker == _SCAN:
            passes += sum(blocks.get(name, 0.0) for name in segment[1 : 1 + 2 * segment[0] : 2])
            if passes > _MAX_PASSES:
                raise DecodeLimit(
                    f"The JPEG file goes over its pixels more than {_MAX_PASSES} times. Save it "
                    "again with an ordinary program.",
                    limit="scans",
                    maximum=_MAX_PASSES,
                )
        place += length


def _shares(frame: bytes) -> dict[int, float]:
    """The share of each component, by its name, in the blocks of the picture."""
    areas: dict[int, int] = {}
    for place in range(6, len(frame) - 2, 3):
        name, sampling = frame[place : place + 2]
        areas[name] = (sampling >> 4) * (sampling & 15)
    total = max(1, sum(areas.values()))
    return {name: area / total for name, area in areas.items()}
