"""Holes for inpainting, cut into an input.

They are marked by a declared colour that no other pixel should have, so they work with every
upscaler that takes an image; one that also takes a mask gets it from the same pixels (`mask_color`
of remote upscalers).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.kinds.streams import Stream, stream

HexColor = Annotated[
    str, Field(pattern=r"^#[0-9a-f]{6}$", description='A colour such as "#ff00ff", in lower case.')
]

_LARGEST = 0.35
"""Of the shorter side: the longest side of a rectangle, or straight part of a stroke."""


class Inpaint(BaseModel):
    """Holes that are cut into the input, by the seed of the pair.

    share: least share of the pixels. shape: rectangles, or strokes of a brush. color: of the holes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(0.1, gt=0, le=0.9)
    shape: Literal["rectangles", "strokes"] = "rectangles"
    color: HexColor = "#ff00ff"

    def describe(self) -> str:
        """Describe what was cut, for people."""
        return f"holes ({self.shape}, {self.share:.0%} of the pixels or more, {self.color})"


def hole_mask(height: int, width: int, inpaint: Inpaint, seed: int) -> NDArray[np.bool_]:
    """Return True in the holes, bool [H, W]; shapes are added until the share is reached."""
    random = stream(seed, Stream.HOLES)
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    add = _rectangle if inpaint.shape == "rectangles" else _stroke
    while True:
        add(draw, height, width, random)
        mask = np.asarray(image, np.bool_)
        if np.count_nonzero(mask) >= inpaint.share * mask.size:
            return mask


def cut_holes(image: NDArray[Any], mask: NDArray[np.bool_], color: str) -> NDArray[Any]:
    """Return the image, uint8 [H, W, 3], with the colour in the holes."""
    return np.where(mask[..., None], _rgb_of(color), image)


def holes_of(image: NDArray[Any], color: str) -> NDArray[np.bool_]:
    """Return the pixels of exactly this colour, bool [H, W]."""
    return np.asarray((image == _rgb_of(color)).all(axis=2))


def _rgb_of(color: str) -> NDArray[Any]:
    """A colour such as #ff00ff as uint8 [3]."""
    return np.frombuffer(bytes.fromhex(color.removeprefix("#")), np.uint8)


def _rectangle(
    draw: ImageDraw.ImageDraw, height: int, width: int, random: np.random.Generator
) -> None:
    longest = max(1.0, _LARGEST * min(height, width))
    tall, wide = (max(1.0, side) for side in random.uniform(0.2 * longest, longest, 2))
    top = random.uniform(-tall / 2, height - tall / 2)
    left = random.uniform(-wide / 2, width - wide / 2)
    draw.rectangle([left, top, left + wide, top + tall], fill=1)


def _stroke(
    draw: ImageDraw.ImageDraw, height: int, width: int, random: np.random.Generator
) -> None:
    shorter = min(height, width)
    thickness = max(1, round(shorter * random.uniform(0.02, 0.06)))
    x, y, angle = random.uniform(0, width), random.uniform(0, height), random.uniform(0, math.tau)
    for _ in range(int(random.integers(2, 6))):
        angle += random.uniform(-1, 1)
        length = shorter * random.uniform(0.1, _LARGEST)
        to_x, to_y = x + length * math.cos(angle), y + length * math.sin(angle)
        draw.line([x, y, to_x, to_y], fill=1, width=thickness)
        radius = thickness / 2  # round joints
        draw.ellipse([to_x - radius, to_y - radius, to_x + radius, to_y + radius], fill=1)
        x, y = to_x, to_y
