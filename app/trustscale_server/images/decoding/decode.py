"""From uploaded bytes to an sRGB array: limits first, then the header, then the pixels.

The input is what a viewer shows: EXIF orientation and colour profile are applied, grey, palette and
CMYK become RGB, 16-bit values 8 bits (`raster.py` keeps 16), and of a camera's file with several
pictures (MPO) the first is taken. What has no faithful 8-bit RGB form (animation, data that would
be black) is refused. `Decoded.notes` lists everything that changes values.

Hostile files may take any time and memory, so this runs in a limited process (`sandbox/client.py`),
after two looks at the bytes alone: how often a JPEG file goes over its blocks, since a scan takes
much time and few bytes, and how large a JPEG XL picture is, since its reader would decode it first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps
from PIL.ExifTags import Base

from trustscale_server.images.compression import LOSSLESS, Compression, read_compression
from trustscale_server.images.decoding.colour import to_srgb
from trustscale_server.images.decoding.damage import refusing_damage
from trustscale_server.images.decoding.depth import depth_notes, depth_of, from_deep_grey
from trustscale_server.images.decoding.header import open_image, other_size
from trustscale_server.images.decoding.jpeg_scans import check_scans
from trustscale_server.images.limits import Limits, admit_pixels, check_size
from trustscale_server.images.metadata import Metadata, marks_of, metadata_of
from trustscale_server.images.stretch import Raster
from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import BadImage, BadRequest, reason_of, shortened

KeepMetadata = Literal["none", "keep", "keep-gps"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as the upscaler sees it.

    rgb: uint8 [h, w, 3], sRGB; or uint16, data in units of their stretch (`stretch.py`).
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
    image = open_image(data, limits, max_input_side)
    with refusing_damage("The image is damaged or incomplete", data):
        form, notes, raster = _page(image, limits, max_input_side, page)
        if form == "JPEG":
            check_scans(data)
        size = image.size
        admit_pixels(math.prod(size))
        compression = read_compression(data, image)
        _load(image, form, max_input_side)
        notes += _peculiarities(image, form, data)
        metadata = marks_of(image)
        if keep != "none":
            metadata, lost = metadata_of(image, with_place=keep == "keep-gps")
            notes += lost
        depth = depth_of(image, data)
        # Pillow turns grey where 0 is white, but not with more than 8 bits.
        is_negative = getattr(image, "tag_v2", {}).get(Base.PhotometricInterpretation) == 0
        # `exif_transpose` returns an image without the transposed tag, but keeps the profile.
        image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
        if image.mode.startswith(("I", "F")):
            image, cut = from_deep_grey(image, is_negative=is_negative)
            notes += cut
        image, alpha = _without_alpha(
            image, may_be_transparent=with_alpha or background is not None
        )
        if max_input_side is not None and max(size) > max_input_side:
            image = _reduced(image, max_input_side)
            alpha = alpha and _reduced(alpha, max_input_side)
            notes.append(reduced_note(*size, max_input_side))
        rgb, converted = to_srgb(image, profile)
        notes += converted
        if behind is not None and alpha is not None:
            rgb, alpha = _flattened(rgb, alpha, behind), None
            notes.append(f"Transparent pixels were flattened onto {background}.")
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


def reduced_note(width: int, height: int, max_input_side: int) -> str:
    """Return the note on a picture of this size that was reduced to a longest side."""
    return (
        f"Reduced from {width}×{height} to {max_input_side:,} px first (fit={max_input_side}); "
        "the promise is about that version."
    )


def _load(image: Image.Image, form: str, max_input_side: int | None) -> None:
    """Decode the pixels of an opened file. Raises BadImage: not as many as it declares."""
    if max_input_side is not None and form == "JPEG":
        # libjpeg reduces while it decodes, to no less than this.
        image.draft(None, (max_input_side, max_input_side))
    declared = image.size
    image.load()
    if image.size != declared:
        raise other_size(declared, image)


def _peculiarities(image: Image.Image, form: str, data: bytes) -> list[str]:
    """Notes on what an upscaler may take for detail. Raises BadImage: the data are damaged."""
    if form == "JPEG":
        return _damage(data)
    colours = len(image.getcolors() or []) if image.mode == "P" else 0
    if colours < 2:
        return []
    note = (
        f"The image has a palette of {colours} colours: steps and dots where a photograph has "
        "shades, which an upscaler takes for detail."
    )
    return [note]


def _damage(data: bytes) -> list[str]:
    """Notes on a JPEG file, from libjpeg's warnings, which Pillow hides. Raises BadImage.

    The file is decoded again, as small as libjpeg can, up to the first warning.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        reason = reason_of(error)
        if "extraneous bytes" in reason:  # leftovers of cameras, and of damage
            note = (
                "The JPEG file has bytes that belong to nothing. Some cameras write such files; if "
                "this one is damaged, a part of its pixels is wrong."
            )
            return [note]
        # The warnings of wrong pixels.
        if reason.startswith(("Corrupt JPEG data", "Premature end", "Inconsistent progression")):
            raise BadImage(f"The JPEG file is damaged or incomplete: {reason}.") from error
    return []


def _reduced(image: Image.Image, max_side: int) -> Image.Image:
    size = size_within(image.size, max_side)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _without_alpha(
    image: Image.Image, *, may_be_transparent: bool
) -> tuple[Image.Image, Image.Image | None]:
    """The colours, of mode L, RGB or CMYK, and the alpha channel if it is not opaque."""
    is_grey = image.mode in {"1", "L", "LA"}
    if not image.has_transparency_data:
        if image.mode in {"L", "RGB", "CMYK"}:
            return image, None
        return image.convert("L" if is_grey else "RGB"), None
    with_alpha = image.convert("RGBA")
    alpha = with_alpha.getchannel("A")
    low, _ = alpha.getextrema()
    if low != 255 and not may_be_transparent:
        raise BadImage(
            "The image has transparent pixels, which are of use in a picture to upscale only. "
            "Flatten it first."
        )
    colours = with_alpha.getchannel("R") if is_grey else with_alpha.convert("RGB")
    return colours, None if low == 255 else alpha


def _colour(text: str) -> tuple[int, ...]:
    """Red, green and blue of a CSS colour. Raises BadRequest."""
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise BadRequest(f"background={shortened(text)!r} is not a colour.") from error


def _flattened(
    rgb: NDArray[np.uint8], alpha: Image.Image, background: tuple[int, ...]
) -> NDArray[np.uint8]:
    """A picture, uint8 [h, w, 3], on a background colour; both are sRGB."""
    picture = Image.fromarray(rgb)
    picture.putalpha(alpha)
    canvas = Image.new("RGBA", picture.size, (*background, 255))
    return np.asarray(Image.alpha_composite(canvas, picture).convert("RGB"))
