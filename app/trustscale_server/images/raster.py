"""Data of science files: which page and bands are read, and how their values become X.

A *stretch* maps values to 0 … 65,535: a window `LOW,HIGH`, or percentiles of each band, `p1,p99`.
Values outside are cut. The answer and its files name the window: value = low + (high − low) · v /
65,535. TIFF and PNG files are read by GDAL (extra `science`). Colour profiles and orientation do
not change data.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator

from trustscale_server.images.compression import LOSSLESS
from trustscale_server.images.damage import name_bands, refusing_damage
from trustscale_server.images.decode import (
    Decoded,
    DecodeOptions,
    KeepMetadata,
    Raster,
    checked_page,
    decode,
    page_note,
)
from trustscale_server.images.depth import depth_of
from trustscale_server.images.georeference import georeference_of
from trustscale_server.images.limits import Limits, admit_pixels, check_bytes, check_size
from trustscale_server.images.metadata import Metadata, marks_of, metadata_of
from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import resized, size_within
from trustscale_server.platform.errors import (
    BadImage,
    BadRequest,
    UnsupportedMedia,
)

_TOP: Final = 65535
_STRETCH: Final = re.compile(r"(p?)([-+.\de]+),(p?)([-+.\de]+)", re.IGNORECASE)
_TIFF: Final = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b")
_PNG: Final = b"\x89PNG"
_MAX_BANDS: Final = 3
_ROWS: Final = 64

_Values = NDArray[np.uint8 | np.uint16 | np.float32]
"""[h, w, 1 or 3]."""


def checked_stretch(text: str) -> str:
    """Return the normal form of a stretch, such as `p1,p99` or `100,4095`. Raises ValueError."""
    percentiles, low, high = _parsed(text)
    prefix = "p" if percentiles else ""
    plain = f"{prefix}{low:.10g},{prefix}{high:.10g}"
    _parsed(plain)  # rounded, both ends may be the same
    return plain


def checked_bands(text: str) -> str:
    """Return the numbers of one band or three, such as `4,3,2`. Raises ValueError."""
    numbers = text.replace(" ", "").split(",")
    if len(numbers) not in {1, _MAX_BANDS} or not all(
        re.fullmatch("[1-9]\\d{0,4}", n) for n in numbers
    ):
        raise ValueError("bands are the number of one or the numbers of three, such as 4,3,2")
    return ",".join(numbers)


_LARGEST: Final = 1e30  # of a window, far from where floats of 32 bits overflow

Stretch = Annotated[str, AfterValidator(checked_stretch)]
Bands = Annotated[str, AfterValidator(checked_bands)]


def _parsed(text: str) -> tuple[bool, float, float]:
    """Whether a stretch names percentiles, and both ends."""
    match = _STRETCH.fullmatch(text.replace(" ", ""))
    try:
        if match is None or len({match[1].lower(), match[3].lower()}) > 1:
            raise ValueError  # noqa: TRY301 - as numbers that are none
        low, high = float(match[2]), float(match[4])
    except ValueError:
        raise ValueError(
            "a stretch is a window such as 0,4095 or percentiles such as p1,p99"
        ) from None
    percentiles = bool(match[1])
    if not -_LARGEST < low < high < _LARGEST or (percentiles and not 0 <= low < high <= 100):
        raise ValueError("a stretch begins with the lower end; percentiles are 0 to 100")
    return percentiles, low, high


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a file; `valid` is where there are data, bool [h, w], None if everywhere."""

    values: _Values
    valid: NDArray[np.bool_] | None
    format: str
    raster: Raster
    notes: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)


def windowed(read: Read, stretch: str) -> Raster:
    """Return the raster with the window of each band.

    Raises BadImage: too large for percentiles.
    """
    percentiles, low, high = _parsed(stretch)
    bands = np.moveaxis(read.values, 2, 0)
    ends = [(low, high)] * len(bands)
    if percentiles:
        valid = [band if read.valid is None else band[read.valid] for band in bands]
        ends = [
            tuple(np.percentile(band, [low, high]).tolist()) if band.size else (0.0, 1.0)
            for band in valid
        ]
    # All values of a flat band become 0.
    ends = [(first, last if last > first else first + 1) for first, last in ends]
    lows, highs = zip(*ends, strict=True)
    if not all(abs(end) < _LARGEST for end in (*lows, *highs)):  # NaN is not
        raise BadImage("The values are too large for percentiles: state a window by stretch.")
    return replace(read.raster, stretch=stretch, low=lows, high=highs)


def stretched(values: _Values, raster: Raster) -> NDArray[np.uint16]:
    """Return the values in units of the window, uint16 [h, w, 3]; a single band is repeated."""
    height, width, count = values.shape
    out = np.empty((height, width, 3), np.uint16)
    for place, (low, high) in enumerate(zip(raster.low or (), raster.high or (), strict=True)):
        for top in range(0, height, _ROWS):  # floats of all would take many times the image
            share = (values[top : top + _ROWS, :, place].astype(np.float64) - low) / (high - low)
            levels = np.rint(np.clip(np.nan_to_num(share), 0, 1) * _TOP)
            channels = slice(None) if count == 1 else slice(place, place + 1)
            out[top : top + _ROWS, :, channels] = levels[..., np.newaxis]
    return out


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
) -> Read:
    """Return the values of one page of a file.

    Raises:
        BadInput: as `decode`; no such page or band; several bands, and none is named.
    """
    is_tiff = data.startswith(_TIFF)
    read = None
    if is_tiff or data.startswith(_PNG):
        check_bytes(data, limits)
        read = _by_gdal(data, limits, bands, page, keep, max_input_side, is_tiff=is_tiff)
    if read is None:  # a picture
        if bands is not None:
            raise BadRequest("Only TIFF and PNG files without a palette have bands.")
        picture = decode(
            data, limits, page=page, with_alpha=True, keep=keep, max_input_side=max_input_side
        )
        rgb: _Values = picture.rgb
        is_grey = all(np.array_equal(rgb[..., 0], rgb[..., k]) for k in (1, 2))
        valid = None if picture.alpha is None else picture.alpha == 255
        raster = picture.raster or Raster()
        values = rgb[..., :1] if is_grey else rgb
        read = Read(values, valid, picture.format, raster, tuple(picture.notes), picture.metadata)
    if not np.isfinite(read.values).all():
        finite = np.asarray(np.isfinite(read.values).all(axis=2))
        read = replace(
            read, valid=finite if read.valid is None else np.logical_and(finite, read.valid)
        )
    read = replace(read, values=np.ascontiguousarray(read.values))  # as decoders send arrays
    return read if max_input_side is None else _fitted(read, max_input_side)


def _fitted(read: Read, max_input_side: int) -> Read:
    """What was read, reduced to this longest side."""
    height, width = read.values.shape[:2]
    if max(height, width) <= max_input_side:
        return read
    if read.valid is not None:
        raise BadRequest("fit cannot reduce data with gaps.")
    values = resized(
        read.values, size_within((width, height), max_input_side), Image.Resampling.LANCZOS
    )
    note = (
        f"Reduced from {width}×{height} to {max_input_side:,} px first (fit={max_input_side}); "
        "the promise is about that version."
    )
    return replace(read, values=values, notes=(*read.notes, note))


def warm_up() -> None:
    """Load GDAL, where it is installed."""
    with suppress(ImportError):
        import rasterio  # noqa: PLC0415 - an extra

        with rasterio.Env():
            pass


def _by_gdal(
    data: bytes,
    limits: Limits,
    bands: str | None,
    page: int | None,
    keep: KeepMetadata,
    max_input_side: int | None,
    *,
    is_tiff: bool,
) -> Read | None:
    """What GDAL reads of a TIFF or PNG file; None: it has a palette."""
    try:
        import rasterio  # noqa: PLC0415 - an extra
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedMedia(
            "stretch and bands of TIFF and PNG files need the extra science: "
            "pip install '.[science]' in a clone."
        ) from error

    driver = "GTiff" if is_tiff else "PNG"
    environment = rasterio.Env(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_PAM_ENABLED="NO",
        GDAL_CACHEMAX=32,
        GDAL_PNG_WHOLE_IMAGE_OPTIM="NO",  # it takes a file that ends too early for a whole one
    )
    with warnings.catch_warnings(), environment:
        warnings.simplefilter("ignore")  # of files without a place on the ground
        with refusing_damage("The image cannot be decoded"), MemoryFile(data) as file:
            with rasterio.open(file.name, driver=driver) as first:
                names = sorted(first.subdatasets, key=_directory) or [file.name]
            number = checked_page(page, len(names))
            with rasterio.open(names[number - 1], driver=driver) as dataset:
                band_values = _band_values(dataset, limits, bands, max_input_side)
    if band_values is None:
        return None
    values, valid, numbers, notes = band_values
    notes += page_note(len(names), page)
    form = "TIFF" if is_tiff else "PNG"
    metadata, lost = _metadata(data, form, _directory(names[number - 1]) - 1, keep)
    notes += lost
    raster = Raster(page=number, pages=len(names), bands=numbers)
    return Read(values, valid, form, raster, tuple(notes), metadata)


def _directory(name: str) -> int:
    """The number, from 1, in GDAL's name of a directory of a TIFF file."""
    return int(name.split(":")[1]) if name.startswith("GTIFF_DIR:") else 1


def _band_values(
    dataset: Any, limits: Limits, bands: str | None, max_input_side: int | None
) -> tuple[_Values, NDArray[np.bool_] | None, tuple[int, ...], list[str]] | None:
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
    if colours == ["red", "green", "blue"] or dataset.count == _MAX_BANDS:
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
