"""What a mark says of its pixels.

A digest says whether they are still the same, and a coarse copy of the lightness where they are
not.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.lab import Pixels

_CELLS: Final = 32  # of the coarse copy, along each side

UNKNOWN_PIXELS: Final = "sha256:" + 64 * "0"
UNKNOWN_LOOK: Final = base64.b64encode(bytes(_CELLS * _CELLS)).decode()
"""As long as a digest and a coarse copy, which take their places once the pixels are known."""


def colours_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return pixels as they are marked, uint8 [H, W, 3], or 4 where some are transparent."""
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def pixel_digest(pixels: Pixels) -> str:
    """Return a digest of the values of uint8 [H, W, 3 or 4] and of their shape."""
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return f"sha256:{digest.hexdigest()}"


def coarse_copy(pixels: NDArray[np.uint8]) -> str:
    """Return a coarse copy of the lightness of uint8 [H, W, 3 or 4], as text."""
    height = len(pixels)
    if height < 10 * _CELLS:
        return base64.b64encode(_lightness(pixels, _CELLS)).decode()
    # Row by row of cells, since Pillow's copy of a whole picture is larger than the picture.
    edges = [round(cell * height / _CELLS) for cell in range(_CELLS + 1)]
    rows = (_lightness(pixels[top:bottom], 1) for top, bottom in itertools.pairwise(edges))
    return base64.b64encode(b"".join(rows)).decode()


def _lightness(pixels: NDArray[np.uint8], rows: int) -> bytes:
    """The mean lightness of `rows` rows of cells, on grey where the picture is transparent."""
    image = Image.fromarray(pixels)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
    return image.convert("L").resize((_CELLS, rows), Image.Resampling.BOX).tobytes()


def differences(copy: str, other_copy: str) -> NDArray[np.int_] | None:
    """Return |difference| of two coarse copies, [32, 32]; None if one is none."""
    try:
        cells = [np.frombuffer(base64.b64decode(text), np.uint8) for text in (copy, other_copy)]
        first, second = (cell.reshape(_CELLS, _CELLS).astype(int) for cell in cells)
    except ValueError:
        return None
    return np.asarray(np.abs(first - second))


def check_number(digest: str) -> str:
    """Return the beginning of a digest as people compare it."""
    digits = digest.removeprefix("sha256:")[:12]
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
