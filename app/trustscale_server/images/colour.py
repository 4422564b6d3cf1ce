"""To sRGB of 8 bits, as a viewer shows an image: colour profiles, and more than 8 bits."""

from __future__ import annotations

import io
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from trustscale_server.platform.errors import BadImage

# Profiles named sRGB differ slightly; one that changes no value by more is ignored.
_SAME_COLOUR: Final = 3

# Colour spaces of profiles, and the image modes that they apply to.
_SPACES: Final = {"GRAY": {"L"}, "RGB": {"RGB", "L"}, "CMYK": {"CMYK"}}

_MAX_TAGS: Final = 100  # of a colour profile; lcms reads no more
_MAX_NAME: Final = 80  # letters of a profile's name in a note


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> NDArray[np.uint8]:
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
    """A profile without its multi-process elements, which most programs ignore.

    They may be a hundred thousand, each computed for each colour: minutes for a file of 13 KB.
    """
    plain = bytearray(profile)
    for k in range(min(int.from_bytes(profile[128:132]), _MAX_TAGS)):
        tag = 132 + 12 * k
        if profile[tag : tag + 3] in {b"D2B", b"B2D"}:
            plain[tag : tag + 4] = b"hid%c" % k  # unique names without meaning
    return bytes(plain)


def _shown(name: str) -> str:
    """A profile's name for a note: short, without control characters."""
    printable = "".join(letter for letter in name[:10_000] if letter.isprintable()).strip()
    return printable if len(printable) <= _MAX_NAME else f"{printable[: _MAX_NAME - 1]}…"


def _is_srgb(name: str, profile: bytes, mode: str) -> bool:
    """Whether a profile that is named sRGB also acts like it; a linear one does not."""
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


_BITS_TAG: Final = 0x0102  # a tag of TIFF

# 16-bit data below a quarter of the range: probably of 10 or 12 bits.
_DARK: Final = 64

_ROWS: Final = 64


def depth_of(image: Image.Image, data: bytes) -> int:
    """Return the bits per channel of the file; of colours Pillow keeps the upper 8."""
    if data.startswith(b"\x89PNG") and len(data) > 24:
        return data[24]
    if (tags := getattr(image, "tag_v2", None)) is not None:
        return int(max(np.atleast_1d(tags.get(_BITS_TAG, 8))))
    return int(image.info.get("bit_depth") or (16 if image.mode.startswith(("I", "F")) else 8))


def depth_notes(rgb: NDArray[np.uint8], depth: int, *, is_grey: bool) -> list[str]:
    """Return notes on pixels that had more than 8 bits. Raises BadImage: all are black now."""
    top = int(rgb.max())
    if top == 0:
        raise BadImage(
            f"All values of the {depth}-bit image are so small that with 8 bits they are black. "
            "Send stretch=p0,p100 to have them stretched."
        )
    change = "was rounded to 8" if is_grey else "was cut to the upper 8"
    notes = [f"The image has {depth} bits per channel; it {change}. With a stretch all are kept."]
    if top < _DARK:
        notes.append(
            f"Its brightest value is {top} of 255 then. If the file holds data of 10 or 12 bits, "
            "send stretch=p0,p100: the upscaler sees an almost black image."
        )
    return notes


def from_deep_grey(image: Image.Image, notes: list[str], *, is_negative: bool) -> Image.Image:
    """Round grey of 16 bits, or floats, to 8 bits; alpha if one value is transparent.

    Values outside 0 … 65,535, or 0 … 1 of floats, are cut, with a note.
    """
    values = np.asarray(image)
    top = 65535 if image.mode.startswith("I") else 1
    grey = np.empty(values.shape, np.uint8)
    cut = 0
    for start in range(0, len(values), _ROWS):  # floats of all would take many times the image
        rows = values[start : start + _ROWS]
        cut += rows.size - int(np.count_nonzero((rows >= 0) & (rows <= top)))
        share = np.clip(np.nan_to_num(rows.astype(np.float64)) / top, 0, 1)
        grey[start : start + _ROWS] = np.rint((1 - share if is_negative else share) * 255)
    if cut:
        notes.append(f"{cut:,} of its values lie outside of 0 … {top:,} and were cut.")
    shallow = Image.fromarray(grey)
    # At full depth: neighbours that round to the same grey are opaque.
    transparent = image.info.get("transparency")
    if transparent is not None:
        shallow.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return shallow
