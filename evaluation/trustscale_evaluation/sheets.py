"""Sheets of images under column heads, as a JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trustscale_evaluation.records import Record
from trustscale_evaluation.report_picture import ReportPicture
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.pixels.resize import size_within

_GAP, _HEAD, _FOOT = 8, 26, 24

_TILE = 288  # longer side of an image on a sheet, pixels


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Images of one row, [H, W] or [H, W, 3], and the line below them."""

    images: Sequence[Pixels]
    caption: str


def sheet(
    upscaler: str,
    figure: str,
    title: str,
    caption: str,
    heads: Sequence[str],
    rows: Sequence[SheetRow],
    records: Sequence[Record],
) -> ReportPicture:
    """Lay out rows of images under column heads."""
    import matplotlib as mpl  # noqa: PLC0415 - an optional dependency, imported where it is used

    tiles = [[_tile(image) for image in row.images] for row in rows]
    width = _GAP + sum(tile.width + _GAP for tile in tiles[0])
    height = _HEAD + sum(line[0].height + _FOOT for line in tiles)
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)

    font = ImageFont.truetype(mpl.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", 12)
    top = _HEAD
    for line, row in zip(tiles, rows, strict=True):
        left = _GAP
        for tile, head in zip(line, heads, strict=True):
            if line is tiles[0]:
                pen.text((left, _HEAD - 19), head, fill="black", font=font)
            canvas.paste(tile, (left, top))
            left += tile.width + _GAP
        caption_at = _GAP, top + line[0].height + 4
        pen.text(caption_at, row.caption, fill="#555555", font=font)
        top += line[0].height + _FOOT
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=86)
    alt = ". ".join((title, *(row.caption for row in rows)))
    return ReportPicture(upscaler, figure, title, caption, alt, file.getvalue(), records)


def heat(values: NDArray[np.floating], top: float) -> NDArray[np.uint8]:
    """Return a map as colours, uint8 [H, W, 4]: black at 0, light from `top` on."""
    import matplotlib as mpl  # noqa: PLC0415 - as above

    return np.asarray(mpl.colormaps["inferno"](np.clip(values / top, 0, 1), bytes=True))


def _tile(image: Pixels) -> Image.Image:
    picture = Image.fromarray(to_8_bit(image)).convert("RGB")
    is_small = max(picture.size) < _TILE
    filter_ = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
    return picture.resize(size_within(picture.size, _TILE), filter_)
