"""What a file says beside its pixels, cleaned for the enlarged picture.

Nothing of it is kept unless somebody asks: EXIF and XMP tell when, where and by whom a picture was
taken. What is kept is made true again: the orientation has been applied, sizes are those of the
output, previews are gone, and the place is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from PIL import Image

_ORIENTATION, _GPS, _EXIF = 0x0112, 0x8825, 0x8769
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_INTEROPERABILITY = 0xA005
# Make, model, date, artist, host, copyright: what TIFF and EXIF share and the writer does not set.
_TEXTS: Final = (0x010F, 0x0110, 0x0132, 0x013B, 0x013C, 0x8298)
_PROGRAM: Final = 0x000B  # ProcessingSoftware: the only field of EXIF that nobody else fills in

_MOST_BYTES: Final = 1 << 16  # of EXIF or XMP: one JPEG segment, which all formats can carry

# Attributes and elements of XMP that hold a place or an orientation, under any prefix. How long an
# element is has a bound, since each that has no end would be looked for through all that follows.
_XMP_PLACE: Final = re.compile(
    rb"""\s[\w.-]+:(?:GPS\w+|Orientation)\s*=\s*("[^"]*"|'[^']*')"""
    rb"|<([\w.-]+:(?:GPS\w+|Orientation))\b[^>]*>.{0,500}?</\2\s*>",
    re.DOTALL,
)

# GeoTIFF: pixel size, tie points, transformation, the three tables of keys; GDAL's own remarks.
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION = 33550, 33922, 34264
_KEYS: Final = (34735, 34736, 34737, 42112, 42113)

Directory = Mapping[int, object]
"""Fields of a directory of EXIF by their numbers."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """EXIF (without its marker) and XMP as bytes, and the tags of a GeoTIFF by number."""

    exif: bytes = b""
    xmp: bytes = b""
    geo: Mapping[int, object] = field(default_factory=dict)

    def enlarged(self, scale: int) -> Metadata:
        """For a picture of `scale` times the pixels in each direction: each is as much smaller."""
        geo = dict(self.geo)
        if isinstance(size := geo.get(_PIXEL_SCALE), tuple):
            geo[_PIXEL_SCALE] = (size[0] / scale, size[1] / scale, *size[2:])
        if isinstance(points := geo.get(_TIE_POINTS), tuple):
            # Six numbers each: column, row and level of the raster, then the place.
            geo[_TIE_POINTS] = tuple(
                value * scale if place % 6 < 2 else value for place, value in enumerate(points)
            )
        if isinstance(matrix := geo.get(_TRANSFORMATION), tuple):
            # Rows of four: what a step by one column and by one row adds, in the first two columns.
            geo[_TRANSFORMATION] = tuple(
                value / scale if place % 4 < 2 else value for place, value in enumerate(matrix)
            )
        return replace(self, geo=geo)

    def exif_of(self, width: int, height: int, program: str) -> bytes:
        """EXIF of an output of this size that names the program behind it."""
        exif = self._exif(width, height)
        exif[_PROGRAM] = program
        return exif.tobytes()

    def tiff_of(self, width: int, height: int) -> tuple[dict[int, bytes], dict[int, Directory]]:
        """EXIF in the terms of TIFF: texts of its main directory, and the directories below it."""
        exif = self._exif(width, height)
        texts = {tag: exif[tag].encode("latin-1", "replace") for tag in _TEXTS if tag in exif}
        below = {tag: dict(exif.get_ifd(tag)) for tag in (_EXIF, _GPS)}
        below[_EXIF].pop(_INTEROPERABILITY, None)
        return texts, {tag: directory for tag, directory in below.items() if directory}

    def _exif(self, width: int, height: int) -> Image.Exif:
        exif = Image.Exif()
        if self.exif:
            exif.load(self.exif)
        for tags, value in ((_WIDTHS, width), (_HEIGHTS, height)):
            for holder in (exif, exif.get_ifd(_EXIF)):
                for tag in tags:
                    if tag in holder:
                        holder[tag] = value
        return exif


def metadata_of(image: Image.Image, *, with_place: bool) -> tuple[Metadata, list[str]]:
    """What an opened image carries, cleaned, and notes on what could not be kept.

    Args:
        image: before its orientation is applied.
        with_place: keep GPS.
    """
    notes: list[str] = []
    exif, turned = b"", False
    try:
        # Of a PNG file, its own `getexif` would decode all pixels to look behind them.
        found = Image.Exif()  # a copy: whoever turns the picture needs the orientation
        found.load(Image.Image.getexif(image).tobytes())
        turned = found.get(_ORIENTATION, 1) != 1
        found.pop(_ORIENTATION, None)
        if not with_place:
            found.pop(_GPS, None)
        exif = found.tobytes() if len(found) else b""
    except Exception:  # noqa: BLE001 - Pillow raises anything on damaged EXIF
        notes.append("The EXIF data are damaged and were not kept.")
    if len(exif) > _MOST_BYTES:
        exif = b""
        notes.append("The EXIF data are too large and were not kept.")
    xmp = image.info.get("xmp", b"")
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
    if len(xmp) > _MOST_BYTES - 64:
        xmp = b""
        notes.append("The XMP data are too large and were not kept.")
    if not with_place:
        xmp = _XMP_PLACE.sub(b"", xmp)
        # In UTF-16 no place would be found; some programs write zeros behind the end.
        if b":GPS" in xmp or b"\0" in xmp.rstrip(b"\0"):
            xmp = b""
            notes.append("The XMP data may tell the place in an unusual way and were not kept.")
    # A picture that was turned lies differently on the ground.
    return Metadata(exif, xmp, {} if turned else _geo(image)), notes


def _geo(image: Image.Image) -> dict[int, object]:
    tags = getattr(image, "tag_v2", {})
    wanted = (_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, *_KEYS)
    return {tag: tags[tag] for tag in wanted if tag in tags}
