"""The files of a check: their limits, their pixels, and what comparing them takes."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import Limits
from trustscale_server.proof.check.things import looked_at

SMALL: Final = Limits(max_bytes=64 * 2**20, max_pixels=16 * 2**20)
LARGE: Final = Limits(max_bytes=256 * 2**20, max_pixels=64 * 2**20, max_side=32768)


def read_for_check(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    """Return the pixels of a file, uint8 [H, W, 3]; transparent ones are on white.

    Raises ImageTooLarge, UnsupportedMedia, BadImage; runs in a decoder.
    """
    return np.asarray(decode(data, limits, background="white").rgb, np.uint8)


def memory_of(small: tuple[int, int], large: tuple[int, int]) -> int:
    """Return how many bytes a check of pictures of these sizes takes at most."""
    pixels = math.prod(small)
    return 80 * pixels + 16 * math.prod(large) + 90 * looked_at(pixels)
