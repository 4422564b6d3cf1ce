"""What a model added to one picture, and which of it is real: numbers, words, and its picture.

Three kinds of place: *unchanged*, where nothing visible was added; added and *held* up, by the
promise of `conformal/added.py`; added and *doubtful*.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from trustscale_server.conformal.added import DELTA
from trustscale_server.images.png import to_png
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.pixels.resize import resized
from trustscale_server.sampling.sigma.added_score import UNCHANGED, Added, safe_copy
from trustscale_server.sampling.sigma.features import CELL

RHO: Final = 0.3
"""The share of what is marked as real that may be invented, by default."""

CELLS: Final = "added.cells.png"
"""The stored cells: codes, energies and weights, as the channels of a small picture."""

LITTLE: Final = 0.05
"""Less than this share of what was added is nothing to rely on."""

_PER_DOUBLING = 8  # steps of a stored energy
_DOUBTFUL, _UNCHANGED, _HELD = 0, 128, 255  # in `added.png`


class AddedDetail(BaseModel):
    """What the model added, and how much of it is real."""

    plain: str = Field(description="What it added and how much of it holds up, in words.")
    promise: str | None = Field(
        None, description="What that says of other pictures; null: nothing is promised."
    )
    unchanged: float = Field(
        ge=0, le=1, description="The share of the picture to which nothing visible was added."
    )
    held: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The share of what was added that holds up; null: nothing is known of it.",
    )
    doubtful: float | None = Field(
        None, ge=0, le=1, description="The rest of what was added; null: nothing is known of it."
    )
    rho: float = Field(description="ρ: at most this share of what holds up is invented.")
    certainty: float = Field(
        1 - DELTA, description="The probability with which the calibration keeps the promise."
    )


def added_detail(
    added: Added, threshold: int | None, rho: float, *, why_not: str | None = None
) -> AddedDetail:
    """Describe what was added.

    threshold: as `Calibration.held` gives it. why_not: why nothing is promised about the upload.
    """
    changed = added.codes != UNCHANGED
    unchanged = 1 - float(changed.mean())
    total = float(added.energy[changed].sum(dtype=np.float64))
    if total == 0:
        return AddedDetail(plain=_NOTHING, unchanged=unchanged, rho=rho)
    if threshold is None or why_not is not None:
        why = why_not or "The calibration was made before that was looked at"
        plain = f"The model added detail. How much of it is real is not promised. {why}."
        return AddedDetail(plain=plain, unchanged=unchanged, rho=rho)
    held = float(added.energy[added.codes < threshold].sum(dtype=np.float64)) / total
    held = min(1.0, held)
    return AddedDetail(
        plain=in_words(held),
        promise=promise_of(rho) if held else None,
        unchanged=unchanged,
        held=held,
        doubtful=1 - held,
        rho=rho,
    )


_NOTHING: Final = "The model added nothing that can be seen."


def in_words(held: float) -> str:
    """Return the sentence about this share of what was added."""
    if held < LITTLE:
        return "The model added detail. Nothing here can be relied on beyond your own file."
    return f"The model added detail. {100 * held:.0f} % of it holds up."


def promise_of(rho: float) -> str:
    """Return the promise about what is marked as real."""
    return (
        f"Of the detail that is marked as real, at most {100 * rho:g} % is invented, on average "
        f"over pictures like yours, with a probability of {1 - DELTA:g} over the calibration."
    )


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
