"""How coarsely a picture is quantised that is coded as a frame of HEVC (ITU-T H.265)."""

from __future__ import annotations

from typing import Final, NamedTuple

from trustscale_server.images.quality.bits import Bits, Fields, Unread

_MAX_UNITS: Final = 16  # of a picture, before its first slice
_HEAD: Final = 256  # bytes of a unit that are read
_SPS, _PPS, _IDR, _SLICES = 33, 34, (19, 20), 32  # kinds of NAL units; slices are below 32


class Coding(NamedTuple):
    """What the headers of slices depend on (ITU-T H.265, 7.3.2).

    size: bytes of the length of a unit. skipped: bits after the kind of the slice, of the whole
    picture's parameters: of its output, its planes and its filters. extra: bits before that kind.
    qp: of slices that do not differ.
    """

    size: int
    skipped: int
    extra: int
    qp: int


def coding_of(box: Fields) -> Coding:
    """Read a configuration of HEVC (ISO/IEC 14496-15, 8.3.3). Raises Unread."""
    box = box.part(min(box.left, 2000))  # some 120 bytes are usual
    box.part(21)
    size = (box.take(1) & 3) + 1
    units: dict[int, bytes] = {}
    for _ in range(box.take(1)):
        kind = box.take(1) & 63
        for _ in range(box.take(2)):
            units.setdefault(kind, _raw(box.part(box.take(2)).head(_HEAD)))
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
    return Coding(size, skipped, extra, 26 + bits.signed_golomb())


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


def slice_qp(coding: Coding, item: Fields) -> int:
    """Return the QP of the first slice (7.3.6) of a picture.

    Raises Unread: the picture depends on another one, or has another form.
    """
    for _ in range(_MAX_UNITS):
        unit = item.part(item.take(coding.size)).head(_HEAD)
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
