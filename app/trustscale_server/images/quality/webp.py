"""How coarsely a lossy WebP file is quantised: it is a key frame of VP8 (RFC 6386, section 9)."""

from __future__ import annotations

import numpy as np


class _BooleanDecoder:
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


def _segments(bits: _BooleanDecoder) -> tuple[bool, list[int]]:
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


def vp8_quality(frame: bytes) -> int | None:
    """Return the quality, 1 to 100, at which libwebp writes such a key frame, or None."""
    if len(frame) < 12 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    bits = _BooleanDecoder(frame[10:])
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
