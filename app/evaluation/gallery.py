"""Sheets of pictures: rows of images under column heads, as SVG and as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.evaluation.plots import Picture, font_file

_GAP, _HEAD, _FOOT = 8, 26, 24
_TILE = 288  # pixels of the longer side of an image on a sheet


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Images of one row, uint8 [H, W] or [H, W, 3], and the line below them."""

    images: Sequence[NDArray[np.uint8]]
    caption: str


def sheet(
    upscaler: str,
    figure: str,
    title: str,
    caption: str,
    heads: Sequence[str],
    rows: Sequence[SheetRow],
    numbers: Sequence[Sequence[object]],
) -> Picture:
    """A sheet of pictures; `numbers` are the CSV rows behind it."""
    tiles = [[_tile(image) for image in row.images] for row in rows]
    width = _GAP + sum(tile.width + _GAP for tile in tiles[0])
    places, top = [], _HEAD
    for line in tiles:
        places.append(top)
        top += max(tile.height for tile in line) + _FOOT
    picture = _Sheet(width, top)
    for number, (line, row) in enumerate(zip(tiles, rows, strict=True)):
        left = _GAP
        for column, tile in enumerate(line):
            if number == 0:
                picture.text(left, _HEAD - 8, heads[column])
            picture.image(left, places[number], tile)
            left += tile.width + _GAP
        picture.text(_GAP, places[number] + line[0].height + 15, row.caption, faint=True)
    return Picture(upscaler, figure, title, caption, picture.svg(title), picture.png(), numbers)


def heat(values: NDArray[np.floating], top: float) -> NDArray[np.uint8]:
    """A map as colours, uint8 [H, W, 4]: black at 0, light from `top` on, in print too."""
    from matplotlib import colormaps  # noqa: PLC0415 - an optional dependency

    return np.asarray(colormaps["inferno"](np.clip(values / top, 0, 1), bytes=True))


class _Sheet:
    """Draws the same things into SVG and PNG."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._parts: list[str] = []
        self._canvas = Image.new("RGB", self._size, "white")
        self._pen = ImageDraw.Draw(self._canvas)
        self._font = ImageFont.truetype(font_file(), 12)

    def text(self, x: int, y: int, words: str, *, faint: bool = False) -> None:
        opacity = ' opacity="0.75"' if faint else ""
        self._parts.append(
            f'<text x="{x}" y="{y}" font-size="13" font-family="sans-serif" '
            f'fill="var(--ink)"{opacity}>{escape(words)}</text>'
        )
        self._pen.text((x, y - 11), words, fill="#555555" if faint else "black", font=self._font)

    def image(self, x: int, y: int, tile: Image.Image) -> None:
        out = io.BytesIO()
        tile.save(out, "JPEG", quality=86)
        data = base64.b64encode(out.getvalue()).decode()
        self._parts.append(
            f'<image x="{x}" y="{y}" width="{tile.width}" height="{tile.height}" '
            f'href="data:image/jpeg;base64,{data}"/>'
        )
        self._canvas.paste(tile, (x, y))

    def svg(self, title: str) -> str:
        width, height = self._size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'style="max-width:{width}px" role="img" aria-label="{escape(title)}">'
        )
        return head + "".join(self._parts) + "</svg>"

    def png(self) -> bytes:
        out = io.BytesIO()
        self._canvas.save(out, "PNG", optimize=False)
        return out.getvalue()


def _tile(image: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(image).convert("RGB")
    factor = _TILE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return picture.resize(size, how)
