"""A card: one picture for people, which says below itself what can be relied on.

It is the picture as the page shows it and, below, a strip like a newspaper's caption: a bar with
the share, a sentence or two, and the number by which the picture can be checked. Nothing lies
over the picture but thin frames around what was left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trustscale_server.pixels.boxes import Box
from trustscale_server.proof.lettering import (
    REGULAR,
    SEMIBOLD,
    Colour,
    StyledText,
    TypesetLine,
    draw_line,
    width_of,
    wrapped,
)
from trustscale_server.proof.themes import THEMES, Theme, ThemeColours

_Fill = Literal["solid", "faint", "doubtful"]

MIN_WIDTH: Final = 300
"""Of a card, in pixels: a narrower picture has paper beside it."""

_WIDEST: Final = 1.75  # a wider picture has letters and frames as one with this ratio of its sides


@dataclass(frozen=True, slots=True)
class BarSegment:
    """A segment of the bar: its share of the whole, and how it is filled."""

    share: float
    fill: _Fill


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands below the picture.

    lead: the sentence in bold; amber where it says that nothing is promised (`is_warning`).
    text: what follows it. origin: where the picture comes from, in smaller letters.
    check: the number of the picture. bar: from the left; empty: no bar.
    """

    lead: str
    text: str
    origin: str
    check: str
    bar: Sequence[BarSegment] = ()
    is_warning: bool = False


def card(
    picture: NDArray[np.uint8],
    caption: Caption,
    *,
    theme: Theme = "light",
    frames: Sequence[Box] = (),
    is_doubt: bool = False,
) -> NDArray[np.uint8]:
    """Return the picture with its caption below.

    Args:
        picture: uint8 [H, W, 3 or 4]; transparent parts stay transparent.
        caption: the words and the bar.
        theme: of the strip.
        frames: boxes that are framed, in pixels of the picture.
        is_doubt: whether frames have the colour of doubt, or are quiet.

    Returns:
        uint8 [H + strip, max(W, MIN_WIDTH), channels of the picture].
    """
    height, width, channels = picture.shape
    colours = THEMES[theme]
    strip = _strip(max(width, MIN_WIDTH), letter_size(width, height), caption, colours)
    total = strip.shape[1]
    out = np.empty((height + len(strip), total, channels), np.uint8)
    left = (total - width) // 2
    if total > width:
        out[:height, :, :3], out[:height, :, 3:] = colours.paper, 255
    out[:height, left : left + width] = picture
    out[height:, :, :3], out[height:, :, 3:] = strip, 255
    line = colours.doubt if is_doubt else (255, 255, 255)
    for box in frames:
        _frame(out[:height, left : left + width], box, line)
    return out


def letter_size(width: int, height: int) -> float:
    """Return the size in pixels of a caption's letters below a picture."""
    # 13 pixels can be read where a picture is shown 400 wide.
    return max(13.0, 0.0215 * min(width, _WIDEST * height))


def _strip(width: int, size: float, caption: Caption, colours: ThemeColours) -> NDArray[np.uint8]:
    """The strip, uint8 [h, width, 3]."""
    # Small letters are drawn larger and reduced: hinted to whole pixels their spaces vanish. At 48
    # pixels nobody sees that.
    factor = max(1, math.ceil(48 / size))
    side = round(1.15 * size)
    inner = width - 2 * side
    lead = StyledText(caption.lead, SEMIBOLD, colours.amber if caption.is_warning else colours.ink)
    small = 0.85 * size

    def lines(size: float, *spans: StyledText) -> list[TypesetLine]:
        return wrapped(spans, factor * size, factor * inner)

    first = lines(size, lead, StyledText(caption.text, REGULAR, colours.ink))
    second = lines(small, StyledText(caption.origin, REGULAR, colours.soft))
    check = lines(small, StyledText(caption.check, REGULAR, colours.soft))
    # The number stands at the right end of the last line, where there is room.
    joined = bool(second and check) and (
        width_of(second[-1]) + width_of(check[0]) + factor * size <= factor * inner
    )
    bar = max(3, round(0.3 * size)) if caption.bar else 0
    places: list[tuple[TypesetLine, float, float]] = []
    y = 0.95 * size + (bar + 0.55 * size if bar else 0)
    for line in first:
        places.append((line, side, y + 0.78 * size))
        y += 1.32 * size
    y += 0.16 * size
    for line in second:
        places.append((line, side, y + 0.8 * small))
        y += 1.36 * small
    if check:
        if joined:
            y -= 1.36 * small
        left = width - side - width_of(check[0]) / factor if joined else side
        places.append((check[0], left, y + 0.8 * small))
        y += 1.36 * small
    strip = _lettered(width, math.ceil(y + 0.72 * size), places, factor, colours.paper)
    if bar:
        top = round(0.95 * size)
        _fill_bar(strip[top : top + bar, side : width - side], caption.bar, size, colours)
    return strip


def _lettered(
    width: int,
    height: int,
    places: Sequence[tuple[TypesetLine, float, float]],
    factor: int,
    paper: Colour,
) -> NDArray[np.uint8]:
    """Lines of letters `factor` times too large at their places, left and baseline, on paper."""
    image = Image.new("RGB", (factor * width, factor * height), paper)
    pen = ImageDraw.Draw(image)
    for line, left, baseline in places:
        draw_line(pen, line, factor * left, factor * baseline)
    return np.array(image if factor == 1 else image.reduce(factor))


def _fill_bar(
    area: NDArray[np.uint8], segments: Sequence[BarSegment], size: float, colours: ThemeColours
) -> None:
    """Fill an area of the strip, uint8 [h, w, 3], from the left."""
    height, width, _ = area.shape
    shares = np.cumsum([segment.share for segment in segments])
    ends = np.rint(shares * width).astype(int).clip(0, width)
    step = max(4.0, 0.34 * size)
    place = (np.arange(width)[None] + np.arange(height)[:, None]) % step
    # A stripe of a third of the step, with edges one pixel wide.
    stripe = np.clip(step / 6 + 0.5 - np.abs(place - step / 2), 0, 1)[..., None]
    left = 0
    for segment, right in zip(segments, ends, strict=True):
        where = area[:, left:right]
        match segment.fill:
            case "solid":
                where[:] = colours.ink
            case "faint":
                where[:] = colours.line
            case "doubtful":
                share = stripe[:, left:right]
                where[:] = np.rint(share * colours.doubt + (1 - share) * np.array(colours.paper))
        left = right


def _frame(picture: NDArray[np.uint8], box: Box, line: Colour) -> None:
    """Draw a frame with a dark edge into uint8 [H, W, 3 or 4], a line around the box."""
    height, width, _ = picture.shape
    thick = max(1, round(0.0022 * min(width, _WIDEST * height)))
    for away, colour, opacity in ((2 * thick, (0, 0, 0), 0.4), (thick, line, 0.9)):
        left, top = (max(0, round(side) - away) for side in box[:2])
        right, bottom = (round(side) + away for side in box[2:])
        inside = slice(top + thick, max(top, bottom - thick))
        for rows, columns in (
            (slice(top, top + thick), slice(left, right)),
            (slice(max(top, bottom - thick), bottom), slice(left, right)),
            (inside, slice(left, left + thick)),
            (inside, slice(max(left, right - thick), right)),
        ):
            area = picture[rows, columns, :3]
            area[:] = np.rint(area * (1 - opacity) + np.array(colour) * opacity)
