"""To sRGB, as a viewer shows an image: its colour profile is applied."""

from __future__ import annotations

import io
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

# Colour spaces of profiles, and the image modes that they apply to.
_SPACES: Final = {"GRAY": {"L"}, "RGB": {"RGB", "L"}, "CMYK": {"CMYK"}}

_MAX_NAME: Final = 80  # letters of a profile's name in a note


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[NDArray[np.uint8], list[str]]:
    """Return sRGB, uint8 [h, w, 3], of an image of mode L, RGB or CMYK, and notes on changes."""
    converted, notes = _by_profile(image, _plain(profile)) if profile else (None, [])
    if converted is not None:
        return np.asarray(converted), notes
    if image.mode == "CMYK":
        notes.append("CMYK without a usable profile was converted by the plain formula.")
    return np.asarray(image.convert("RGB")), notes


def _by_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image | None, list[str]]:
    """The image converted, and notes; None: the profile changes nothing, or cannot be used."""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = _shown(ImageCms.getProfileDescription(embedded))
        space = embedded.profile.xcolor_space.strip()
        if image.mode not in _SPACES.get(space, ()):
            return None, [f"The colour profile “{name}” is for {space} and was ignored."]
        if space == "RGB":
            image = image.convert("RGB")
        if _is_srgb(name, profile, image.mode):
            return None, []
        converted = _converted(image, embedded)
        return converted, [f"The colour profile “{name}” was converted to sRGB."]
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None, ["The colour profile is damaged and was ignored; sRGB was assumed."]


def _plain(profile: bytes) -> bytes:
    """A profile without its multi-process elements, which most programs ignore.

    They may be a hundred thousand, each computed for each colour: minutes for a file of 13 KB.
    """
    plain = bytearray(profile)
    for k in range(min(int.from_bytes(profile[128:132]), 100)):  # lcms reads no more
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
    # Profiles named sRGB differ slightly.
    return bool(np.abs(np.asarray(after) - before).max() <= 3)


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
