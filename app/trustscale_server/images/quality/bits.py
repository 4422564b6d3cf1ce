"""A file's bits, one number after the other."""

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
