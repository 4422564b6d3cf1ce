"""How coarsely a HEIC file is quantised: it is one frame of a video, HEVC, or tiles of them.

Only headers are read, of a bounded number of boxes, units and bits. A file of another form than the
common ones has no known quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from trustscale_server.images.quality.bits import Fields, Unread
from trustscale_server.images.quality.hevc import coding_of, slice_qp

# The quality at a QP of 0, and how many a step is: libheif asks x265 for a constant
# quality of (100 − q)/2, from which x265 takes 3 for pictures that depend on no other.
_BEST, _OF_QP = 94, 2

_MAX_BOXES: Final = 1000  # and items that are read; files of phones have some 200
_MAX_TILES: Final = 64  # of a picture of tiles, whose quantisers are averaged


def heic_quality(data: bytes) -> int | None:
    """Return the quality, 1 to 100, at which libheif with x265 writes such a file, or None."""
    try:
        quantiser = _Heif(data).quantiser()
    except Unread:
        return None
    return round(min(100, max(1, _BEST - _OF_QP * quantiser)))


class _Heif:
    """The boxes of a file (ISO/IEC 14496-12 and 23008-12) that lead to its picture."""

    def __init__(self, data: bytes) -> None:
        self._data, self._read = data, 0
        meta = self._only(Fields(data, 0, len(data)), b"meta")
        meta.take(4)
        self._meta = dict(self._boxes(meta))

    def quantiser(self) -> float:
        """The mean QP of the picture that is shown, or of its tiles."""
        box = self._box(b"pitm")
        picture = box.take(4 if box.take(4) >> 24 else 2)
        tiles = dict.fromkeys(self._tiles_of(picture)[:_MAX_TILES] or [picture])
        properties, places = self._configured(), self._places()
        if not tiles.keys() <= properties.keys() & places.keys():
            raise Unread
        # Tiles mostly share one configuration, and each box is read once.
        codings = {box: coding_of(box) for box in {properties[tile] for tile in tiles}}
        return float(np.mean([slice_qp(codings[properties[t]], places[t]) for t in tiles]))

    def _boxes(self, inside: Fields) -> Iterator[tuple[bytes, Fields]]:
        while inside.left >= 8:
            size, kind = inside.take(4), inside.take(4).to_bytes(4, "big")
            if size == 1:
                size = inside.take(8) - 8
            self._read += 1
            if self._read > _MAX_BOXES:
                raise Unread
            yield kind, inside.part(size - 8 if size else inside.left)

    def _only(self, inside: Fields, kind: bytes) -> Fields:
        for box_kind, box in self._boxes(inside):
            if box_kind == kind:
                return box
        raise Unread

    def _box(self, kind: bytes) -> Fields:
        if kind not in self._meta:
            raise Unread
        return self._meta[kind]

    def _tiles_of(self, item: int) -> list[int]:
        """The items that a picture of tiles is made of."""
        if b"iref" not in self._meta:
            return []
        box = self._meta[b"iref"]
        wide = 4 if box.take(4) >> 24 else 2
        for kind, reference in self._boxes(box):
            if kind == b"dimg" and reference.take(wide) == item:
                return [reference.take(wide) for _ in range(reference.take(2))]
        return []

    def _configured(self) -> dict[int, Fields]:
        """The configuration of HEVC of each item that has one."""
        properties = self._box(b"iprp")
        boxes = [*self._boxes(self._only(properties, b"ipco"))]
        box = self._only(properties, b"ipma")
        head = box.take(4)
        configurations = {}
        for _ in self._items(box.take(4)):
            item = box.take(4 if head >> 24 else 2)
            for _ in range(box.take(1)):
                index = box.take(2) & 0x7FFF if head & 1 else box.take(1) & 0x7F
                if 0 < index <= len(boxes) and boxes[index - 1][0] == b"hvcC":
                    configurations[item] = boxes[index - 1][1]
        return configurations

    def _places(self) -> dict[int, Fields]:
        """The first part of the data of each item that lies in the file by itself."""
        box = self._box(b"iloc")
        version, sizes = box.take(4) >> 24, box.take(2)
        offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        index = index if version else 0
        wide = 4 if version == 2 else 2
        places = {}
        for _ in self._items(box.take(wide)):
            item = box.take(wide)
            method = box.take(2) & 15 if version else 0
            box.take(2)  # the file; 0: this one
            start, extent_count = box.take(base), box.take(2)
            extents = box.part(extent_count * (index + offset + length))
            if extent_count and method == 0:
                extents.take(index)
                first, size = start + extents.take(offset), extents.take(length)
                end = min(first + size if size else len(self._data), len(self._data))
                places[item] = Fields(self._data, first, end)
        return places

    @staticmethod
    def _items(count: int) -> range:
        if count > _MAX_BOXES:
            raise Unread
        return range(count)
