"""Kinds of uploads that nobody named when classes were made, in groups, for `benchmarks.risk`.

Where what is shown was changed (colours, places, drawn parts), so was the truth.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps
from PIL.Image import Resampling
from scipy import ndimage
from skimage.exposure import equalize_adapthist
from skimage.restoration import denoise_bilateral, denoise_nl_means

from benchmarks.uploads import noisy, png, reduced, saved, through

Change = Callable[[Image.Image], Image.Image]
Kind = Callable[[Image.Image], bytes]


def random_of(image: Image.Image) -> np.random.Generator:
    """The same for the same picture."""
    return np.random.default_rng(zlib.crc32(np.asarray(image).tobytes()))


def picture(values: NDArray[np.floating]) -> Image.Image:
    """Of values from 0 to 255, rounded and cut."""
    return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))


def larger(truth: Image.Image, factor: float) -> Image.Image:
    """The photograph at so many times the size of X."""
    width, height = reduced(truth).size
    return truth.resize((round(width * factor), round(height * factor)), Resampling.BICUBIC)


def fitted(
    image: Image.Image, truth: Image.Image, by: Resampling = Resampling.BICUBIC
) -> Image.Image:
    """At the size of X."""
    return image.resize(reduced(truth).size, by)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """After a round trip through such a file."""
    return through(image, "JPEG", quality)


# Messengers and networks: they reduce and save what was saved before.


def sent(
    truth: Image.Image, first: int, factor: float, then: Callable[[Image.Image], bytes]
) -> bytes:
    """Saved as JPEG at a larger size, reduced, and saved again."""
    return then(fitted(jpeg(larger(truth, factor), first), truth))


def cut(image: Image.Image, quality: int, by: int = 3) -> Image.Image:
    """Saved as JPEG with other borders of blocks."""
    wide = ImageOps.expand(image, by)
    wide.paste(image.resize(wide.size), (0, 0))
    wide.paste(image, (by, by))
    return jpeg(wide, quality).crop((by, by, by + image.width, by + image.height))


CHAINS: Final[Mapping[str, Kind]] = {
    "JPEG 92, ×0.5, JPEG 80": lambda y: sent(y, 92, 2, lambda x: saved(x, "JPEG", 80)),
    "JPEG 80, ×0.75, JPEG 70": lambda y: sent(y, 80, 4 / 3, lambda x: saved(x, "JPEG", 70)),
    "JPEG 50, ×0.5, JPEG 90": lambda y: sent(y, 50, 2, lambda x: saved(x, "JPEG", 90)),
    "JPEG 85, ×0.6, WebP 75": lambda y: sent(y, 85, 5 / 3, lambda x: saved(x, "WEBP", 75)),
    "JPEG 75, ×0.8, PNG": lambda y: sent(y, 75, 1.25, png),
    "WebP 70, ×0.7, JPEG 85": lambda y: saved(
        fitted(through(larger(y, 1 / 0.7), "WEBP", 70), y), "JPEG", 85
    ),
    "JPEG 90, 80, 70": lambda y: saved(cut(cut(reduced(y), 90), 80, 5), "JPEG", 70),
    "JPEG 70, cut, JPEG 92": lambda y: saved(cut(reduced(y), 70), "JPEG", 92),
    "WebP 60, cut, PNG": lambda y: png(through(reduced(y), "WEBP", 60)),
    "JPEG 75, sharpened, JPEG 80": lambda y: saved(
        jpeg(reduced(y), 75).filter(ImageFilter.UnsharpMask(1, 80, 0)), "JPEG", 80
    ),
}


# Phones: noise, what is done against it, and what is done for the eye.


def bilateral(image: Image.Image, colour: float) -> Image.Image:
    """Smoothed where colours are alike."""
    return picture(
        255 * denoise_bilateral(np.asarray(image) / 255, sigma_color=colour, channel_axis=2)
    )


def non_local(image: Image.Image, level: float) -> Image.Image:
    """Freed of noise of so many grey levels."""
    found = denoise_nl_means(
        np.asarray(image) / 255, sigma=level / 255, h=0.8 * level / 255, channel_axis=2
    )
    return picture(255 * found)


def sharper(image: Image.Image, radius: float, percent: int) -> Image.Image:
    """By an unsharp mask."""
    return image.filter(ImageFilter.UnsharpMask(radius, percent, 0))


def local_contrast(image: Image.Image, limit: float) -> Image.Image:
    """Equalised by parts, as for pictures with a high dynamic range."""
    luma, blue, red = image.convert("YCbCr").split()
    new = picture(255 * equalize_adapthist(np.asarray(luma) / 255, clip_limit=limit))
    return Image.merge("YCbCr", (new, blue, red)).convert("RGB")


def clear(image: Image.Image) -> Image.Image:
    """With more contrast between large areas."""
    return sharper(image, 48, 60)


def chroma_smoothed(image: Image.Image, sd: float) -> Image.Image:
    """With a blurred chroma."""
    luma, *chroma = image.convert("YCbCr").split()
    blurred = [c.filter(ImageFilter.GaussianBlur(sd)) for c in chroma]
    return Image.merge("YCbCr", (luma, *blurred)).convert("RGB")


PHONES: Final[Mapping[str, Kind]] = {
    "noise 5, bilateral, sharpened, JPEG 92": lambda y: saved(
        sharper(bilateral(noisy(reduced(y), 5), 0.06), 1, 90), "JPEG", 92
    ),
    "noise 10, non-local means, JPEG 90": lambda y: saved(
        non_local(noisy(reduced(y), 10), 10), "JPEG", 90
    ),
    "noise 6, non-local means": lambda y: png(non_local(noisy(reduced(y), 6), 6)),
    "noise 6, chroma smoothed, JPEG 93": lambda y: saved(
        chroma_smoothed(noisy(reduced(y), 6), 2), "JPEG", 93
    ),
    "noise 8, median, JPEG 88": lambda y: saved(
        noisy(reduced(y), 8).filter(ImageFilter.MedianFilter(3)), "JPEG", 88
    ),
    "clarity, JPEG 90": lambda y: saved(reduced(clear(y)), "JPEG", 90),
    "local contrast, JPEG 90": lambda y: saved(reduced(local_contrast(y, 0.02)), "JPEG", 90),
    "sharpened twice, JPEG 95": lambda y: saved(
        sharper(sharper(reduced(y), 1, 100), 2, 60), "JPEG", 95
    ),
}


# Frames of video, as a coder of still pictures and a deblocking filter imitate them.


def frame(truth: Image.Image, quality: int, factor: float = 1) -> Image.Image:
    """A frame at a size, through AV1."""
    return fitted(through(larger(truth, factor), "AVIF", quality), truth)


def half_chroma(image: Image.Image) -> Image.Image:
    """With its chroma at half the size."""
    luma, *chroma = image.convert("YCbCr").split()
    half = [c.resize((c.width // 2, c.height // 2), Resampling.BOX) for c in chroma]
    back = [c.resize(luma.size, Resampling.BILINEAR) for c in half]
    return Image.merge("YCbCr", (luma, *back)).convert("RGB")


def blended(truth: Image.Image, by: int) -> Image.Image:
    """With the frame before, which was moved by so many pixels."""
    image = reduced(truth)
    return Image.blend(image, Image.fromarray(np.roll(np.asarray(image), by, axis=1)), 0.35)


VIDEO: Final[Mapping[str, Kind]] = {
    "frame 45": lambda y: png(frame(y, 45)),
    "frame 30": lambda y: png(frame(y, 30)),
    "frame 50 at ×0.67": lambda y: png(frame(y, 50, 2 / 3)),
    "frame 50 at ×1.5, JPEG 90": lambda y: saved(frame(y, 50, 1.5), "JPEG", 90),
    "chroma at half the size": lambda y: png(half_chroma(reduced(y))),
    "deblocked JPEG 40": lambda y: png(jpeg(reduced(y), 40).filter(ImageFilter.GaussianBlur(0.6))),
    "two frames blended": lambda y: png(blended(y, 2)),
}


# Scans and prints.


def grain(image: Image.Image, level: float, size: float) -> Image.Image:
    """With coarse noise, as film has it, most of it in the middle tones."""
    pixels = np.asarray(image, np.float32)
    noise = ndimage.gaussian_filter(random_of(image).normal(0, 1, pixels.shape[:2]), size)
    tone = pixels.mean(axis=2) / 255
    return picture(pixels + (level / noise.std() * noise * 4 * tone * (1 - tone))[..., None])


def dusty(image: Image.Image, spots: int) -> Image.Image:
    """With bright specks and hairs."""
    made, random = image.copy(), random_of(image)
    draw = ImageDraw.Draw(made)
    for _ in range(spots):
        x, y, dx, dy = (int(v) for v in random.integers(0, [*made.size, 9, 9]))
        draw.line((x, y, x + dx - 4, y + dy - 4), fill=(235, 232, 225))
    return made


def faded(image: Image.Image) -> Image.Image:
    """With light blacks."""
    return picture(40 + 0.7 * np.asarray(image, np.float32))


def printed(image: Image.Image, size: int) -> Image.Image:
    """In dots of ink, larger where it is darker, then scanned."""
    large = np.asarray(
        image.resize((image.width * 4, image.height * 4), Resampling.BICUBIC), np.float32
    )
    rows, columns = np.indices(large.shape[:2])
    made = []
    for place, angle in enumerate((0.26, 1.31, 0.78)):
        u = rows * np.cos(angle) + columns * np.sin(angle)
        v = columns * np.cos(angle) - rows * np.sin(angle)
        screen = (np.cos(2 * np.pi * u / size) + np.cos(2 * np.pi * v / size)) / 4 + 0.5
        made.append(255.0 * (large[..., place] / 255 > screen))
    return picture(np.stack(made, axis=2)).resize(image.size, Resampling.BOX)


SCANS: Final[Mapping[str, Kind]] = {
    "grain 4": lambda y: png(grain(reduced(y), 4, 0.7)),
    "grain 8, JPEG 90": lambda y: saved(grain(reduced(y), 8, 0.8), "JPEG", 90),
    "grain 6, soft ×1.5": lambda y: png(grain(reduced(y, 1.5), 6, 0.8)),
    "dust": lambda y: png(dusty(reduced(y), 60)),
    "faded, grain 3": lambda y: png(grain(reduced(faded(y)), 3, 0.7)),
    "printed in dots": lambda y: saved(printed(reduced(y), 6), "JPEG", 90),
    "photographed from a screen": lambda y: saved(
        noisy(reduced(y, 1.3).filter(ImageFilter.GaussianBlur(0.5)), 3), "JPEG", 85
    ),
}


# Turned, straightened, freed of the distortion of a lens.


def warped(
    image: Image.Image, place: Callable[..., tuple[NDArray, NDArray]], order: int = 3
) -> Image.Image:
    """With each pixel taken from another place, in units of half the sides."""
    pixels = np.asarray(image, np.float32)
    height, width = pixels.shape[:2]
    rows, columns = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"
    )
    rows, columns = place(rows, columns)
    at = [(rows + 1) / 2 * (height - 1), (columns + 1) / 2 * (width - 1)]
    planes = [
        ndimage.map_coordinates(pixels[..., k], at, order=order, mode="mirror") for k in range(3)
    ]
    return picture(np.stack(planes, axis=2))


def turned(image: Image.Image, degrees: float, order: int = 3) -> Image.Image:
    """By some degrees."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return warped(image, lambda r, q: (c * r - s * q, s * r + c * q), order)


def barrel(rows: NDArray, columns: NDArray) -> tuple[NDArray, NDArray]:
    """As a wide lens bends lines."""
    factor = 0.94 + 0.04 * (rows**2 + columns**2)
    return rows * factor, columns * factor


def in_perspective(image: Image.Image) -> Image.Image:
    """As straightened buildings are."""
    return warped(image, lambda r, q: (r * (0.92 + 0.06 * q), q * (0.94 + 0.04 * r)))


def corrected(image: Image.Image) -> Image.Image:
    """As if by a wide lens."""
    return warped(image, barrel)


def nudged(image: Image.Image) -> Image.Image:
    """By half a pixel of X, bilinear."""
    return warped(image, lambda r, q: (r + 1 / 128, q + 1 / 128), 1)


GEOMETRY: Final[Mapping[str, Kind]] = {
    "turned by 3°": lambda y: png(turned(reduced(y), 3)),
    "turned by 1°, bilinear": lambda y: png(turned(reduced(y), 1, 1)),
    "turned by 2°, JPEG 88": lambda y: saved(turned(reduced(y), 2), "JPEG", 88),
    "lens corrected": lambda y: png(corrected(reduced(y))),
    "lens corrected, JPEG 90": lambda y: saved(corrected(reduced(y)), "JPEG", 90),
    "in perspective": lambda y: png(in_perspective(reduced(y))),
    "shifted by half a pixel": lambda y: png(nudged(reduced(y))),
}


# Screens, maps and drawings.


def with_text(image: Image.Image) -> Image.Image:
    """A page of text, with the photograph in a part of it."""
    page = Image.new("RGB", image.size, (250, 250, 250))
    draw, size = ImageDraw.Draw(page), image.height // 16
    for row in range(size // 2, image.height, 5 * size // 4):
        draw.text(
            (size // 2, row),
            "All that is here was said before by somebody",
            fill=(30, 30, 40),
            font=ImageFont.load_default(size),
        )
    part = (image.width * 5 // 8, image.height * 5 // 8)
    at = image.width - part[0] - size // 2, image.height - part[1] - size // 2
    page.paste(image.crop((0, 0, *part)), at)
    return page


def flattened(image: Image.Image, colours: int = 12) -> Image.Image:
    """In few colours, as a poster or a map."""
    return image.filter(ImageFilter.ModeFilter(15)).quantize(colours).convert("RGB")


def outlined(image: Image.Image) -> Image.Image:
    """With the borders of its areas drawn."""
    flat = flattened(image, 10)
    edges = flat.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda v: 255 * (v > 24))
    edges = edges.filter(ImageFilter.MaxFilter(3))
    return Image.composite(Image.new("RGB", image.size, (20, 20, 30)), flat, edges)


GRAPHICS: Final[Mapping[str, Kind]] = {
    "page": lambda y: png(reduced(with_text(y))),
    **{f"page, JPEG {q}": lambda y, q=q: saved(reduced(with_text(y)), "JPEG", q) for q in (75, 55)},
    "page, WebP 75": lambda y: saved(reduced(with_text(y)), "WEBP", 75),
    "12 colours": lambda y: png(reduced(flattened(y))),
    "12 colours, JPEG 75": lambda y: saved(reduced(flattened(y)), "JPEG", 75),
    "map": lambda y: png(reduced(outlined(y))),
    **{f"map, JPEG {q}": lambda y, q=q: saved(reduced(outlined(y)), "JPEG", q) for q in (80, 60)},
}


# Colour.


def graded(image: Image.Image, power: float, saturation: float) -> Image.Image:
    """With another curve of tones and saturation."""
    toned = picture(255 * (np.asarray(image) / 255) ** power)
    return ImageEnhance.Color(toned).enhance(saturation)


def sepia(image: Image.Image) -> Image.Image:
    """In browns."""
    return ImageOps.colorize(image.convert("L"), "#1c120a", "#fff0d8")


COLOUR: Final[Mapping[str, Kind]] = {
    "darker": lambda y: png(reduced(graded(y, 1.5, 1))),
    "lighter, JPEG 85": lambda y: saved(graded(reduced(y), 0.7, 1), "JPEG", 85),
    "vivid, JPEG 85": lambda y: saved(graded(reduced(y), 1, 1.6), "JPEG", 85),
    "pale": lambda y: png(reduced(graded(y, 1, 0.3))),
    "sepia": lambda y: png(reduced(sepia(y))),
    "through CMYK": lambda y: png(reduced(y).convert("CMYK").convert("RGB")),
    "autocontrast, JPEG 90": lambda y: saved(reduced(ImageOps.autocontrast(y, 2)), "JPEG", 90),
}


def colourless(image: Image.Image) -> Image.Image:
    """Exactly grey, in three equal channels."""
    return image.convert("L").convert("RGB")


def grey(truth: Image.Image, factor: float = 1) -> Image.Image:
    """X of a grey photograph."""
    return colourless(reduced(colourless(truth), factor))


GREY: Final[Mapping[str, Kind]] = {
    "grey": lambda y: png(grey(y)),
    **{f"grey, JPEG {q}": lambda y, q=q: saved(grey(y), "JPEG", q) for q in (90, 75, 50)},
    "grey, one channel, JPEG 75": lambda y: saved(grey(y).convert("L"), "JPEG", 75),
    "grey, WebP 70": lambda y: saved(grey(y), "WEBP", 70),
    "grey, soft ×1.5": lambda y: png(grey(y, 1.5)),
    "grey, GIF": lambda y: saved(grey(y), "GIF"),
    "grey, JPEG 70, PNG": lambda y: png(jpeg(grey(y), 70)),
}

ENLARGED: Final[Mapping[str, Kind]] = {
    "×2, sharpened": lambda y: png(sharper(reduced(y, 2), 1.5, 150)),
    "×2 by Lanczos, sharpened, JPEG 90": lambda y: saved(
        sharper(reduced(y, 2, Resampling.LANCZOS), 1.2, 120), "JPEG", 90
    ),
    "×3, bilateral, sharpened": lambda y: png(sharper(bilateral(reduced(y, 3), 0.05), 2, 150)),
    "×1.15": lambda y: png(reduced(y, 1.15)),
}

COARSE: Final[Mapping[str, Kind]] = {
    **{f"JPEG {q}": lambda y, q=q: saved(reduced(y), "JPEG", q) for q in (22, 12)},
    **{f"WebP {q}": lambda y, q=q: saved(reduced(y), "WEBP", q) for q in (15, 5)},
    **{f"AVIF {q}": lambda y, q=q: saved(reduced(y), "AVIF", q) for q in (35, 25, 15)},
    "HEIC 25": lambda y: saved(reduced(y), "HEIF", 25),
}

PLAIN: Final[Mapping[str, Kind]] = {
    "PNG": lambda y: png(reduced(y)),
    **{f"JPEG {q}": lambda y, q=q: saved(reduced(y), "JPEG", q) for q in (90, 75, 55)},
    "soft ×1.5": lambda y: png(reduced(y, 1.5)),
    "WebP 80": lambda y: saved(reduced(y), "WEBP", 80),
    "HEIC 60": lambda y: saved(reduced(y), "HEIF", 60),
    "GIF": lambda y: saved(reduced(y), "GIF"),
}

GROUPS: Final[Mapping[str, Mapping[str, Kind]]] = {
    "plain": PLAIN,
    "grey": GREY,
    "chains": CHAINS,
    "phones": PHONES,
    "video": VIDEO,
    "scans": SCANS,
    "geometry": GEOMETRY,
    "graphics": GRAPHICS,
    "colour": COLOUR,
    "enlarged": ENLARGED,
    "coarse": COARSE,
}

SHOWN: Final[Mapping[str, Change]] = {
    "clarity, JPEG 90": clear,
    "local contrast, JPEG 90": partial(local_contrast, limit=0.02),
    "faded, grain 3": faded,
    "turned by 3°": partial(turned, degrees=3),
    "turned by 1°, bilinear": partial(turned, degrees=1),
    "turned by 2°, JPEG 88": partial(turned, degrees=2),
    "lens corrected": corrected,
    "lens corrected, JPEG 90": corrected,
    "in perspective": in_perspective,
    "shifted by half a pixel": nudged,
    **dict.fromkeys([kind for kind in GRAPHICS if kind.startswith("page")], with_text),
    **dict.fromkeys([kind for kind in GRAPHICS if kind.startswith("12")], flattened),
    **dict.fromkeys([kind for kind in GRAPHICS if kind.startswith("map")], outlined),
    "darker": partial(graded, power=1.5, saturation=1),
    "lighter, JPEG 85": partial(graded, power=0.7, saturation=1),
    "vivid, JPEG 85": partial(graded, power=1, saturation=1.6),
    "pale": partial(graded, power=1, saturation=0.3),
    "sepia": sepia,
    "autocontrast, JPEG 90": partial(ImageOps.autocontrast, cutoff=2),
    **dict.fromkeys(GREY, colourless),
}
"""What was done to the truth."""
