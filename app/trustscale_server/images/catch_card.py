"""A picture of 1200×630 that shows one place three times: as sent, as made, as it was."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trustscale_server.images.lettering import (
    REGULAR,
    SEMIBOLD,
    StyledText,
    draw_line,
    width_of,
    wrapped,
)
from trustscale_server.images.themes import THEMES

WIDTH, HEIGHT = 1200, 630
"""What social networks show of a link without cutting it."""

_COLOURS: Final = THEMES["dark"]
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
    image = Image.new("RGB", (_FACTOR * WIDTH, _FACTOR * HEIGHT), _COLOURS.paper)
    pen = ImageDraw.Draw(image)

    def write(text: StyledText, size: float, left: float, baseline: float) -> None:
        for line in wrapped([text], _FACTOR * size, _FACTOR * (WIDTH - left)):
            draw_line(pen, line, _FACTOR * left, _FACTOR * baseline)

    for k, name in enumerate(("You’d send", "It made", "It was")):
        head = StyledText(name, SEMIBOLD, _COLOURS.doubt if k == 1 else _COLOURS.ink)
        write(head, 34, _LEFT + k * (_SIDE + _GAP), _TOP - 26)
    base = _TOP + _SIDE
    write(StyledText(verdict, SEMIBOLD, _COLOURS.ink), 38, _LEFT, base + 66)
    origin = f"Reduced to a {_ordinal(scale)}, enlarged ×{scale:.3g} by {upscaler}."
    write(StyledText(origin, REGULAR, _COLOURS.soft), 24, _LEFT, base + 112)
    own_name = StyledText("Trustscale", SEMIBOLD, _COLOURS.soft)
    (brand,) = wrapped([own_name], _FACTOR * 24, _FACTOR * WIDTH)
    draw_line(pen, brand, _FACTOR * (WIDTH - _LEFT) - width_of(brand), _FACTOR * (base + 112))
    image = image.reduce(_FACTOR)
    for k, picture in enumerate((sent, output, was)):
        panel = Image.fromarray(np.ascontiguousarray(picture[..., :3]))
        kind = Image.Resampling.BICUBIC if k == 0 else Image.Resampling.LANCZOS
        place = (_LEFT + k * (_SIDE + _GAP), _TOP)
        image.paste(panel.resize((_SIDE, _SIDE), kind), place)
    return np.asarray(image)


def _ordinal(scale: float) -> str:
    """What part of a side is left by a reduction, such as “quarter” by 4."""
    names = {2: "half", 3: "third", 4: "quarter", 8: "eighth"}
    return names.get(round(scale), f"{scale:.3g}th")
