"""The picture's file in the wanted format, with what is attached to its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import IO, Any, Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from trustscale_server.images.encoding.png import to_bytes, write_png
from trustscale_server.images.encoding.tiff import (
    Pages,
    gdal_metadata,
    write_cog,
    write_ome_tiff,
    write_tiff,
)
from trustscale_server.images.metadata import Metadata
from trustscale_server.images.stretch import Raster
from trustscale_server.pixels.lab import Pixels

FormatName = Literal["png", "webp", "avif", "jpeg", "tiff", "cog.tiff", "ome.tiff"]

DEFAULT_QUALITY: Final = 90
BEST_QUALITY: Final = 100


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """A file format of the answer's picture, and what it can hold.

    lossless: at any quality. holds_16_bit: also 16 bits, and one channel. most: pixels of a side.
    bytes_per_pixel: what `write_picture` allocates at most, by the quality.
    """

    media_type: str
    lossless: bool
    alpha: bool
    most: int
    bytes_per_pixel: Callable[[int], int]
    holds_16_bit: bool = False

    def is_lossless(self, quality: int | None) -> bool:
        """Return whether a file of this quality holds the exact pixels."""
        return self.lossless or (self.media_type == "image/webp" and quality == BEST_QUALITY)


_TIFF: Final = PictureFormat(
    "image/tiff",
    lossless=True,
    alpha=True,
    most=2**31 - 1,
    bytes_per_pixel=lambda _: 0,
    holds_16_bit=True,
)

PICTURE_FORMATS: Final[Mapping[FormatName, PictureFormat]] = {
    "png": replace(_TIFF, media_type="image/png"),
    "webp": PictureFormat(
        "image/webp",
        lossless=False,
        alpha=True,
        most=16_383,
        bytes_per_pixel=lambda quality: 42 if quality == BEST_QUALITY else 14,
    ),
    "avif": PictureFormat(
        "image/avif", lossless=False, alpha=True, most=65_535, bytes_per_pixel=lambda _: 32
    ),
    "jpeg": PictureFormat(
        "image/jpeg",
        lossless=False,
        alpha=False,
        most=65_500,
        # From 95 on Pillow's buffer is as large as any file.
        bytes_per_pixel=lambda quality: 13 if quality >= 95 else 8,
    ),
    "tiff": _TIFF,
    # GDAL holds the reductions uncompressed.
    "cog.tiff": replace(_TIFF, bytes_per_pixel=lambda _: 40),
    "ome.tiff": replace(_TIFF, alpha=False),
}
"""By the value of the form field `format`, the file's suffix."""


class Attached(NamedTuple):
    """What the file of a picture holds besides its pixels.

    text: facts: text chunks of PNG, elsewhere one field of EXIF.
    metadata: EXIF, XMP and georeference.
    pages: further ones of a TIFF file.
    raster: of data: what the values mean; a single band is written as one channel.
    """

    text: Mapping[str, str] = MappingProxyType({})
    metadata: Metadata = Metadata()
    pages: Pages | None = None
    raster: Raster | None = None


def write_picture(
    out: IO[bytes],
    pixels: Pixels,
    file_format: FormatName,
    *,
    quality: int | None = None,
    attached: Attached = Attached(),  # noqa: B008 - immutable
) -> None:
    """Write a file of an sRGB picture, or of data in units of their stretch.

    Args:
        out: empty; it can be read, too.
        pixels: uint8 [h, w, 3 or 4], or uint16 [h, w, 3].
        file_format: of the file.
        quality: 1 to 100 for lossy formats.
        attached: to the pixels.
    """
    metadata, pages, raster = attached.metadata, attached.pages, attached.raster
    if raster is not None and raster.has_one_band:
        pixels = np.ascontiguousarray(pixels[..., 0])
    text = {**attached.text, **_meaning(raster)}
    program = "; ".join(f"{key.removeprefix('trustscale:')}={value}" for key, value in text.items())
    match file_format:
        case "ome.tiff":
            write_ome_tiff(out, pixels, program, metadata, pages)
        case "tiff":
            write_tiff(out, pixels, program, metadata, pages, gdal_metadata(text, raster))
        case "cog.tiff":
            write_cog(out, pixels, program, metadata, pages, gdal_metadata(text, raster))
        case "png":
            exif = metadata.exif_of("trustscale") if metadata.exif else b""
            write_png(out, pixels, text, exif=exif, xmp=metadata.xmp)
        case "webp" | "avif" | "jpeg":
            options: dict[str, Any] = {
                "webp": {"lossless": quality == BEST_QUALITY, "method": 2},
                "avif": {"speed": 8},
                "jpeg": {"subsampling": 0},
            }[file_format]
            options |= {"quality": quality or DEFAULT_QUALITY, "exif": metadata.exif_of(program)}
            if metadata.xmp:
                options["xmp"] = metadata.xmp
            Image.fromarray(pixels).save(out, file_format.upper(), **options)


def _meaning(raster: Raster | None) -> dict[str, str]:
    """The facts of a file about the data behind it."""
    if raster is None or raster.low is None or raster.high is None:
        return {}
    return {
        "trustscale:stretch": str(raster.stretch),
        "trustscale:low": ",".join(map(repr, raster.low)),
        "trustscale:high": ",".join(map(repr, raster.high)),
    }


picture = to_bytes(write_picture)
