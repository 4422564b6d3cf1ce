"""How coarsely a HEIC file is quantised: it is one frame of a video, HEVC, or tiles of them.

Only headers are read, of a bounded number of boxes, units and bits. A file of another form than the
common ones has no known quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from trustscale_server.images.quality.bits import Bits, Unread

# The quality at a QP of 0, and how many a step is: libheif asks x265 for a constant
# quality of (100 − q)/2, from which x265 takes 3 for pictures that depend on no other.
_BEST, _OF_QP = 94, 2

_MAX_BOXES: Final = 1000  # and items that are read; files of phones have some 200
_MAX_CODING: Final = 2000  # bytes of what is said of a coding; some 120 are usual
_MAX_TILES: Final = 64  # of a picture of tiles, whose quantisers are averaged
_MAX_UNITS: Final = 16  # of a picture, before its first slice
_HEAD: Final = 256  # bytes of a unit
_SPS, _PPS, _IDR, _SLICES = 33, 34, (19, 20), 32  # kinds of NAL units; slices are below 32


def heic_quality(data: bytes) -> int | None:
    """Return the quality, 1 to 100, at which libheif with x265 writes such a file, or None."""
    try:
        quantiser = _Heif(data).quantiser()
    except Unread:
        return None
    return round(min(100, max(1, _BEST - _OF_QP * quantiser)))


class _Fields:
    """Numbers of a part of a file, one after the other, the most significant byte first."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self.place, self.end = data, start, end

    def take(self, size: int) -> int:
        place, self.place = self.place, self.place + size
        if self.place > self.end:
            raise Unread
        return int.from_bytes(self._data[place : self.place], "big")

    def part(self, size: int) -> _Fields:
        """The next bytes."""
        place, self.place = self.place, self.place + size
        if size < 0 or self.place > self.end:
            raise Unread
        return _Fields(self._data, place, self.place)

    def head(self) -> bytes:
        """What is left, or its first bytes."""
        return self._data[self.place : min(self.end, self.place + _HEAD)]

    @property
    def left(self) -> int:
        return self.end - self.place


class _Heif:
    """The boxes of a file (ISO/IEC 14496-12 and 23008-12) that lead to its picture."""

    def __init__(self, data: bytes) -> None:
        self._data, self._read = data, 0
        meta = self._only(_Fields(data, 0, len(data)), b"meta")
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
        codings = {box: _coding(box) for box in {properties[tile] for tile in tiles}}
        return float(np.mean([_slice_qp(codings[properties[t]], places[t]) for t in tiles]))

    def _boxes(self, inside: _Fields) -> Iterator[tuple[bytes, _Fields]]:
        while inside.left >= 8:
            size, kind = inside.take(4), inside.take(4).to_bytes(4, "big")
            if size == 1:
                size = inside.take(8) - 8
            self._read += 1
            if self._read > _MAX_BOXES:
                raise Unread
            yield kind, inside.part(size - 8 if size else inside.left)

    def _only(self, inside: _Fields, kind: bytes) -> _Fields:
        for box_kind, box in self._boxes(inside):
            if box_kind == kind:
                return box
        raise Unread

    def _box(self, kind: bytes) -> _Fields:
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

    def _configured(self) -> dict[int, _Fields]:
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

    def _places(self) -> dict[int, _Fields]:
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
                places[item] = _Fields(self._data, first, end)
        return places

    @staticmethod
    def _items(count: int) -> range:
        if count > _MAX_BOXES:
            raise Unread
        return range(count)


class _Coding(NamedTuple):
    """What the headers of slices depend on (ITU-T H.265, 7.3.2).

    size: bytes of the length of a unit. skipped: bits after the kind of the slice, of the whole
    picture's parameters: of its output, its planes and its filters. extra: bits before that kind.
    qp: of slices that do not differ.
    """

    size: int
    skipped: int
    extra: int
    qp: int


def _coding(box: _Fields) -> _Coding:
    """Read a configuration of HEVC (ISO/IEC 14496-15, 8.3.3)."""
    box = box.part(min(box.left, _MAX_CODING))
    box.part(21)
    size = (box.take(1) & 3) + 1
    units: dict[int, bytes] = {}
    for _ in range(box.take(1)):
        kind = box.take(1) & 63
        for _ in range(box.take(2)):
            units.setdefault(kind, _raw(box.part(box.take(2)).head()))
    if not {_SPS, _PPS} <= units.keys():
        raise Unread
    skipped = _of_sequence(Bits(units[_SPS][2:]))
    bits = Bits(units[_PPS][2:])
    _skip(bits, 2)  # names
    bits.take(1)  # slices that depend on others
    skipped += bits.take(1)  # whether slices say if they are shown
    extra = bits.take(3)
    bits.take(2)  # signs, and how the decoder of bits begins
    _skip(bits, 2)  # references
    return _Coding(size, skipped, extra, 26 + bits.signed_golomb())


def _raw(unit: bytes) -> bytes:
    """A unit without the bytes that keep it from looking like the beginning of another."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _of_sequence(bits: Bits) -> int:
    """How many bits of planes and of the offsets of samples the header of a slice has."""
    bits.take(4)  # a name
    layers = bits.take(3)
    bits.take(1 + 96)  # nesting; profile and level
    if layers:
        raise Unread
    bits.golomb()  # a name
    chroma = bits.golomb()
    separate = bits.take(1) if chroma == 3 else 0
    _skip(bits, 2)  # width and height
    if bits.take(1):  # what is cut off
        _skip(bits, 4)
    _skip(bits, 3)  # depths, and the order of pictures
    bits.take(1)
    _skip(bits, 3 + 6)  # memory; sides of blocks and their depths
    if bits.take(1) and bits.take(1):  # tables of quantisers
        raise Unread
    bits.take(1)  # asymmetric parts
    has_offsets = bits.take(1)
    return 2 * separate + has_offsets * (1 if separate or not chroma else 2)


def _skip(bits: Bits, count: int) -> None:
    for _ in range(count):
        bits.golomb()


def _slice_qp(coding: _Coding, item: _Fields) -> int:
    """The QP of the first slice (7.3.6), which must be a picture's that depends on no other."""
    for _ in range(_MAX_UNITS):
        unit = item.part(item.take(coding.size)).head()
        kind = unit[0] >> 1 & 63 if unit else _SLICES
        if kind < _SLICES:
            break
    else:
        raise Unread
    bits = Bits(_raw(unit)[2:])
    if kind not in _IDR or bits.take(1) != 1:
        raise Unread
    bits.take(1)  # of earlier pictures
    bits.golomb()  # a name
    bits.take(coding.extra)
    if bits.golomb() != 2:  # intra
        raise Unread
    bits.take(coding.skipped)
    return coding.qp + bits.signed_golomb()
