"""From uploaded bytes to an sRGB array: limits first, then the header, then the pixels.

What a viewer would show is what is upscaled: EXIF orientation is applied, an embedded colour
profile is converted to sRGB, grey and palette images become RGB, CMYK is converted, 16-bit values
are rounded to 8 bits. What has no faithful 8-bit RGB form (real transparency, animation) is refused
with the reason. Everything that changes values is told in `Decoded.notes`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from app.errors import BadImage, BadRequest, ImageTooLarge, UnsupportedMedia, reason_of

FORMATS = ("PNG", "JPEG", "WEBP")

_ORIENTATION = 0x0112  # EXIF tag

# Signatures of files that people mistake for one of the three, for a more helpful message.
_OTHER_KINDS = {
    b"GIF8": "a GIF image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"BM": "a BMP image",
    b"%PDF": "a PDF document",
    b"PK": "a zip archive",
    b"<svg": "an SVG drawing",
    b"\0\0\0": "an AVIF, HEIC or JPEG 2000 image",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one uploaded image, checked before its pixels are decoded."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 1024 * 1024
    max_side: int = 16384


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image, uint8 [h, w, 3] sRGB, and notes on what was done to get there."""

    rgb: NDArray[np.uint8]
    format: str
    notes: list[str] = field(default_factory=list)


def decode(data: bytes, limits: Limits, *, background: str | None = None) -> Decoded:
    """Decode a PNG, JPEG or WebP file.

    Args:
        data: the whole file.
        limits: bounds that are checked before the pixels are touched.
        background: a CSS colour that transparent images are flattened onto; None refuses them.

    Raises:
        ImageTooLarge: over a limit.
        UnsupportedMedia: not a PNG, JPEG or WebP file.
        BadImage: damaged, truncated, animated, or transparent without a background.
        BadRequest: the background is not a colour.
    """
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(data, limits)
    image = _open(data, limits)
    form = str(image.format)
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        raise BadImage("The image is animated; send a single frame.")
    try:
        image.load()
        sixteen_bit = image.mode.startswith(("I", "F")) or _png_depth(data) == 16
        # `exif_transpose` returns an image without the transposed tag, but keeps the profile.
        image = ImageOps.exif_transpose(image)
        opaque = _without_alpha(image, background, notes)
        rgb = _to_srgb(opaque, notes)
    except (BadImage, BadRequest):
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise BadImage(f"The image cannot be decoded: {reason_of(error)}.") from error
    if sixteen_bit:
        notes.append("The image has 16 bits per channel; it was rounded to 8.")
    return Decoded(np.ascontiguousarray(rgb), form, notes)


def image_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """(width, height) as a viewer shows the image, from the header only.

    Raises:
        ImageTooLarge, UnsupportedMedia, BadImage: as `decode`, as far as the header tells.
    """
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(data, limits)
    image = _open(data, limits)
    try:
        # Of a PNG file, its own `getexif` would decode all pixels to look behind them.
        turned = Image.Image.getexif(image).get(_ORIENTATION, 1) in {5, 6, 7, 8}
    except Exception as error:  # as in `_open`
        raise BadImage(f"The image header is damaged: {reason_of(error)}.") from error
    width, height = image.size
    return (height, width) if turned else (width, height)


def _too_many_bytes(data: bytes, limits: Limits) -> ImageTooLarge:
    return ImageTooLarge(
        f"The file has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted.",
        limit="max_bytes",
        maximum=limits.max_bytes,
        actual=len(data),
    )


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Parse the header and check the size; no pixel is decoded."""
    if not data:
        raise BadImage("The file is empty.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"The image has too many pixels; at most {limits.max_pixels:,} are accepted.",
            limit="max_pixels",
            maximum=limits.max_pixels,
        ) from error
    except UnidentifiedImageError as error:
        kind = next((k for magic, k in _OTHER_KINDS.items() if data.startswith(magic)), None)
        raise UnsupportedMedia(
            "The file is not a PNG, JPEG or WebP image"
            + (f"; it looks like {kind}." if kind else ", or its header is damaged.")
        ) from error
    except Exception as error:  # a header can break a parser in any way
        raise BadImage(f"The image header is damaged: {reason_of(error)}.") from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"The image is {width}×{height}, {width * height:,} pixels; "
            f"at most {limits.max_pixels:,} are accepted.",
            limit="max_pixels",
            maximum=limits.max_pixels,
            actual=width * height,
        )
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"The image is {width}×{height}; no side may exceed {limits.max_side:,} pixels.",
            limit="max_side",
            maximum=limits.max_side,
            actual=max(width, height),
        )
    return image


def _without_alpha(image: Image.Image, background: str | None, notes: list[str]) -> Image.Image:
    """Drop an alpha channel that is opaque, flatten one that is not, or refuse it."""
    if not image.has_transparency_data:
        return image
    profile = image.info.get("icc_profile")
    with_alpha = image.convert("RGBA")
    low, _ = with_alpha.getchannel("A").getextrema()
    if low == 255:
        flat = with_alpha.convert("RGB")
    elif background is None:
        raise BadImage(
            "The image has transparent pixels, and a mask says nothing about transparency. Flatten "
            "it first, or send the form field background, for example background=white."
        )
    else:
        try:
            colour = ImageColor.getrgb(background)
        except ValueError as error:
            raise BadRequest(f"background={background!r} is not a colour.") from error
        canvas = Image.new("RGBA", image.size, (*colour[:3], 255))
        flat = Image.alpha_composite(canvas, with_alpha).convert("RGB")
        notes.append(f"Transparent pixels were flattened onto {background}.")
    if profile and image.mode in {"RGBA", "RGB"}:
        flat.info["icc_profile"] = profile
    return flat


def _to_srgb(image: Image.Image, notes: list[str]) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] sRGB of an image without alpha, its colour profile applied."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image)
    if profile and image.mode in {"RGB", "L", "CMYK"}:
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = ImageCms.getProfileDescription(embedded).strip()
            if "srgb" not in name.lower():
                converted = ImageCms.profileToProfile(
                    image, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB"
                )
                if converted is not None:
                    notes.append(f"The colour profile “{name}” was converted to sRGB.")
                    return np.asarray(converted)
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("The colour profile is damaged and was ignored; sRGB was assumed.")
    if image.mode == "CMYK":
        notes.append("CMYK without a usable profile was converted by the plain formula.")
    return np.asarray(image.convert("RGB"))


def _from_deep_grey(image: Image.Image) -> NDArray[np.uint8]:
    """16-bit grey to 8-bit RGB, rounded to nearest."""
    values = np.asarray(image).astype(np.float64)
    top = 65535 if image.mode.startswith("I") else 1.0
    grey = np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _png_depth(data: bytes) -> int | None:
    """Bits per channel of a PNG file from its first chunk; Pillow keeps only the upper 8."""
    return data[24] if data.startswith(b"\x89PNG") and len(data) > 24 else None
