"""Data of science files: which page and bands are read, and what X is then.

A stretch makes X of their values (`stretch.py`). TIFF and PNG files are read by GDAL (`gdal.py`).
Colour profiles and orientation do not change data.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.compression import LOSSLESS
from trustscale_server.images.decoding.decode import (
    Decoded,
    DecodeOptions,
    KeepMetadata,
    decode,
    reduced_note,
)
from trustscale_server.images.decoding.depth import depth_of
from trustscale_server.images.decoding.gdal import read_bands
from trustscale_server.images.limits import Limits, check_bytes
from trustscale_server.images.stretch import Raster, RasterData, Values, stretched, windowed
from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import resized, size_within
from trustscale_server.platform.errors import BadImage, BadRequest


def read_picture(
    data: bytes,
    limits: Limits,
    *,
    stretch: str | None = None,
    bands: str | None = None,
    **options: Unpack[DecodeOptions],
) -> Decoded:
    """Read X of a file, in 16 bits where there is a stretch, else as `decode` makes it.

    Raises:
        BadRequest: bands of more than 8 bits without a stretch.
        BadInput: as `decode`.
    """
    if stretch is None and bands is None:
        return decode(data, limits, **options)
    if options.pop("background", None) is not None:
        raise BadRequest("background cannot be combined with stretch or bands, which are for data.")
    with_alpha = options.pop("with_alpha", False)
    read = read_values(data, limits, bands=bands, **options)  # type: ignore[misc]  # of those left
    if read.valid is not None and not with_alpha:
        raise BadImage("The image has pixels without data.")
    raster, notes = read.raster, [*read.notes]
    if stretch is not None:
        raster = windowed(read, stretch)
        pixels: NDArray[Any] = stretched(read.values, raster)
    elif read.values.dtype == np.uint8:
        pixels = np.broadcast_to(read.values, (*read.values.shape[:2], 3))
    else:
        raise BadRequest(
            "The bands have more than 8 bits: say by stretch, such as stretch=p1,p99, which of "
            "their values are the darkest and the lightest."
        )
    alpha = None if read.valid is None else np.where(read.valid, 255, 0).astype(np.uint8)
    if alpha is not None:
        notes.append("Some pixels have no data: nothing there is trusted.")
    return Decoded(
        np.ascontiguousarray(pixels), read.format, notes, alpha, read.metadata, LOSSLESS, raster
    )


def stored_pixels(data: bytes) -> Pixels:
    """Return the pixels of a picture that this program has written, of 8 or 16 bits, [h, w, 3]."""
    with Image.open(io.BytesIO(data)) as picture:
        # Pillow drops the lower half of colours of 16 bits.
        if picture.format in {"PNG", "TIFF"} and depth_of(picture, data) == 16:
            limits = Limits(len(data), picture.width * picture.height)
            values = read_values(data, limits).values
            return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
        return np.asarray(picture.convert("RGB"))


def read_values(
    data: bytes,
    limits: Limits,
    *,
    bands: str | None = None,
    page: int | None = None,
    keep: KeepMetadata = "none",
    max_input_side: int | None = None,
) -> RasterData:
    """Return the values of one page of a file.

    Raises:
        BadInput: as `decode`; no such page or band; several bands, and none is named.
    """
    read = None
    if (form := _data_format(data)) is not None:
        check_bytes(data, limits)
        read = read_bands(
            data,
            form,
            limits,
            bands=bands,
            page=page,
            keep=keep,
            max_input_side=max_input_side,
        )
    if read is None:
        if bands is not None:
            raise BadRequest("Only TIFF and PNG files without a palette have bands.")
        read = _values_of(
            decode(
                data, limits, page=page, with_alpha=True, keep=keep, max_input_side=max_input_side
            )
        )
    if not np.isfinite(read.values).all():
        finite = np.asarray(np.isfinite(read.values).all(axis=2))
        read = replace(read, valid=finite if read.valid is None else finite & read.valid)
    read = replace(read, values=np.ascontiguousarray(read.values))  # as decoders send arrays
    return read if max_input_side is None else _fitted(read, max_input_side)


def _data_format(data: bytes) -> Literal["TIFF", "PNG"] | None:
    """The format of a file that may hold data; None: it is a picture."""
    if data.startswith((b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b")):
        return "TIFF"
    return "PNG" if data.startswith(b"\x89PNG") else None


def _values_of(picture: Decoded) -> RasterData:
    """The values of a picture: one band if it is grey, and gaps where it is not opaque."""
    rgb: Values = picture.rgb
    is_grey = all(np.array_equal(rgb[..., 0], rgb[..., k]) for k in (1, 2))
    return RasterData(
        rgb[..., :1] if is_grey else rgb,
        None if picture.alpha is None else picture.alpha == 255,
        picture.format,
        picture.raster or Raster(),
        tuple(picture.notes),
        picture.metadata,
    )


def _fitted(read: RasterData, max_input_side: int) -> RasterData:
    """What was read, reduced to this longest side."""
    height, width = read.values.shape[:2]
    if max(height, width) <= max_input_side:
        return read
    if read.valid is not None:
        raise BadRequest("fit cannot reduce data with gaps.")
    size = size_within((width, height), max_input_side)
    values = resized(read.values, size, Image.Resampling.LANCZOS)
    note = reduced_note(width, height, max_input_side)
    return replace(read, values=values, notes=(*read.notes, note))
