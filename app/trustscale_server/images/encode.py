"""Files from arrays: the picture in the wanted form, masks and trust levels as pages of it.

TIFF, like PNG (`png.py`), is written strip by strip, and never held whole.
"""

from __future__ import annotations

import hashlib
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import SEEK_END
from types import MappingProxyType
from typing import IO, Any, Final, Literal, NamedTuple
from xml.etree import ElementTree as ET  # only written

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from trustscale_server.images.decode import Raster
from trustscale_server.images.metadata import (
    PIXEL_SCALE,
    PROGRAM,
    TIE_POINTS,
    TRANSFORMATION,
    Metadata,
)
from trustscale_server.images.png import to_bytes, write_png
from trustscale_server.pixels.lab import Pixels
from trustscale_server.platform.errors import BadRequest

FormName = Literal["png", "webp", "avif", "jpeg", "tiff", "cog.tiff", "ome.tiff"]

DEFAULT_QUALITY: Final = 90
BEST_QUALITY: Final = 100
_ROWS: Final = 64  # of a strip of a TIFF file
_GDAL_METADATA: Final = 42112


@dataclass(frozen=True, slots=True)
class Form:
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


_TIFF: Final = Form(
    "image/tiff",
    lossless=True,
    alpha=True,
    most=2**31 - 1,
    bytes_per_pixel=lambda _: 0,
    holds_16_bit=True,
)

FORMS: Final[Mapping[FormName, Form]] = {
    "png": replace(_TIFF, media_type="image/png"),
    "webp": Form(
        "image/webp",
        lossless=False,
        alpha=True,
        most=16_383,
        bytes_per_pixel=lambda quality: 42 if quality == BEST_QUALITY else 14,
    ),
    "avif": Form(
        "image/avif", lossless=False, alpha=True, most=65_535, bytes_per_pixel=lambda _: 32
    ),
    "jpeg": Form(
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


@dataclass(frozen=True, slots=True)
class Pages:
    """Further pages of a TIFF file: a 1-bit mask, and 16-bit trust levels."""

    mask: NDArray[np.bool_]
    trust: NDArray[np.uint16]


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
    form: FormName,
    *,
    quality: int | None = None,
    attached: Attached = Attached(),  # noqa: B008 - immutable
) -> None:
    """Write a file of an sRGB picture, or of data in units of their stretch.

    Args:
        out: empty; it can be read, too.
        pixels: uint8 [h, w, 3 or 4], or uint16 [h, w, 3].
        form: of the file.
        quality: 1 to 100 for lossy forms.
        attached: to the pixels.
    """
    metadata, pages, raster = attached.metadata, attached.pages, attached.raster
    if raster is not None and raster.has_one_band:
        pixels = np.ascontiguousarray(pixels[..., 0])
    text = {**attached.text, **_meaning(raster)}
    program = "; ".join(f"{key.removeprefix('trustscale:')}={value}" for key, value in text.items())
    if form == "ome.tiff":
        return _ome(out, pixels, program, metadata, pages)
    if form == "tiff":
        return _tiff(out, pixels, program, metadata, pages, _gdal_metadata(text, raster))
    if form == "cog.tiff":
        return _cog(out, pixels, program, metadata, pages, _gdal_metadata(text, raster))
    if form == "png":
        exif = metadata.exif_of("trustscale") if metadata.exif else b""
        return write_png(out, pixels, text, exif=exif, xmp=metadata.xmp)
    options: dict[str, Any] = {
        "quality": quality or DEFAULT_QUALITY,
        "exif": metadata.exif_of(program),
    }
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    if form == "webp":
        options |= {"lossless": quality == BEST_QUALITY, "method": 2}
    elif form == "avif":
        options |= {"speed": 8}
    elif form == "jpeg":
        options |= {"subsampling": 0}
    Image.fromarray(pixels).save(out, form.upper(), **options)
    return None


def write_trust_cog(
    out: IO[bytes], codes: NDArray[np.uint16], text: Mapping[str, str], metadata: Metadata
) -> None:
    """Write trust levels, uint16 [h, w], as a Cloud Optimized GeoTIFF with the picture's place."""
    place = Metadata(geo=metadata.geo)
    _cog(out, codes, _LEVELS, place, None, _gdal_metadata(text, None))


_LEVELS: Final = "trust level: value / 65534 of the bound B; 65535 is never trusted"


def _meaning(raster: Raster | None) -> dict[str, str]:
    """The facts of a file about the data behind it."""
    if raster is None or raster.low is None or raster.high is None:
        return {}
    return {
        "trustscale:stretch": str(raster.stretch),
        "trustscale:low": ",".join(map(repr, raster.low)),
        "trustscale:high": ",".join(map(repr, raster.high)),
    }


def enlarged_metadata(metadata: Metadata, scale: float) -> Metadata:
    """Return the metadata of a picture with `scale` times the pixels per direction."""
    geo = dict(metadata.geo)
    if isinstance(size := geo.get(PIXEL_SCALE), tuple):
        geo[PIXEL_SCALE] = (size[0] / scale, size[1] / scale, *size[2:])
    if isinstance(points := geo.get(TIE_POINTS), tuple):
        # Six numbers each: column, row, level, then the place.
        geo[TIE_POINTS] = tuple(
            value * scale if place % 6 < 2 else value for place, value in enumerate(points)
        )
    if isinstance(matrix := geo.get(TRANSFORMATION), tuple):
        # Rows of four: the first two are steps by a column and by a row.
        geo[TRANSFORMATION] = tuple(
            value / scale if place % 4 < 2 else value for place, value in enumerate(matrix)
        )
    size = metadata.pixel_um and (metadata.pixel_um[0] / scale, metadata.pixel_um[1] / scale)
    return replace(metadata, geo=geo, pixel_um=size)


def _gdal_metadata(text: Mapping[str, str], raster: Raster | None) -> bytes:
    """Facts as GDAL reads them, with the scale and offset to the upload's values."""
    root = ET.Element("GDALMetadata")
    for key, value in text.items():
        # A colon would end the name.
        ET.SubElement(root, "Item", name=key.replace(":", "_")).text = value
    if raster is not None and raster.low is not None and raster.high is not None:
        for band, (low, high) in enumerate(zip(raster.low, raster.high, strict=True)):
            for name, number in {"OFFSET": low, "SCALE": (high - low) / 65535}.items():
                about = {"name": name, "sample": str(band), "role": name.lower()}
                ET.SubElement(root, "Item", about).text = repr(number)
    return ET.tostring(root)


def _cog(out: IO[bytes], *arguments: Any) -> None:
    """The file of `_tiff` as a Cloud Optimized GeoTIFF. Raises BadRequest: GDAL is missing."""
    try:
        import rasterio.shutil  # noqa: PLC0415 - an extra
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError as error:
        raise BadRequest("format=cog.tiff needs the extra “science”.") from error

    tiff = to_bytes(_tiff)(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files without a place on the ground
        environment = rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK="YES")
        with environment, MemoryFile(tiff) as plain, MemoryFile() as cog:
            rasterio.shutil.copy(
                plain.name,
                cog.name,
                driver="COG",
                compress="DEFLATE",
                predictor="STANDARD",
                blocksize=512,
                overview_resampling="NEAREST",
                bigtiff="IF_SAFER",
            )
            out.write(cog.getbuffer())


def _ome(
    out: IO[bytes], pixels: Pixels, program: str, metadata: Metadata, pages: Pages | None
) -> None:
    """An OME-TIFF file: the picture with the size of its pixels, its mask and its trust levels."""
    import tifffile  # noqa: PLC0415 - slow to import

    size: dict[str, float | str] = {}
    for axis, micrometres in zip("XY", metadata.pixel_um or (), strict=False):
        size |= {f"PhysicalSize{axis}": micrometres, f"PhysicalSize{axis}Unit": "µm"}
    # The same answer is the same file.
    content = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
    identity = {"UUID": f"urn:uuid:{uuid.UUID(bytes=content[:16])}"}
    images: list[tuple[str, str, NDArray[Any]]] = [("picture", program, pixels)]
    if pages is not None:
        mask = np.where(pages.mask, np.uint8(255), np.uint8(0))
        images += [("trust mask", "255 is trusted", mask), ("trust levels", _LEVELS, pages.trust)]
    xmp = [_xmp_tag(metadata)] if metadata.xmp else []
    with tifffile.TiffWriter(out, ome=True, bigtiff=4 * pixels.nbytes > 2**32) as file:
        for name, description, plane in images:
            axes = "YX" if plane.ndim == 2 else "YXS"
            about = {"axes": axes, "Name": name, "Description": description, **size, **identity}
            photometric = "minisblack" if plane.ndim == 2 else "rgb"
            layout = {**_compressed(plane), "metadata": about, "extratags": xmp}
            xmp = []  # of the first page alone
            file.write(**layout, photometric=photometric, software="trustscale")


picture = to_bytes(write_picture)


def _tiff(
    out: IO[bytes],
    pixels: Pixels,
    program: str,
    metadata: Metadata,
    pages: Pages | None,
    about: bytes,
) -> None:
    """A TIFF file of picture, mask and trust levels, in the order that readers expect."""
    import tifffile  # noqa: PLC0415 - slow to import

    big = 4 * pixels.nbytes > 2**32
    main, directories = metadata.tiff_of()
    main |= {PROGRAM: program, **metadata.geo}
    resolution = float(main.pop(Base.XResolution, 1)), float(main.pop(Base.YResolution, 1))
    unit = int(main.pop(Base.ResolutionUnit, 1))
    description = main.pop(Base.ImageDescription, None)
    tags = [(tag, *_typed(value), True) for tag, value in main.items()]
    tags.append((_GDAL_METADATA, "s", 0, about, True))
    if metadata.xmp:
        tags.append(_xmp_tag(metadata))
    # tifffile writes no tags of directories; the number before each is a placeholder.
    tags += [(tag - 1, "Q" if big else "I", 1, 0, True) for tag in directories]
    with tifffile.TiffWriter(out, bigtiff=big, byteorder="<") as file:
        file.write(
            **_compressed(pixels),
            photometric="minisblack" if pixels.ndim == 2 else "rgb",
            extrasamples=["unassalpha"] if pixels.shape[2:] == (4,) else None,
            software="trustscale",
            description=description,
            resolution=resolution,
            resolutionunit=unit,
            extratags=tags,
        )
        if pages is not None:
            # GDAL takes a page of this type as the mask of the page before.
            file.write(**_compressed(pages.mask), photometric="mask", subfiletype=4)
            file.write(**_compressed(pages.trust), photometric="minisblack", description=_LEVELS)
    if directories:
        _append(out, directories, big=big)


def _xmp_tag(metadata: Metadata) -> tuple[int, str, int, bytes, bool]:
    """XMP as a tag of TIFF."""
    return 700, "B", len(metadata.xmp), metadata.xmp, True


def _compressed(pixels: NDArray[Any]) -> dict[str, Any]:
    """The arguments of tifffile for a page of compressed strips."""
    is_mask = pixels.dtype == np.bool_

    def strips() -> Iterator[bytes]:
        for top in range(0, len(pixels), _ROWS):
            rows = pixels[top : top + _ROWS]
            if is_mask:
                yield isal_zlib.compress(np.packbits(rows, axis=1), 1)
                continue
            steps = rows.astype(rows.dtype.newbyteorder("<"))  # what predictor 2 of TIFF says
            np.subtract(rows[:, 1:], rows[:, :-1], out=steps[:, 1:])
            yield isal_zlib.compress(steps, 1)

    return {
        "data": strips(),
        "shape": pixels.shape,
        "dtype": pixels.dtype,
        "compression": "zlib",
        "predictor": not is_mask,
        "rowsperstrip": _ROWS,
        "metadata": None,
    }


def _typed(value: Any) -> tuple[str, int, object]:
    """Type, count and value of a tag as tifffile takes them."""
    if isinstance(value, str | bytes):
        return "s", 0, value
    values = value if isinstance(value, tuple) else (value,)
    return "H" if all(isinstance(item, int) for item in values) else "d", len(values), value


def _append(out: IO[bytes], directories: Mapping[int, Mapping[int, Any]], *, big: bool) -> None:
    """Write directories of EXIF behind a TIFF file, and their offsets into its first page."""
    import tifffile  # noqa: PLC0415 - as above

    header = b"II\x2b\0\x08\0\0\0" + bytes(8) if big else b"II\x2a\0" + bytes(4)
    out.seek(0)
    with tifffile.TiffFile(out) as file:
        places = {tag: file.pages.first.tags[tag - 1] for tag in directories}
    for tag, fields in directories.items():
        directory = ImageFileDirectory_v2(header, group=tag)
        for field, value in fields.items():
            directory[field] = value
        place = out.seek(0, SEEK_END)
        place += out.write(bytes(place % 2))  # directories begin at even places
        out.write(directory.tobytes(place))
        out.seek(places[tag].offset)
        out.write(tag.to_bytes(2, "little"))
        out.seek(places[tag].valueoffset)
        out.write(place.to_bytes(8 if big else 4, "little"))
