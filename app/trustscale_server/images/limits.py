"""How large an uploaded image may be, and who admits its pixels before they are decoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trustscale_server.platform.errors import ImageTooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one uploaded image, checked before its pixels are decoded."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 1024 * 1024
    max_side: int = 16384
    max_fit_pixels: int = 64 * 1024 * 1024
    """Of an image that is reduced first."""


# Y is k² times larger than X; these are the admin's own files.
PAIR_LIMITS: Final = Limits(max_bytes=256 * 1024 * 1024, max_pixels=64 * 1024 * 1024)


def check_bytes(data: bytes, limits: Limits) -> None:
    """Raise ImageTooLarge if a file has too many bytes."""
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"The file has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted.",
            limit="max_bytes",
            maximum=limits.max_bytes,
            actual=len(data),
        )


def check_size(width: int, height: int, limits: Limits, max_input_side: int | None) -> None:
    """Raise ImageTooLarge if a picture of this size, in pixels, is over a limit.

    max_input_side: to which the picture is reduced; None: it is not.
    """
    most = limits.max_pixels if max_input_side is None else limits.max_fit_pixels
    if width * height > most:
        way_out = ""
        if max_input_side is None and width * height <= limits.max_fit_pixels:
            longest = int(max(width, height) * math.sqrt(most / (width * height)))
            way_out = f" With fit={longest} its longer side is reduced to that before."
        raise ImageTooLarge(
            f"The image is {width}×{height}, {width * height:,} pixels; "
            f"at most {most:,} are accepted.{way_out}",
            limit="max_pixels" if max_input_side is None else "max_fit_pixels",
            maximum=most,
            actual=width * height,
        )
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"The image is {width}×{height}; no side may exceed {limits.max_side:,} pixels.",
            limit="max_side",
            maximum=limits.max_side,
            actual=max(width, height),
        )


_asks: list[Callable[[int], None]] = []


def on_admit(ask: Callable[[int], None]) -> None:
    """Set the function that admits pixels in a decoder's process (`sandbox/server.py`)."""
    _asks.append(ask)


def admit_pixels(pixels: int) -> None:
    """Wait until `pixels` may be decoded; return at once outside of a decoder."""
    for ask in _asks:
        ask(pixels)
