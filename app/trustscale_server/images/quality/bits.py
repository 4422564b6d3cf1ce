"""A file's bits and bytes, one number after the other."""

from __future__ import annotations


class Unread(Exception):
    """The file has an unsupported form."""


class Bits:
    """Bits of a byte string, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number. Raises Unread: there are fewer."""
        if count > self._left:
            raise Unread
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """Return an unsigned number in the exponential code of Golomb (ITU-T H.265, 9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        """Return a signed number in that code."""
        number = self.golomb()
        return (number + 1) // 2 if number % 2 else -(number // 2)


class Fields:
    """Numbers of a part of a file, one after the other, the most significant byte first."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._place, self._end = data, start, end

    def take(self, size: int) -> int:
        """Return the next bytes as a number. Raises Unread: there are fewer."""
        place, self._place = self._place, self._place + size
        if self._place > self._end:
            raise Unread
        return int.from_bytes(self._data[place : self._place], "big")

    def part(self, size: int) -> Fields:
        """Return the next bytes. Raises Unread: there are fewer."""
        place, self._place = self._place, self._place + size
        if size < 0 or self._place > self._end:
            raise Unread
        return Fields(self._data, place, self._place)

    def head(self, max_bytes: int) -> bytes:
        """Return what is left, or its first bytes."""
        return self._data[self._place : min(self._end, self._place + max_bytes)]

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._end - self._place
