"""What a job shows of its first sample while that is made: a small picture that grows by tiles."""

from __future__ import annotations

import io
import threading
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.upscalers.base import RGB

EVERY_S: Final = 2.0
"""Seconds between two files of a job's draft, and before the first: a short job needs none."""

_SIDE: Final = 1024


class Draft:
    """A small picture of a sample that grows by tiles: a WebP file with transparency.

    every_s: seconds between two files, and before the first.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()  # tiles may be made side by side
        self._next = time.monotonic() + every_s
        self._canvas: NDArray[np.uint8] | None = None
        self._is_whole = False

    def tile(self, sample: RGB, rows: slice, columns: slice) -> bytes | None:
        """Take a tile of a sample [H, W, 3]; None: the file is not due, or the sample is whole."""
        with self._lock:
            if self._is_whole:
                return None
            step = max(1, max(sample.shape) // _SIDE)
            if self._canvas is None:
                height, width = (-(-side // step) for side in sample.shape[:2])
                self._canvas = np.zeros((height, width, 4), np.uint8)
            # Every step-th pixel: each belongs to one tile.
            y, x = (
                slice(-(-part.start // step), -(-part.stop // step)) for part in (rows, columns)
            )
            pixels = sample[step * y.start : rows.stop : step, step * x.start : columns.stop : step]
            self._canvas[y, x, :3] = to_8_bit(pixels)
            self._canvas[y, x, 3] = 255
            if time.monotonic() < self._next:
                return None
            small = _file(self._canvas)
            self._next = time.monotonic() + self._every_s
            return small

    def whole(self, sample: RGB) -> bytes:
        """Take the sample as it is in the end; no tile changes the file after it."""
        with self._lock:
            self._is_whole, self._canvas = True, None
        # Pillow would copy all of it at four bytes a pixel.
        step = max(1, max(sample.shape) // (2 * _SIDE))
        return _file(to_8_bit(sample[step // 2 :: step, step // 2 :: step]))


def _file(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80, method=0)
    return file.getvalue()
