"""What decoding a file may cost: a base, and more for each admitted pixel.

The kernel ends a decoder (`decoder.py`) that exceeds it. Readers report the declared pixels with
`admit`, which does nothing outside of a decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from app.errors import DecodeLimit

SECONDS: Final = 2.0
"""Of one core, for everything but pixels: metadata, profiles, structure."""

SECONDS_PER_PIXEL: Final = 0.5e-6
"""Several times what the slowest honest form takes (`python -m benchmarks.decoders`)."""

BYTES: Final = 96 * 2**20
"""For everything but pixels; twice the size of the file comes on top."""

BYTES_PER_PIXEL: Final = 24
"""More than the costliest honest form takes (`python -m benchmarks.decoders`)."""

_asks: list[Callable[[int], None]] = []


def admit(pixels: int) -> None:
    """Return when so many pixels may be decoded, after raising the allowance."""
    for ask in _asks:
        ask(pixels)


def on_admit(ask: Callable[[int], None]) -> None:
    """Call this function for each admission, in a decoder's process."""
    _asks.append(ask)


def too_long(seconds: float) -> DecodeLimit:
    """The refusal of a file that takes more than so many seconds."""
    return DecodeLimit(
        f"Decoding the file takes more than {seconds:.1f} seconds of a core, which its pixels do "
        f"not justify. {_WAY_OUT}",
        limit="seconds",
        maximum=round(seconds, 2),
    )


def too_large() -> DecodeLimit:
    """The refusal of a file that takes more memory than it may."""
    return DecodeLimit(
        f"Decoding the file takes more memory than its pixels justify. {_WAY_OUT}", limit="memory"
    )


_WAY_OUT: Final = "Save it again with an ordinary program."
