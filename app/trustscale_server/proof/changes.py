"""How the pixels of a file differ from the ones that were marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.boxes import Box
from trustscale_server.proof.marks import Mark
from trustscale_server.proof.pixel_digest import coarse_copy, differences, pixel_digest

PixelState = Literal["unchanged", "saved_again", "resized", "cropped", "changed", "unknown"]
"""As marked; the same to the eye; the same in another size; a part; other; not to be told."""

# Steps of lightness, of 255, in a cell of the coarse copy: compression at quality 30 stays below.
_SAME: Final = 6


@dataclass(frozen=True, slots=True)
class PixelChange:
    """How pixels differ from the marked ones, in one word and in a sentence.

    box: where they were changed, as shares of the sides: left, top, right and bottom.
    """

    state: PixelState
    sentence: str
    box: Box | None = None


PIXELS_UNCHANGED: Final = PixelChange(
    "unchanged", "Its pixels have not changed since it was marked."
)
PIXELS_UNKNOWN: Final = PixelChange("unknown", "Whether its pixels were changed cannot be told.")
_SAVED_AGAIN: Final = PixelChange(
    "saved_again",
    "It was saved again: its pixels are not exactly the same as when it was marked, but look the "
    "same. A change of something small cannot be told from compression.",
)
_RESIZED: Final = PixelChange(
    "resized",
    "It was made smaller or larger, and looks the same otherwise. A change of something small "
    "cannot be told from that.",
)


def change_since(mark: Mark, pixels: NDArray[np.uint8]) -> PixelChange:
    """Compare pixels, uint8 [H, W, 3 or 4], with those of a mark."""
    if not mark.pixels:
        return PIXELS_UNKNOWN
    if pixel_digest(pixels) == mark.pixels:
        return PIXELS_UNCHANGED
    height, width = pixels.shape[:2]
    if _has_shape(width, height, *mark.size):
        return _seen(mark, (width, height), differences(coarse_copy(pixels), mark.look))
    if mark.rows and _has_shape(width, height, mark.size[0], mark.rows):
        return PixelChange("cropped", "Its caption was cut off.")
    was = f"{mark.size[0]} × {mark.size[1]} pixels, now {width} × {height}"
    return PixelChange(
        "cropped",
        f"It has another shape than what was marked ({was}): it was cropped, turned or stretched.",
    )


def _seen(mark: Mark, size: tuple[int, int], difference: NDArray[np.int_] | None) -> PixelChange:
    """Judge by how much the cells of the coarse copies differ, [32, 32]; None: there is no copy."""
    if difference is None:
        return PIXELS_UNKNOWN
    if difference.max() <= _SAME:
        return _SAVED_AGAIN if size == mark.size else _RESIZED
    rows, columns = np.nonzero(difference > _SAME)
    cells = len(difference)
    left, right = float(columns.min() / cells), float((columns.max() + 1) / cells)
    top, bottom = float(rows.min() / cells), float((rows.max() + 1) / cells)
    where = "in most of it"
    if (right - left) * (bottom - top) < 0.5:
        where = (
            f"at about {round(50 * (left + right))} % of its width and "
            f"{round(50 * (top + bottom))} % of its height"
        )
    elif size != mark.size:
        return PixelChange(
            "cropped", "It shows something else than what was marked: it was cropped."
        )
    sentence = f"It was changed after it was marked, {where}."
    return PixelChange("changed", sentence, (left, top, right, bottom))


def _has_shape(width: int, height: int, of_width: int, of_height: int) -> bool:
    """Whether the sides have this ratio, but for rounding to whole pixels."""
    return of_height > 0 and (
        abs(width * of_height / (height * of_width) - 1) <= 1 / min(width, height)
    )
