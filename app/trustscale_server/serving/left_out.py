"""What a mask leaves out although its colours may be right: faces, and text that nobody reads.

A mask is read as "this is right", and a promise about colours says nothing of who somebody is or of
what is written. Any part of a valid mask is valid, since a loss in it is no larger: so what was
found here is trusted at no α. Calibrations do not look for it. Their pictures lose what is wrong
in faces, too, so thresholds are those of the larger mask, which bounds the smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.things.faces import FindFaces


class LeftOut(BaseModel):
    """A face or a piece of text that is trusted at no α."""

    kind: Literal["face", "text"]
    box: list[tuple[float, float]] = Field(
        description="The corners (x, y) of its box in pixels of the picture, in order around it."
    )
    why: str = Field(description="Why it is left out, in a sentence for people.")

    def enlarged(self, scale: float) -> LeftOut:
        """Return it in a picture that is `scale` times as large."""
        return self.model_copy(update={"box": listed_corners(self.box, scale)})

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what holds it."""
        xs, ys = zip(*self.box, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def pixels(self, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
        """Return its pixels in a picture, as rows and columns, and bool of their shape."""
        return box_of(np.array(self.box), shape)


def listed_corners(
    corners: Iterable[Iterable[float]], scale: float = 1.0
) -> list[tuple[float, float]]:
    """Return corners (x, y), times a scale, as answers list them: to a tenth of a pixel."""
    return [(round(scale * x, 1), round(scale * y, 1)) for x, y in corners]


def faces_of(rgb: Pixels, scale: int, find: FindFaces) -> list[LeftOut]:
    """Return the faces of an upload, [H, W, 3], in pixels of the output."""
    faces = []
    for face in find(to_8_bit(rgb), scale):
        left, top = (math.floor(scale * side) for side in (face.left, face.top))
        right, bottom = (math.ceil(scale * side) for side in (face.right, face.bottom))
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        why = "A face. Nobody can promise who this is."
        faces.append(LeftOut(kind="face", box=corners, why=why))
    return faces


def why_look(left_out: list[LeftOut]) -> str | None:
    """Why a picture with these things needs a look, whatever its colours; None: it has none."""
    kinds = {place.kind for place in left_out}
    if not kinds:
        return None
    kinds_in_words = " and ".join(
        words for kind, words in (("face", "a face"), ("text", "text")) if kind in kinds
    )
    return f"It shows {kinds_in_words}, of which colours say nothing."
