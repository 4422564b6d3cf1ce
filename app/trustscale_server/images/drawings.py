"""What is painted on pictures: a mask's overlay and composite, and holes for inpainting.

Holes are marked by a declared colour that no other pixel should have, so they work with every
upscaler that takes an image; one that also takes a mask gets it from the same pixels (`mask_color`
of remote upscalers).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.pixels.lab import Pixels

OPAQUE = 255

# The marking of the page (`js/upscale/paint.js`), as it is near by: colours with their opacity.
# Magenta is rare in photographs, and distinct from grey in all common forms of colour blindness.
_STEP = 8  # pixels from stripe to stripe along an axis
_STRIPE, _SHADE = ((255, 255, 255), 0.55), ((0, 0, 0), 0.34)
_LINE, _RIM = ((255, 255, 255), 0.95), ((224, 0, 140), 0.9)


def opaque_part(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Return where uint8 [H, W, 3 or 4] is opaque, bool [H, W]; None if everywhere."""
    return None if pixels.shape[2] == 3 else pixels[..., 3] == OPAQUE


def overlay(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """Return `image` in its own colours, hatched outside `mask`, uint8 [H, W, 3].

    A white line with a magenta one inside marks the border.
    """
    height, width = mask.shape
    # Bytes wrap at 256, a multiple of the step.
    along = [np.arange(length).astype(np.uint8) for length in (height, width)]
    place = (along[0][:, None] + along[1]) % _STEP
    doubtful = ~mask
    line = doubtful & _beside(mask)
    rim = doubtful & ~line & _beside(line)
    out = image.copy()
    for where, (colour, opacity) in (
        (doubtful & (place == 0), _STRIPE),
        (doubtful & (place == 1), _SHADE),
        (rim, _RIM),
        (line, _LINE),
    ):
        under = image[where].astype(np.float32)
        out[where] = np.rint(under * (1 - opacity) + np.multiply(colour, opacity, dtype=np.float32))
    return out


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels have a neighbour of the mask above, below, left or right."""
    beside = np.zeros_like(mask)
    beside[1:] |= mask[:-1]
    beside[:-1] |= mask[1:]
    beside[:, 1:] |= mask[:, :-1]
    beside[:, :-1] |= mask[:, 1:]
    return beside


_STRIP = 256  # rows that are blended together


def composed(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], outside: Image.Image, fade: int
) -> NDArray[np.uint8]:
    """Combine the picture inside `mask`, unchanged, with `outside` around it; the edge fades.

    Args:
        picture: uint8 [H, W, 3 or 4]; its transparency stays.
        mask: bool [H, W].
        outside: RGB of any size, resized to the picture (bicubic).
        fade: width of the fade in pixels, all outside the mask.
    """
    height, width = mask.shape
    plain = outside.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.empty_like(picture)
    for top in range(0, height, _STRIP):
        first, bottom = max(0, top - fade), min(height, top + _STRIP)
        share = fading(mask[first : bottom + fade], fade)[top - first :][: bottom - top]
        strip = plain.crop((0, top, width, bottom))
        inside = Image.fromarray(picture[top:bottom])
        if inside.mode == "RGBA":
            strip.putalpha(inside.getchannel("A"))
        pixels[top:bottom] = np.asarray(Image.composite(inside, strip, Image.fromarray(share)))
    return pixels


def fading(mask: NDArray[np.bool_], fade: int) -> NDArray[np.uint8]:
    """Return 255 in the mask, falling to 0 within `fade` pixels beside it, uint8 [h, w].

    What lies near the mask is blurred, which takes a fifth of the time of distances.
    """
    radius = fade // 2
    inside = Image.fromarray(mask).convert("L")
    near = inside
    for along in ((radius, 0), (0, radius)):
        near = near.filter(ImageFilter.BoxBlur(along)).point(_ANY)
    share = near.filter(ImageFilter.BoxBlur(radius)).point(_SMOOTH)
    return np.asarray(ImageChops.lighter(share, inside))


_ANY = [0, *OPAQUE * [OPAQUE]]
# Without a corner at either end.
_SMOOTH = [round((1 - math.cos(math.pi * k / OPAQUE)) / 2 * OPAQUE) for k in range(OPAQUE + 1)]


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


def stream(seed: int, number: int) -> np.random.Generator:
    """Return a random generator that is independent for each number and each seed.

    A pair's seed also chooses its samples, and the damage of a real input is independent of them.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))


def hole_mask(height: int, width: int, inpaint: Inpaint, seed: int) -> NDArray[np.bool_]:
    """Return True in the holes, bool [H, W]; shapes are added until the share is reached."""
    random = stream(seed, 2)
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
    return np.where(mask[..., None], rgb_of(color), image)


def holes_of(image: NDArray[Any], color: str) -> NDArray[np.bool_]:
    """Return the pixels of exactly this colour, bool [H, W]."""
    return np.asarray((image == rgb_of(color)).all(axis=2))


def rgb_of(color: str) -> NDArray[Any]:
    """Return a colour such as #ff00ff as uint8 [3]."""
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
