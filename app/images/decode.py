"""From uploaded bytes to an sRGB array: limits first, then the header, then the pixels.

What a viewer would show is what is upscaled: EXIF orientation is applied, an embedded colour
profile is converted to sRGB, grey and palette images become RGB, CMYK is converted, 16-bit values
become 8 bits (grey is rounded; of colours the upper half is taken), and of a camera's file with
several pictures (MPO) the first is taken. What has no faithful 8-bit RGB form (real transparency,
animation, dark 16-bit data that would be black) is refused with the reason. Everything that changes
values is told in `Decoded.notes`.

Work is bounded before it is done: `app/images/work.py` judges a file by its bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from app.errors import BadImage, BadRequest, ImageTooLarge, UnsupportedMedia, reason_of
from app.images.work import work_of

FORMATS = ("PNG", "JPEG", "WEBP")

_ORIENTATION = 0x0112  # EXIF tag

# A profile that calls itself sRGB is left alone if it changes no value by more than this: cameras
# and editors write slightly different ones, and all mean the same.
_SAME_COLOUR: Final = 3

# The colour space of a profile, by the image modes that it can be applied to.
_SPACES: Final = {"GRAY": {"L"}, "RGB": {"RGB", "L"}, "CMYK": {"CMYK"}}

_MOST_TAGS: Final = 100  # of a colour profile; lcms reads no more
_LONGEST_NAME: Final = 80  # letters of a profile's name in a note

# What libjpeg warns of when pixels are wrong. It also warns of oddities that change none.
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
_EXTRANEOUS: Final = "extraneous bytes"  # left over: cameras write some, and so does damage
_ODD: Final = (
    "The JPEG file has bytes that belong to nothing. Some cameras write such files; if this one is "
    "damaged, a part of its pixels is wrong."
)
_STEPS: Final = "steps and dots where a photograph has shades, which an upscaler takes for detail."

# 16-bit data that end below a quarter of the range: probably of 10 or 12 bits.
_DARK: Final = 64

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
    if form == "MPO":  # a JPEG file with further pictures behind the first: previews, depth maps
        form = "JPEG"
        notes.append("The file holds several pictures; the first was taken.")
    elif getattr(image, "n_frames", 1) > 1:
        raise BadImage("The image is animated; send a single frame.")
    try:
        image.load()
        notes += _peculiarities(image, form, data)
        sixteen_bit = image.mode.startswith(("I", "F")) or _png_depth(data) == 16
        # `exif_transpose` returns an image without the transposed tag, but keeps the profile.
        image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
        if image.mode.startswith(("I", "F")):
            image = _from_deep_grey(image)
        image, alpha = _without_alpha(image, may_flatten=background is not None)
        rgb = _to_srgb(image, profile, notes)
        if alpha is not None and background is not None:
            rgb = _flattened(rgb, alpha, background)
            notes.append(f"Transparent pixels were flattened onto {background}.")
    except (BadImage, BadRequest):
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise BadImage(f"The image cannot be decoded: {reason_of(error)}.") from error
    if sixteen_bit:
        notes += _depth_notes(rgb, is_grey=image.mode == "L")
    return Decoded(np.ascontiguousarray(rgb), form, notes)


def _peculiarities(image: Image.Image, form: str, data: bytes) -> list[str]:
    """Notes on a decoded image that may look unlike a photograph to an upscaler.

    Raises:
        BadImage: its data are damaged.
    """
    if form == "JPEG":
        return _damage(data)
    colours = len(image.getcolors() or []) if image.mode == "P" else 0
    if colours > 1:
        return [f"The image has a palette of {colours} colours: {_STEPS}"]
    return []


def _damage(data: bytes) -> list[str]:
    """Notes on a JPEG file that Pillow has decoded: it keeps libjpeg's warnings to itself.

    So the file is decoded again, as small as libjpeg can and as far as the first warning.

    Raises:
        BadImage: its data are damaged.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        reason = reason_of(error)
        if _EXTRANEOUS in reason:
            return [_ODD]
        if reason.startswith(_DAMAGE):
            raise BadImage(f"The JPEG file is damaged: {reason}.") from error
    return []


def _depth_notes(rgb: NDArray[np.uint8], *, is_grey: bool) -> list[str]:
    """Notes on pixels that had 16 bits.

    Raises:
        BadImage: nothing is left of them.
    """
    top = int(rgb.max())
    if top == 0:
        raise BadImage(
            "All values of the 16-bit image are so small that with 8 bits they are black. Stretch "
            "them to 0 … 65,535 first."
        )
    how = "was rounded to 8" if is_grey else "was cut to the upper 8"
    notes = [f"The image has 16 bits per channel; it {how}."]
    if top < _DARK:
        notes.append(
            f"Its brightest value is {top} of 255 then. If the file holds data of 10 or 12 bits, "
            "stretch them to 0 … 65,535 first: the upscaler sees an almost black image."
        )
    return notes


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
    work = work_of(data)
    work.check()
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
    work.check(width, height)
    return image


def _without_alpha(
    image: Image.Image, *, may_flatten: bool
) -> tuple[Image.Image, Image.Image | None]:
    """The colours alone, of mode L, RGB or CMYK, and the alpha channel if it is not opaque."""
    is_grey = image.mode in {"1", "L", "LA"}
    if not image.has_transparency_data:
        if image.mode in {"L", "RGB", "CMYK"}:
            return image, None
        return image.convert("L" if is_grey else "RGB"), None
    with_alpha = image.convert("RGBA")
    alpha = with_alpha.getchannel("A")
    low, _ = alpha.getextrema()
    if low != 255 and not may_flatten:
        raise BadImage(
            "The image has transparent pixels, and a mask says nothing about transparency. Flatten "
            "it first, or send the form field background, for example background=white."
        )
    colours = with_alpha.getchannel("R") if is_grey else with_alpha.convert("RGB")
    return colours, None if low == 255 else alpha


def _flattened(rgb: NDArray[np.uint8], alpha: Image.Image, background: str) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] sRGB on a background colour, which is sRGB too: so after the profile."""
    try:
        colour = ImageColor.getrgb(background)
    except ValueError as error:
        raise BadRequest(f"background={background!r} is not a colour.") from error
    picture = Image.fromarray(rgb)
    picture.putalpha(alpha)
    canvas = Image.new("RGBA", picture.size, (*colour[:3], 255))
    return np.asarray(Image.alpha_composite(canvas, picture).convert("RGB"))


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] sRGB of an image of mode L, RGB or CMYK, its colour profile applied."""
    if profile:
        profile = _plain(profile)
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = _shown(ImageCms.getProfileDescription(embedded))
            space = embedded.profile.xcolor_space.strip()
            if image.mode not in _SPACES.get(space, ()):
                notes.append(f"The colour profile “{name}” is for {space} and was ignored.")
            else:
                if space == "RGB":
                    image = image.convert("RGB")
                if not _is_srgb(name, profile, image.mode):
                    converted = _converted(image, embedded)
                    notes.append(f"The colour profile “{name}” was converted to sRGB.")
                    return np.asarray(converted)
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("The colour profile is damaged and was ignored; sRGB was assumed.")
    if image.mode == "CMYK":
        notes.append("CMYK without a usable profile was converted by the plain formula.")
    return np.asarray(image.convert("RGB"))


def _plain(profile: bytes) -> bytes:
    """A profile without its multi-process elements, as most programs read it.

    They repeat what its curves and tables say, and may be a hundred thousand, each of which is
    computed for each colour: minutes for a file of 13 KB.
    """
    plain = bytearray(profile)
    for k in range(min(int.from_bytes(profile[128:132]), _MOST_TAGS)):
        at = 132 + 12 * k
        if profile[at : at + 3] in {b"D2B", b"B2D"}:
            plain[at : at + 4] = b"hid%c" % k  # names that mean nothing, each once
    return bytes(plain)


def _shown(name: str) -> str:
    """A profile's name as a note may repeat it: short, without what changes the text around it."""
    kept = "".join(letter for letter in name[:10_000] if letter.isprintable()).strip()
    return kept if len(kept) <= _LONGEST_NAME else f"{kept[: _LONGEST_NAME - 1]}…"


def _is_srgb(name: str, profile: bytes, mode: str) -> bool:
    """Whether a profile that calls itself sRGB also acts like it; a linear one does not."""
    if "srgb" not in name.lower() or mode not in {"L", "RGB"}:
        return False
    probe = _probe().convert(mode)
    before = np.asarray(probe.convert("RGB")).astype(int)
    after = _converted(probe, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return bool(np.abs(np.asarray(after) - before).max() <= _SAME_COLOUR)


@cache
def _probe() -> Image.Image:
    """All greys, and a coarse grid of all colours."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    return Image.fromarray(np.concatenate([grid, greys])[None])


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:
        raise ValueError("converted in place")
    return converted


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits, rounded to nearest; with alpha if one of its values is transparent."""
    values = np.asarray(image)
    top = 65535 if image.mode.startswith("I") else 1.0
    grey = np.rint(np.clip(values.astype(np.float64) / top, 0, 1) * 255).astype(np.uint8)
    shallow = Image.fromarray(grey)
    # Compared at full depth: neighbours that round to the same grey are not transparent.
    transparent = image.info.get("transparency")
    if transparent is not None:
        shallow.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return shallow


def _png_depth(data: bytes) -> int | None:
    """Bits per channel of a PNG file from its first chunk; Pillow keeps only the upper 8."""
    return data[24] if data.startswith(b"\x89PNG") and len(data) > 24 else None
