"""Line art: text, lines and flat areas, as screenshots, slides, charts and drawings have them."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_FONTS: Final = (9, 10, 11, 12, 13, 14, 16, 20, 28)  # pixels of X
_LETTERS: Final = "etaoinshrdlucmfwypvbgkqjxz ETAOINSHR 0123456789 .,:;-/()"


def line_art(height: int, width: int, unit: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a drawing, uint8 [height, width, 3].

    unit: pixels of the drawing for one of the picture that is made of it.
    """
    is_dark = random.random() < 0.25  # light lines on a dark ground
    image = Image.new("RGB", (width, height), _color(random, is_light=not is_dark))
    canvas = ImageDraw.Draw(image)
    size = np.array([width, height])
    for _ in range(random.integers(4)):
        corner = random.uniform(0, 1, 2) * size
        canvas.rounded_rectangle(
            [*corner, *(corner + random.uniform(0.05, 0.6, 2) * size)],
            radius=unit * int(random.integers(8)),
            fill=_color(random, is_light=random.random() < 0.7),
            outline=_color(random, is_light=random.random() < 0.3),
            width=unit * int(random.integers(3)),
        )
    for _ in range(random.integers(4)):
        steps = random.normal(0, width / 6, (int(random.integers(2, 9)), 2))
        points = random.uniform(0, 1, 2) * size + np.cumsum(steps, axis=0)
        color, thick = _color(random, is_light=is_dark), unit * int(random.integers(1, 4))
        canvas.line([tuple(point) for point in points.tolist()], color, thick)
    for _ in range(random.integers(3)):
        place, radius = random.uniform(0, 1, 2) * size, unit * random.uniform(3, 24)
        outline = _color(random, is_light=is_dark)
        canvas.ellipse([*(place - radius), *(place + radius)], None, outline, unit)
    top = unit * random.uniform(0, 10)
    while top < height:
        font = unit * int(random.choice(_FONTS))
        words = "".join(random.choice(list(_LETTERS), random.integers(4, 60)))
        left = unit * int(random.choice([4, 4, 4, 20]))
        canvas.text((left, top), words, _color(random, is_light=is_dark), _font(font))
        top += font * random.uniform(1.2, 2.5)
    return np.asarray(image)


def page_around(
    photograph: NDArray[Any], unit: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a drawing with a rectangle of the photograph in it, uint8 [H, W, 3]."""
    height, width = photograph.shape[:2]
    page = line_art(height, width, unit, random).copy()
    rows, columns = rectangle(height, width, random, (0.35, 0.8))
    page[rows, columns] = photograph[rows, columns]
    return page


def rectangle(
    height: int, width: int, random: np.random.Generator, share: tuple[float, float]
) -> tuple[slice, slice]:
    """Return rows and columns of a rectangle whose sides are a share, within a range, of these."""
    spans = []
    for side in (height, width):
        length = max(1, round(side * random.uniform(*share)))
        first = int(random.integers(side - length + 1))
        spans.append(slice(first, first + length))
    return spans[0], spans[1]


def _color(random: np.random.Generator, *, is_light: bool) -> tuple[int, int, int]:
    """Grey or coloured, both as often."""
    low, high = (200, 256) if is_light else (0, 110)
    levels = random.integers(low, high, 3)
    if random.random() < 0.5:
        levels[:] = levels[0]
    red, green, blue = levels.tolist()
    return red, green, blue


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
