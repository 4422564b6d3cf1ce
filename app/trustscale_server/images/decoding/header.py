"""The header of an uploaded file: its format and its size, before any pixel is decoded."""

from __future__ import annotations

import importlib
import io
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Final

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from trustscale_server.images.decoding.damage import bands_wanted, refusing_damage
from trustscale_server.images.decoding.jpeg_xl import SIGNATURE, jpeg_xl_size
from trustscale_server.images.limits import Limits, admit_pixels, check_bytes, check_size
from trustscale_server.platform.errors import BadImage, ImageTooLarge, UnsupportedMedia

FORMATS: Final = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")

# Signatures of other files, for a helpful message.
_OTHER_KINDS: Final = {
    re.compile(rb"%PDF"): "a PDF document",
    re.compile(rb"PK"): "a zip archive",
    re.compile(rb"\s*<(svg|\?xml)"): "an SVG drawing",
    re.compile(
        rb"....ftyp(heic|heix|mif1|msf1)", re.DOTALL
    ): "a HEIC image, which needs the extra “formats”",
    SIGNATURE: "a JPEG XL image, which needs the extra “formats”",
    re.compile(rb"\0\0\0\x0cjP"): "a JPEG 2000 image",
}


@cache
def installed_formats() -> Mapping[str, ModuleType]:
    """Return the formats of the extra `formats`, as far as it is installed, and their modules.

    The modules register their formats with Pillow.
    """
    modules = {}
    with suppress(ImportError):
        modules["HEIF"] = importlib.import_module("pillow_heif")
        modules["HEIF"].register_heif_opener(thumbnails=False)
    with suppress(ImportError):
        modules["JXL"] = importlib.import_module("pillow_jxl")
    return modules


def open_image(data: bytes, limits: Limits, max_input_side: int | None = None) -> Image.Image:
    """Parse the header of a file and check its size; no pixel is decoded, except of JPEG XL.

    max_input_side: to which the picture is reduced; None: it is not.

    Raises:
        ImageTooLarge, UnsupportedMedia, MemoryError.
        BadImage: the header is damaged.
        BadRequest: a TIFF file of bands that must be named.
    """
    if not data:
        raise BadImage("The file is empty.")
    check_bytes(data, limits)
    declared = None
    if SIGNATURE.match(data) and "JXL" in installed_formats():
        declared = jpeg_xl_size(data)
        check_size(*declared, limits, max_input_side)
        # Its reader decodes the pixels before it reports their number.
        admit_pixels(math.prod(declared))
    with refusing_damage("The image header is damaged"):
        try:
            image = Image.open(io.BytesIO(data), formats=[*FORMATS, *installed_formats()])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageTooLarge(
                f"The image has too many pixels; at most {limits.max_pixels:,} are accepted.",
                limit="max_pixels",
                maximum=limits.max_pixels,
            ) from error
        except UnidentifiedImageError as error:
            raise bands_wanted(data) or _unsupported(data) from error
    if declared is not None and sorted(declared) != sorted(image.size):  # it may be turned
        raise other_size(declared, image)
    check_size(*image.size, limits, max_input_side)
    return image


def _unsupported(data: bytes) -> UnsupportedMedia:
    kind = next((kind for magic, kind in _OTHER_KINDS.items() if magic.match(data)), None)
    return UnsupportedMedia(
        "The file is not a PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF image"
        + (f"; it looks like {kind}." if kind else ", or its header is damaged.")
    )


def other_size(declared: tuple[int, int], image: Image.Image) -> BadImage:
    """Return the refusal of a file that holds another number of pixels than it declares."""
    width, height = declared
    return BadImage(
        f"The file declares {width}×{height} pixels and holds {image.width}×{image.height}."
    )


def image_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Return (width, height) as a viewer shows it, from the header only. Raises as `open_image`."""
    image = open_image(data, limits)
    width, height = image.size
    with refusing_damage("The image header is damaged"):
        # `PngImageFile.getexif` would decode all pixels.
        turned = Image.Image.getexif(image).get(Base.Orientation, 1) in {5, 6, 7, 8}
    return (height, width) if turned else (width, height)
