"""From uploaded bytes to an sRGB array: limits first, then the header, then the pixels.

The input is what a viewer shows: EXIF orientation and colour profile are applied, grey, palette and
CMYK become RGB, 16-bit values 8 bits (`raster.py` keeps 16), and of a camera's file with several
pictures (MPO) the first is taken. What has no faithful 8-bit RGB form (animation, data that would
be black) is refused. `Decoded.notes` lists everything that changes values.

Hostile files may take any time and memory, so this runs in a limited process (`client.py`), after
two looks at the bytes alone: how often a JPEG file goes over its blocks, since a scan takes much
time and few bytes, and how large a JPEG XL picture is, since its reader would decode it first.
"""

from __future__ import annotations

import importlib
import io
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Final, Literal, TypedDict

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from trustscale_server.images.colour import to_srgb
from trustscale_server.images.compression import LOSSLESS, Compression, read_compression
from trustscale_server.images.depth import depth_notes, depth_of, from_deep_grey
from trustscale_server.images.jpeg_scans import check_scans
from trustscale_server.images.jpeg_xl import SIGNATURE, jpeg_xl_size
from trustscale_server.images.metadata import Metadata, marks_of, metadata_of
from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import (
    BadImage,
    BadInput,
    BadRequest,
    ImageTooLarge,
    UnsupportedMedia,
    reason_of,
    shortened,
)

FORMATS: Final = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
_EXTRAS: Final = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
"""Formats and the modules of the extra `formats` that read them."""

KeepMetadata = Literal["none", "keep", "keep-gps"]

_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106  # tags of EXIF and TIFF

# libjpeg's warnings of wrong pixels.
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
_EXTRANEOUS: Final = "extraneous bytes"  # leftovers of cameras, and of damage
_ODD: Final = (
    "The JPEG file has bytes that belong to nothing. Some cameras write such files; if this one is "
    "damaged, a part of its pixels is wrong."
)
NAME_BANDS: Final = "The file has {} bands: name one or three, such as bands=3,2,1."
_STEPS: Final = "steps and dots where a photograph has shades, which an upscaler takes for detail."

# Signatures of other files, for a helpful message.
_OTHER_KINDS = {
    re.compile(rb"%PDF"): "a PDF document",
    re.compile(rb"PK"): "a zip archive",
    re.compile(rb"\s*<(svg|\?xml)"): "an SVG drawing",
    re.compile(
        rb"....ftyp(heic|heix|mif1|msf1)", re.DOTALL
    ): "a HEIC image, which needs the extra “formats”",
    SIGNATURE: "a JPEG XL image, which needs the extra “formats”",
    re.compile(rb"\0\0\0\x0cjP"): "a JPEG 2000 image",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one uploaded image, checked before its pixels are decoded."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 1024 * 1024
    max_side: int = 16384
    max_fit_pixels: int = 64 * 1024 * 1024
    """Of an image that is reduced first."""


_asks: list[Callable[[int], None]] = []


def admit_pixels(pixels: int) -> None:
    """Wait until so many pixels may be decoded; return at once outside of a decoder."""
    for ask in _asks:
        ask(pixels)


def on_admit(ask: Callable[[int], None]) -> None:
    """Set the function that admits pixels in a decoder's process (`server.py`)."""
    _asks.append(ask)


# Y is k² times larger than X; these are the admin's own files.
PAIR_LIMITS = Limits(max_bytes=256 * 1024 * 1024, max_pixels=64 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Raster:
    """What was read of a file, and how its values became X.

    page, pages: from 1. bands: their numbers; None: a picture. stretch: None: X has 8 bits.
    low, high: of each band, the values of 0 and 65,535.
    """

    page: int = 1
    pages: int = 1
    bands: tuple[int, ...] | None = None
    stretch: str | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    @property
    def has_one_band(self) -> bool:
        """Whether X and the output have one channel of 16 bits."""
        return self.low is not None and len(self.low) == 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as the upscaler sees it.

    rgb: uint8 [h, w, 3], sRGB; or uint16, data in units of their stretch (`raster.py`).
    format: of the file.
    notes: on what was changed.
    alpha: uint8 [h, w], on request; None: opaque everywhere.
    metadata: what is to be kept.
    compression: that of the file; `LOSSLESS` where the picture was reduced by 2 or more.
    raster: of files with pages, bands or a stretch.
    """

    rgb: Pixels
    format: str
    notes: list[str] = field(default_factory=list)
    alpha: NDArray[np.uint8] | None = None
    metadata: Metadata = field(default_factory=Metadata)
    compression: Compression = LOSSLESS
    raster: Raster | None = None


class DecodeOptions(TypedDict, total=False):
    """The keyword arguments of `decode`."""

    background: str | None
    with_alpha: bool
    keep: KeepMetadata
    max_input_side: int | None
    page: int | None


def decode(
    data: bytes,
    limits: Limits,
    *,
    background: str | None = None,
    with_alpha: bool = False,
    keep: KeepMetadata = "none",
    max_input_side: int | None = None,
    page: int | None = None,
) -> Decoded:
    """Decode a file of one of `FORMATS`, or of an installed extra.

    Args:
        data: the whole file.
        limits: checked before the pixels are decoded.
        background: a CSS colour behind transparent pixels.
        with_alpha: whether transparency without a background is returned or refused.
        keep: of EXIF, XMP and georeference.
        max_input_side: longest side in pixels to reduce to.
        page: of a TIFF file, from 1.

    Raises:
        ImageTooLarge, UnsupportedMedia, DecodeLimit, MemoryError.
        BadImage: damaged, truncated, animated, or transparent where it must not be.
        BadRequest: the background is not a colour, or there is no such page.
    """
    behind = None if background is None else _colour(background)
    image = _open(data, limits, max_input_side)
    try:
        form, notes, raster = _page(image, limits, max_input_side, page)
        if form == "JPEG":
            check_scans(data)
        admit_pixels(math.prod(image.size))
        compression = read_compression(data, image)
        size = image.size
        _load(image, form, max_input_side)
        notes += _peculiarities(image, form, data)
        metadata = marks_of(image)
        if keep != "none":
            metadata, lost = metadata_of(image, with_place=keep == "keep-gps")
            notes += lost
        depth = depth_of(image, data)
        # Pillow turns grey where 0 is white, but not with more than 8 bits.
        is_negative = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        # `exif_transpose` returns an image without the transposed tag, but keeps the profile.
        image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
        if image.mode.startswith(("I", "F")):
            image, cut = from_deep_grey(image, is_negative=is_negative)
            notes += cut
        image, alpha = _without_alpha(image, may=with_alpha or background is not None)
        if max_input_side is not None and max(size) > max_input_side:
            image = _reduced(image, max_input_side)
            alpha = alpha and _reduced(alpha, max_input_side)
            notes.append(
                f"Reduced from {size[0]}×{size[1]} to {max_input_side:,} px first "
                f"(fit={max_input_side}); the promise is about that version."
            )
        rgb, converted = to_srgb(image, profile)
        notes += converted
        if behind is not None and alpha is not None:
            rgb, alpha = _flattened(rgb, alpha, behind), None
            notes.append(f"Transparent pixels were flattened onto {background}.")
    except BadInput:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        _check_memory(error)
        if bands := _bands_of(data):
            raise BadRequest(NAME_BANDS.format(bands)) from error
        raise BadImage(f"The image is damaged or incomplete: {reason_of(error)}.") from error
    if depth > 8:
        notes += depth_notes(rgb, depth, is_grey=image.mode == "L")
    opacity = None if alpha is None else np.asarray(alpha)
    pixels = np.ascontiguousarray(rgb)
    # A reduction by 2 hides the compression of the file.
    visible = LOSSLESS if max(size) >= 2 * max(pixels.shape[:2]) else compression
    return Decoded(pixels, form, notes, opacity, metadata, visible, raster)


def _page(
    image: Image.Image, limits: Limits, max_input_side: int | None, page: int | None
) -> tuple[str, list[str], Raster | None]:
    """Seek the page of a file: its format, notes, and the raster of one with several pages.

    Raises:
        BadImage: an animation. BadRequest: there is no such page.
    """
    form = str(image.format)
    if form == "TIFF":
        pages = int(image.n_frames) if page or image.tag_v2.next else 1  # type: ignore[attr-defined]
        number = checked_page(page, pages)
        image.seek(number - 1)
        check_size(*image.size, limits, max_input_side)
        return form, page_note(pages, page), Raster(number, pages) if pages > 1 else None
    if page not in {None, 1}:
        raise BadRequest(f"page={page}: only TIFF files have pages.")
    if form == "MPO":  # a JPEG file with further pictures behind the first: previews, depth maps
        return "JPEG", ["The file holds several pictures; the first was taken."], None
    if form != "HEIF" and getattr(image, "is_animated", False):
        raise BadImage("The image is animated; send a single frame.")
    return form, [], None


def checked_page(page: int | None, pages: int) -> int:
    """Return the number of the page, the first by default. Raises BadRequest."""
    if page is not None and page > pages:
        raise BadRequest(f"page={page}: the file has {pages} pages.")
    return page or 1


def page_note(pages: int, page: int | None) -> list[str]:
    """Return the note where the first of several pages was taken by default."""
    if pages == 1 or page is not None:
        return []
    return [f"The file holds {pages} pages; the first was taken. Name another one by page=2."]


def _load(image: Image.Image, form: str, max_input_side: int | None) -> None:
    """Decode the pixels of an opened file. Raises BadImage: not as many as it declares."""
    if max_input_side is not None and form == "JPEG":
        image.draft(
            None, (max_input_side, max_input_side)
        )  # libjpeg reduces while it decodes, to no less than this
    declared = image.size
    image.load()
    if image.size != declared:
        raise _another_size(declared, image)


def _peculiarities(image: Image.Image, form: str, data: bytes) -> list[str]:
    """Notes on what an upscaler may take for detail. Raises BadImage: the data are damaged."""
    if form == "JPEG":
        return _damage(data)
    colours = len(image.getcolors() or []) if image.mode == "P" else 0
    if colours > 1:
        return [f"The image has a palette of {colours} colours: {_STEPS}"]
    return []


def _damage(data: bytes) -> list[str]:
    """Notes on a JPEG file, from libjpeg's warnings, which Pillow hides. Raises BadImage.

    The file is decoded again, as small as libjpeg can, up to the first warning.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        reason = reason_of(error)
        if _EXTRANEOUS in reason:
            return [_ODD]
        if reason.startswith(_DAMAGE):
            raise BadImage(f"The JPEG file is damaged or incomplete: {reason}.") from error
    return []


def image_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Return (width, height) as a viewer shows it, from the header only."""
    image = _open(data, limits)
    try:
        # `PngImageFile.getexif` would decode all pixels.
        turned = Image.Image.getexif(image).get(_ORIENTATION, 1) in {5, 6, 7, 8}
    except Exception as error:  # as in `_open`
        _check_memory(error)
        raise BadImage(f"The image header is damaged: {reason_of(error)}.") from error
    width, height = image.size
    return (height, width) if turned else (width, height)


def _bands_of(data: bytes) -> int:
    """How many bands a TIFF file has that is no picture; 0: it may be one, or cannot be read."""
    if data[:2] not in {b"II", b"MM"}:
        return 0
    from tifffile import TiffFile  # noqa: PLC0415 - slow to import

    with suppress(Exception), TiffFile(io.BytesIO(data)) as file:
        bands: int = file.pages.first.samplesperpixel
        return bands if bands not in {1, 3} else 0
    return 0


def _check_memory(error: Exception) -> None:
    """Raise MemoryError if that was the reason, which Pillow's decoders report as a number."""
    if isinstance(error, MemoryError) or str(error) == "decoder error -9":
        raise MemoryError from error


def _reduced(image: Image.Image, longest: int) -> Image.Image:
    size = size_within(image.size, longest)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _open(data: bytes, limits: Limits, max_input_side: int | None = None) -> Image.Image:
    """Parse the header and check the size; no pixel is decoded."""
    if not data:
        raise BadImage("The file is empty.")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"The file has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted.",
            limit="max_bytes",
            maximum=limits.max_bytes,
            actual=len(data),
        )
    declared = None
    if SIGNATURE.match(data) and "JXL" in installed_formats():
        declared = jpeg_xl_size(data)
        check_size(*declared, limits, max_input_side)
        admit_pixels(
            math.prod(declared)
        )  # its reader decodes the pixels before it reports their number
    try:
        image = Image.open(io.BytesIO(data), formats=[*FORMATS, *installed_formats()])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"The image has too many pixels; at most {limits.max_pixels:,} are accepted.",
            limit="max_pixels",
            maximum=limits.max_pixels,
        ) from error
    except UnidentifiedImageError as error:
        if bands := _bands_of(data):
            raise BadRequest(NAME_BANDS.format(bands)) from error
        kind = next((k for magic, k in _OTHER_KINDS.items() if magic.match(data)), None)
        raise UnsupportedMedia(
            "The file is not a PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF image"
            + (f"; it looks like {kind}." if kind else ", or its header is damaged.")
        ) from error
    except Exception as error:  # a header can break a parser in any way
        _check_memory(error)
        raise BadImage(f"The image header is damaged: {reason_of(error)}.") from error
    if declared is not None and sorted(declared) != sorted(image.size):  # it may be turned
        raise _another_size(declared, image)
    check_size(*image.size, limits, max_input_side)
    return image


def _another_size(declared: tuple[int, int], image: Image.Image) -> BadImage:
    width, height = declared
    return BadImage(
        f"The file declares {width}×{height} pixels and holds {image.width}×{image.height}."
    )


def check_size(width: int, height: int, limits: Limits, max_input_side: int | None) -> None:
    """Raise ImageTooLarge if a picture of this size is over a limit."""
    most = limits.max_pixels if max_input_side is None else limits.max_fit_pixels
    if width * height > most:
        way_out = ""
        if max_input_side is None and width * height <= limits.max_fit_pixels:
            longest = int(max(width, height) * math.sqrt(most / (width * height)))
            way_out = f" With fit={longest} its longer side is reduced to that before."
        raise ImageTooLarge(
            f"The image is {width}×{height}, {width * height:,} pixels; "
            f"at most {most:,} are accepted.{way_out}",
            limit="max_pixels" if max_input_side is None else "max_fit_pixels",
            maximum=most,
            actual=width * height,
        )
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"The image is {width}×{height}; no side may exceed {limits.max_side:,} pixels.",
            limit="max_side",
            maximum=limits.max_side,
            actual=max(width, height),
        )


@cache
def installed_formats() -> Mapping[str, ModuleType]:
    """Return the formats of the installed extra and their modules, which register with Pillow."""
    modules = {}
    for form, module in _EXTRAS.items():
        with suppress(ImportError):
            modules[form] = importlib.import_module(module)
            if form == "HEIF":
                modules[form].register_heif_opener(thumbnails=False)
    return modules


def _without_alpha(image: Image.Image, *, may: bool) -> tuple[Image.Image, Image.Image | None]:
    """The colours, of mode L, RGB or CMYK, and the alpha channel if it is not opaque."""
    is_grey = image.mode in {"1", "L", "LA"}
    if not image.has_transparency_data:
        if image.mode in {"L", "RGB", "CMYK"}:
            return image, None
        return image.convert("L" if is_grey else "RGB"), None
    with_alpha = image.convert("RGBA")
    alpha = with_alpha.getchannel("A")
    low, _ = alpha.getextrema()
    if low != 255 and not may:
        raise BadImage(
            "The image has transparent pixels, which are of use in a picture to upscale only. "
            "Flatten it first."
        )
    colours = with_alpha.getchannel("R") if is_grey else with_alpha.convert("RGB")
    return colours, None if low == 255 else alpha


def _colour(text: str) -> tuple[int, ...]:
    """Of a CSS colour, red, green and blue. Raises BadRequest."""
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise BadRequest(f"background={shortened(text)!r} is not a colour.") from error


def _flattened(
    rgb: NDArray[np.uint8], alpha: Image.Image, background: tuple[int, ...]
) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] on a background colour, both sRGB."""
    picture = Image.fromarray(rgb)
    picture.putalpha(alpha)
    canvas = Image.new("RGBA", picture.size, (*background, 255))
    return np.asarray(Image.alpha_composite(canvas, picture).convert("RGB"))
