"""A picture of 1200×630 that shows one place three times: as sent, as made, as it was."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trustscale_server.images.lettering import (
    REGULAR,
    SEMIBOLD,
    Colour,
    StyledText,
    draw_line,
    width_of,
    wrapped,
)

WIDTH, HEIGHT = 1200, 630
"""What social networks show of a link without cutting it."""

_PAPER: Final[Colour] = (17, 17, 17)
_INK: Final[Colour] = (244, 244, 240)
_SOFT: Final[Colour] = (164, 167, 168)
_DOUBT: Final[Colour] = (255, 92, 178)
_GAP, _SIDE = 16, 378
_LEFT: Final = (WIDTH - 3 * _SIDE - 2 * _GAP) // 2
_TOP: Final = 92
_FACTOR: Final = 2  # how many times too large letters are drawn, before they are reduced


def catch_card(
    sent: NDArray[np.uint8],
    output: NDArray[np.uint8],
    was: NDArray[np.uint8],
    *,
    verdict: str,
    upscaler: str,
    scale: float,
) -> NDArray[np.uint8]:
    """Return the card, uint8 [630, 1200, 3].

    sent, output, was: uint8 [h, w, 3], squares of the same place, each of any size. verdict:
    whether it had been marked, in a sentence.
    """
    image = Image.new("RGB", (_FACTOR * WIDTH, _FACTOR * HEIGHT), _PAPER)
    pen = ImageDraw.Draw(image)

    def write(text: StyledText, size: float, left: float, baseline: float) -> None:
        for line in wrapped([text], _FACTOR * size, _FACTOR * (WIDTH - left)):
            draw_line(pen, line, _FACTOR * left, _FACTOR * baseline)

    for k, name in enumerate(("You’d send", "It made", "It was")):
        head = StyledText(name, SEMIBOLD, _DOUBT if k == 1 else _INK)
        write(head, 34, _LEFT + k * (_SIDE + _GAP), _TOP - 26)
    base = _TOP + _SIDE
    write(StyledText(verdict, SEMIBOLD, _INK), 38, _LEFT, base + 66)
    origin = f"Reduced to a {_ordinal(scale)}, enlarged ×{scale:.3g} by {upscaler}."
    write(StyledText(origin, REGULAR, _SOFT), 24, _LEFT, base + 112)
    brand = wrapped([StyledText("Trustscale", SEMIBOLD, _SOFT)], _FACTOR * 24, _FACTOR * WIDTH)[0]
    draw_line(pen, brand, _FACTOR * (WIDTH - _LEFT) - width_of(brand), _FACTOR * (base + 112))
    image = image.reduce(_FACTOR)
    for k, picture in enumerate((sent, output, was)):
        panel = Image.fromarray(np.ascontiguousarray(picture[..., :3]))
        kind = Image.Resampling.BICUBIC if k == 0 else Image.Resampling.LANCZOS
        place = (_LEFT + k * (_SIDE + _GAP), _TOP)
        image.paste(panel.resize((_SIDE, _SIDE), kind), place)
    return np.asarray(image)


def _ordinal(scale: float) -> str:
    """The part that a side of so many times less is."""
    names = {2: "half", 3: "third", 4: "quarter", 8: "eighth"}
    return names.get(round(scale), f"{scale:.3g}th")
