"""TIFF files of a picture, its mask and its trust levels: plain, cloud optimized, and OME.

They are written strip by strip, like PNG (`png.py`), and never held whole, except by GDAL.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import SEEK_END
from typing import IO, Any, Final
from xml.etree import ElementTree as ET  # only written

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from trustscale_server.images.encoding.png import to_bytes
from trustscale_server.images.metadata import PROGRAM, Metadata
from trustscale_server.images.stretch import Raster
from trustscale_server.pixels.lab import Pixels
from trustscale_server.platform.errors import BadRequest

_ROWS: Final = 64  # of a strip


@dataclass(frozen=True, slots=True)
class Pages:
    """Further pages of a TIFF file: a 1-bit mask, and 16-bit trust levels."""

    mask: NDArray[np.bool_]
    trust: NDArray[np.uint16]


_LEVELS: Final = "trust level: value / 65534 of the bound B; 65535 is never trusted"


def write_tiff(
    out: IO[bytes],
    pixels: Pixels,
    program: str,
    metadata: Metadata,
    pages: Pages | None,
    about: bytes,
) -> None:
    """Write a TIFF file of picture, mask and trust levels, in the order that readers expect."""
    import tifffile  # noqa: PLC0415 - slow to import

    big = 4 * pixels.nbytes > 2**32
    main, directories = metadata.tiff_of()
    main |= {PROGRAM: program, **metadata.geo}
    resolution = float(main.pop(Base.XResolution, 1)), float(main.pop(Base.YResolution, 1))
    unit = int(main.pop(Base.ResolutionUnit, 1))
    description = main.pop(Base.ImageDescription, None)
    tags = [
        *((tag, *_typed(value), True) for tag, value in main.items()),
        (42112, "s", 0, about, True),  # what GDAL reads as metadata
        *_xmp_tags(metadata),
        # tifffile writes no tags of directories; the number before each is a placeholder.
        *((tag - 1, "Q" if big else "I", 1, 0, True) for tag in directories),
    ]
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


def _xmp_tags(metadata: Metadata) -> list[tuple[int, str, int, bytes, bool]]:
    """The tag of TIFF that holds XMP, if there is any."""
    return [(700, "B", len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else []


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


def write_cog(
    out: IO[bytes],
    pixels: Pixels,
    program: str,
    metadata: Metadata,
    pages: Pages | None,
    about: bytes,
) -> None:
    """Write the file of `write_tiff` as Cloud Optimized GeoTIFF. Raises BadRequest: no GDAL."""
    try:
        import rasterio.shutil  # noqa: PLC0415 - an extra
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError as error:
        raise BadRequest("format=cog.tiff needs the extra “science”.") from error

    tiff = to_bytes(write_tiff)(pixels, program, metadata, pages, about)
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


def write_ome_tiff(
    out: IO[bytes], pixels: Pixels, program: str, metadata: Metadata, pages: Pages | None
) -> None:
    """Write an OME-TIFF file: the picture with its size, its mask and its trust levels."""
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
    xmp = _xmp_tags(metadata)
    with tifffile.TiffWriter(out, ome=True, bigtiff=4 * pixels.nbytes > 2**32) as file:
        for name, description, plane in images:
            axes = "YX" if plane.ndim == 2 else "YXS"
            about = {"axes": axes, "Name": name, "Description": description, **size, **identity}
            photometric = "minisblack" if plane.ndim == 2 else "rgb"
            layout = {**_compressed(plane), "metadata": about, "extratags": xmp}
            xmp = []  # of the first page alone
            file.write(**layout, photometric=photometric, software="trustscale")


def write_trust_cog(
    out: IO[bytes], codes: NDArray[np.uint16], text: Mapping[str, str], metadata: Metadata
) -> None:
    """Write trust levels, uint16 [h, w], as a Cloud Optimized GeoTIFF with the picture's place."""
    place = Metadata(geo=metadata.geo)
    write_cog(out, codes, _LEVELS, place, None, gdal_metadata(text, None))


def gdal_metadata(text: Mapping[str, str], raster: Raster | None) -> bytes:
    """Return facts as GDAL reads them, with the scale and offset to the upload's values."""
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
