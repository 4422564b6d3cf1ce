"""Bands of TIFF and PNG files, as GDAL reads them (extra `science`)."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.decoding.damage import name_bands, refusing_damage
from trustscale_server.images.decoding.decode import KeepMetadata, checked_page, page_note
from trustscale_server.images.georeference import georeference_of
from trustscale_server.images.limits import Limits, admit_pixels, check_size
from trustscale_server.images.metadata import Metadata, marks_of, metadata_of
from trustscale_server.images.stretch import Raster, RasterData, Values
from trustscale_server.platform.errors import BadImage, BadRequest, UnsupportedMedia


def warm_up() -> None:
    """Load GDAL, where it is installed."""
    with suppress(ImportError):
        import rasterio  # noqa: PLC0415 - an extra

        with rasterio.Env():
            pass


def read_bands(
    data: bytes,
    form: Literal["TIFF", "PNG"],
    limits: Limits,
    *,
    bands: str | None,
    page: int | None,
    keep: KeepMetadata,
    max_input_side: int | None,
) -> RasterData | None:
    """Return what GDAL reads of a file; None: it has a palette.

    max_input_side: to which the values will be reduced.

    Raises:
        UnsupportedMedia: the extra is missing.
        ImageTooLarge, BadImage.
        BadRequest: no such page or band; several bands, and none is named.
    """
    try:
        import rasterio  # noqa: PLC0415 - an extra
        from rasterio.errors import NotGeoreferencedWarning  # noqa: PLC0415
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedMedia(
            "stretch and bands of TIFF and PNG files need the extra science: "
            "pip install '.[science]' in a clone."
        ) from error

    driver = "GTiff" if form == "TIFF" else "PNG"
    environment = rasterio.Env(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_PAM_ENABLED="NO",
        GDAL_CACHEMAX=32,
        GDAL_PNG_WHOLE_IMAGE_OPTIM="NO",  # it takes a file that ends too early for a whole one
    )
    # For good: all threads share the filters, and one that puts them back may undo another's.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    with environment, refusing_damage("The image cannot be decoded"), MemoryFile(data) as file:
        with rasterio.open(file.name, driver=driver) as first:
            names = sorted(first.subdatasets, key=_directory) or [file.name]
        number = checked_page(page, len(names))
        with rasterio.open(names[number - 1], driver=driver) as dataset:
            band_values = _band_values(dataset, limits, bands, max_input_side)
    if band_values is None:
        return None
    values, valid, numbers, notes = band_values
    notes += page_note(len(names), page)
    metadata, lost = _metadata(data, form, _directory(names[number - 1]) - 1, keep)
    notes += lost
    raster = Raster(page=number, pages=len(names), bands=numbers)
    return RasterData(values, valid, form, raster, tuple(notes), metadata)


def _directory(name: str) -> int:
    """The number, from 1, in GDAL's name of a directory of a TIFF file."""
    return int(name.split(":")[1]) if name.startswith("GTIFF_DIR:") else 1


def _band_values(
    dataset: Any, limits: Limits, bands: str | None, max_input_side: int | None
) -> tuple[Values, NDArray[np.bool_] | None, tuple[int, ...], list[str]] | None:
    """The values of the bands, where they are valid, their numbers, and notes."""
    check_size(dataset.width, dataset.height, limits, max_input_side)
    numbers = _numbers(dataset, bands)
    if numbers is None:
        return None
    admit_pixels(dataset.width * dataset.height)
    dtypes = {dataset.dtypes[number - 1] for number in numbers}
    if any(dtype.startswith("complex") for dtype in dtypes):
        raise BadImage("The values are complex numbers.")
    # float32 keeps seven digits of larger integers and doubles; X shows five.
    plain = dtypes in ({"uint8"}, {"uint16"})
    values = dataset.read(numbers, out_dtype=next(iter(dtypes)) if plain else "float32")
    valid = None
    if any(flags[0].name != "all_valid" for flags in dataset.mask_flag_enums):
        mask = (dataset.read_masks(numbers) == 255).all(axis=0)
        valid = None if mask.all() else mask
    notes = []
    if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        notes.append("0 is white in this file; its values were taken as they are.")
    return np.moveaxis(values, 0, 2), valid, tuple(numbers), notes


def _numbers(dataset: Any, bands: str | None) -> list[int] | None:
    """The bands that are read; None: they index a palette."""
    if bands is not None:
        numbers = [int(number) for number in bands.split(",")]
        if max(numbers) > dataset.count:
            raise BadRequest(f"bands={bands}: the file has {dataset.count} bands.")
        return numbers
    kinds = [kind.name for kind in dataset.colorinterp]
    if kinds[0] == "palette":
        return None
    colours = [name for name in kinds if name not in {"alpha", "undefined"}]
    if dataset.count == 1 or kinds[1:] == ["alpha"]:
        return [1]
    if colours == ["red", "green", "blue"] or dataset.count == 3:
        return [1, 2, 3]
    raise name_bands(dataset.count)


def _metadata(
    data: bytes, form: str, directory: int, keep: KeepMetadata
) -> tuple[Metadata, list[str]]:
    """The metadata of a file that GDAL has read, which Pillow, being stricter, may refuse."""
    metadata, notes = Metadata(), list[str]()
    is_tiff, with_place = form == "TIFF", keep == "keep-gps"
    try:
        image = Image.open(io.BytesIO(data), formats=[form])
        image.seek(directory)
        if keep == "none":
            metadata = marks_of(image)
        else:
            metadata, notes = metadata_of(image, with_place=with_place and not is_tiff)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises anything
        damaged = "The metadata are damaged and were not kept."
        notes = [] if is_tiff or keep == "none" else [damaged]
    if is_tiff:
        geo, size = georeference_of(data, directory)
        metadata = replace(metadata, geo=geo if with_place else {}, pixel_um=size)
    return metadata, notes
