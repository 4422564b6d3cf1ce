"""Where a picture lies on the ground (GeoTIFF), and how large its pixels are (OME, ImageJ)."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import ValidationError, convert
from PIL import Image
from PIL.ExifTags import Base

if TYPE_CHECKING:
    from tifffile import TiffFile

GeoTag: TypeAlias = int | float | str | tuple[int | float, ...]
"""The value of a tag of a GeoTIFF."""

# Pixel size, tie points, transformation, tables of keys, the value of no data.
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION = 33550, 33922, 34264
_TAGS: Final = (_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, 34735, 34736, 34737, 42113)

_MICROMETRES: Final[Mapping[str, float]] = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), 1.0),
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
_MAX_READ: Final = 1 << 20  # characters of OME's XML


def geo_tags_of(image: Image.Image) -> dict[int, GeoTag]:
    """Return the georeference of an opened TIFF file by its tags; of others there is none."""
    tags = getattr(image, "tag_v2", {})
    return _typed({tag: tags[tag] for tag in _TAGS if tag in tags})


def georeference_of(
    data: bytes, directory: int
) -> tuple[dict[int, GeoTag], tuple[float, float] | None]:
    """Return the georeference of a directory of a TIFF file, from 0, and its pixel size.

    Width and height in micrometres, from OME-TIFF or ImageJ.
    """
    import tifffile  # noqa: PLC0415 - takes time

    geo: dict[int, GeoTag] = {}
    size: tuple[float, float] | None = None
    with suppress(Exception), tifffile.TiffFile(io.BytesIO(data)) as file:  # of damaged files
        with suppress(Exception):
            tags = file.pages[directory].aspage().tags
            geo = _typed({tag: tags[tag].value for tag in _TAGS if tag in tags})
        size = _pixel_size(file)
    return geo, size


def enlarged_geo(geo: Mapping[int, GeoTag], scale: float) -> dict[int, GeoTag]:
    """Return the georeference of a picture with `scale` times the pixels per direction."""
    enlarged = dict(geo)
    if isinstance(size := geo.get(_PIXEL_SCALE), tuple):
        enlarged[_PIXEL_SCALE] = (size[0] / scale, size[1] / scale, *size[2:])
    if isinstance(points := geo.get(_TIE_POINTS), tuple):
        # Six numbers each: column, row, level, then the place.
        enlarged[_TIE_POINTS] = tuple(
            value * scale if place % 6 < 2 else value for place, value in enumerate(points)
        )
    if isinstance(matrix := geo.get(_TRANSFORMATION), tuple):
        # Rows of four: the first two are steps by a column and by a row.
        enlarged[_TRANSFORMATION] = tuple(
            value / scale if place % 4 < 2 else value for place, value in enumerate(matrix)
        )
    return enlarged


def _typed(tags: Mapping[int, object]) -> dict[int, GeoTag]:
    """The tags whose values have the types that GeoTIFF defines."""
    geo: dict[int, GeoTag] = {}
    for tag, value in tags.items():
        with suppress(ValidationError):
            geo[tag] = convert(value, GeoTag)
    return geo


def _pixel_size(file: TiffFile) -> tuple[float, float]:
    if xml := file.ome_metadata:
        return _ome_size(xml[:_MAX_READ], "X"), _ome_size(xml[:_MAX_READ], "Y")
    unit = str((file.imagej_metadata or {}).get("unit", ""))
    tags = file.pages.first.aspage().tags
    densities = [tags[tag].value for tag in (Base.XResolution, Base.YResolution)]
    width, height = (_MICROMETRES[unit] * down / up for up, down in densities)
    return width, height


def _ome_size(xml: str, axis: str) -> float:
    size = re.search(f'PhysicalSize{axis}="([^"]{{1,40}})"', xml)
    unit = re.search(f'PhysicalSize{axis}Unit="([^"]{{1,40}})"', xml)
    assert size is not None  # noqa: S101 - the caller catches whatever is wrong
    return float(size[1]) * _MICROMETRES[html.unescape(unit[1]) if unit else "µm"]
