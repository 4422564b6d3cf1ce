"""What a model added, by cells: as a stored file, as zones of a picture, and as a safe copy."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.encoding.png import to_png
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.pixels.resize import resized
from trustscale_server.sampling.sigma.added_score import UNCHANGED, Added, safe_copy
from trustscale_server.sampling.sigma.features import CELL

CELLS: Final = "added.cells.png"
"""The stored cells: codes, energies and weights, as the channels of a small picture."""

_PER_DOUBLING = 8  # steps of a stored energy
_DOUBTFUL, _UNCHANGED, _HELD = 0, 128, 255  # in `added.png`


def cells_png(added: Added) -> bytes:
    """Return the cells as a file; energies keep their logarithm in eighths of a doubling."""
    logs = _PER_DOUBLING * np.log2(np.maximum(added.energy, np.float32(2.0**-31)))
    energies = np.clip(np.rint(logs) + 255, 0, 255).astype(np.uint8)
    return to_png(np.dstack([added.codes, energies, added.weights]), {})


def read_cells(data: bytes) -> Added:
    """Return the cells of `cells_png`."""
    with Image.open(io.BytesIO(data)) as file:
        codes, energies, weights = np.moveaxis(np.asarray(file.convert("RGB")), 2, 0)
    exponents = (energies.astype(np.float32) - 255) / _PER_DOUBLING
    return Added(codes.copy(), np.exp2(exponents, dtype=np.float32), weights.copy())


def zones(
    added: Added, threshold: int | None, shape: tuple[int, int], reduced: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the three zones, uint8 [h, w]: 0 doubtful, 128 unchanged, 255 held up.

    shape: of the output. reduced: to which the picture was reduced afterwards; of a pixel that
    several places are averaged in, the most doubtful one counts.
    """
    held = added.codes < (threshold or 0)
    of_cells = np.where(added.codes == UNCHANGED, _UNCHANGED, np.where(held, _HELD, _DOUBTFUL))
    large = of_cells.astype(np.uint8).repeat(CELL, axis=0).repeat(CELL, axis=1)
    large = large[: shape[0], : shape[1]]
    if reduced == shape:
        return large
    rows, columns = (
        np.arange(side) * whole // side for side, whole in zip(reduced, shape, strict=True)
    )
    lowest = np.minimum.reduceat(np.minimum.reduceat(large, rows, axis=0), columns, axis=1)
    return np.asarray(lowest)


def safe_pixels(source: Pixels, picture: Pixels, added: Added) -> NDArray[np.uint8]:
    """Return the safe copy of a picture, uint8 [H, W, 3 or 4].

    picture: [H, W, 3 or 4], perhaps reduced afterwards; then E and w are reduced with it.
    """
    opaque, alpha = picture[..., :3], picture[..., 3:]
    height, width = picture.shape[:2]
    cells = -(-height // CELL), -(-width // CELL)
    if added.weights.shape == cells and height % len(source) == 0:
        safe = to_8_bit(safe_copy(source, opaque, added.weights))
    else:
        plain = resized(to_8_bit(source), (width, height), Image.Resampling.BICUBIC)
        w = Image.fromarray(added.weights).resize((width, height), Image.Resampling.BILINEAR)
        weights = np.asarray(w, np.float32)[..., None] / 255
        mixed = plain + weights * (to_8_bit(opaque) - plain.astype(np.float32))
        safe = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
    return np.dstack([safe, to_8_bit(alpha)]) if alpha.size else safe
