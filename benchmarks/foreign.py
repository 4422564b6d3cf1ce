"""Uploads that nobody calibrated: random chains of what programs and cameras do to pictures.

`benchmarks.kinds` learns from some of them what does not belong to the calibrated ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage
from skimage import exposure, restoration

from trustscale_server.images.degrade import (
    Degradation,
    DegradedInput,
    line_art,
    make_input,
    rectangle,
    round_trip,
    without_colour,
)
from trustscale_server.images.description import LOSSLESS, Codec

RGB: TypeAlias = NDArray[np.uint8]
Random: TypeAlias = np.random.Generator
Step: TypeAlias = Callable[[RGB, Random], RGB]
"""X and random numbers to another X of the same size."""

CALIBRATED: Final = "without colour"
"""A step that is not foreign by itself, since grey pictures are among the usual ones."""

_SCALE: Final = 4
_KERNELS: Final = tuple(Image.Resampling)
_CODECS: Final = ("jpeg", "jpeg", "webp", "avif", "heic")


def rounded(values: NDArray[Any]) -> RGB:
    """As uint8."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def resized(pixels: RGB, width: int, height: int, kernel: Image.Resampling) -> RGB:
    return np.asarray(Image.fromarray(pixels).resize((width, height), kernel))


def filtered(pixels: RGB, by: ImageFilter.Filter | type[ImageFilter.Filter]) -> RGB:
    return np.asarray(Image.fromarray(pixels).filter(by))


def enlarged(pixels: RGB, random: Random, *, least: float = 1.1, most: float = 8.0) -> RGB:
    """Reduced by a factor, and enlarged again by any kernel."""
    height, width = pixels.shape[:2]
    factor = np.exp(random.uniform(np.log(least), np.log(most)))
    kernels = [_KERNELS[random.integers(len(_KERNELS))] for _ in range(2)]
    small = resized(
        pixels, max(1, round(width / factor)), max(1, round(height / factor)), kernels[0]
    )
    return resized(small, width, height, kernels[1])


def moved(pixels: RGB, random: Random) -> RGB:
    """A mean over shifts along a line or a curve."""
    steps, bend = np.linspace(-0.5, 0.5, 25), random.choice([0, 0, 1])
    length, angle = random.uniform(1.5, 10), random.uniform(0, np.pi) + bend * steps
    shifts = length * np.stack([steps * np.sin(angle), steps * np.cos(angle), 0 * steps], axis=1)
    planes = [ndimage.shift(pixels.astype(np.float32), s, order=1, mode="nearest") for s in shifts]
    return rounded(np.mean(planes, axis=0))


def out_of_focus(pixels: RGB, random: Random) -> RGB:
    radius = random.uniform(0.8, 4)
    disk = np.clip(radius + 0.5 - np.hypot(*np.mgrid[-5:6, -5:6]), 0, 1)
    return rounded(ndimage.convolve(pixels.astype(np.float32), (disk / disk.sum())[..., None]))


def filed(pixels: RGB, random: Random) -> RGB:
    codec: Any = _CODECS[random.integers(len(_CODECS))]
    return round_trip(pixels, codec, int(random.integers(10, 96))).pixels


def in_chroma(step: Callable[[NDArray[np.float32], Random], Any]) -> Step:
    """A step on both chroma planes alone."""

    def changed(pixels: RGB, random: Random) -> RGB:
        ycc = np.array(Image.fromarray(pixels).convert("YCbCr"))
        for plane in (1, 2):
            ycc[..., plane] = rounded(step(ycc[..., plane].astype(np.float32), random))
        return np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB"))

    return changed


def halved(plane: NDArray[np.float32], random: Random) -> NDArray[np.float32]:
    kernel = _KERNELS[random.integers(len(_KERNELS))]
    image = Image.fromarray(plane)
    small = image.resize((plane.shape[1] // 2, plane.shape[0] // 2), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, kernel))


def noisy(pixels: RGB, random: Random) -> RGB:
    """Grey or coloured noise, in single pixels or in spots."""
    shape = (*pixels.shape[:2], int(random.choice([1, 3])))
    noise, spot = random.normal(0, 1, shape), float(random.choice([0, 0, 0.7, 1.5]))
    noise = ndimage.gaussian_filter(noise, (spot, spot, 0)) * (1 + 3 * spot)
    return rounded(pixels + random.uniform(1, 20) * noise)


def with_shot_noise(pixels: RGB, random: Random) -> RGB:
    gain = random.uniform(0.1, 5)
    return rounded(random.poisson(pixels * gain) / gain)


def screened(pixels: RGB, random: Random) -> RGB:
    """Under the stripes of a screen."""
    down, across = (np.arange(side) * random.uniform(0.3, 3) for side in pixels.shape[:2])
    return rounded(0.8 * pixels + 51 * (np.sin(np.add.outer(down, across)) > 0)[..., None])


def with_dots(pixels: RGB, random: Random) -> RGB:
    found, hit = pixels.copy(), random.random(pixels.shape[:2]) < random.uniform(0.002, 0.05)
    found[hit] = 255 * random.integers(0, 2, (np.count_nonzero(hit), 1))
    return found


def demosaiced(pixels: RGB, _: Random) -> RGB:
    """One colour of each pixel, the others interpolated bilinearly."""
    near = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
    places = {0: [(0, 0)], 1: [(0, 1), (1, 0)], 2: [(1, 1)]}
    planes = []
    for channel, cells in places.items():
        known = np.zeros(pixels.shape[:2], np.float32)
        for top, left in cells:
            known[top::2, left::2] = 1
        sums = ndimage.convolve(known * pixels[..., channel], near, mode="mirror")
        planes.append(sums / ndimage.convolve(known, near, mode="mirror"))
    return rounded(np.stack(planes, axis=2))


def deinterlaced(pixels: RGB, random: Random) -> RGB:
    """Every second row from its neighbours, or from the one above."""
    found = pixels.astype(np.float32)
    rows = found[2::2] if random.random() < 0.5 else found[:-2:2]
    found[1:-1:2] = (found[:-2:2] + rows[: len(found[1:-1:2])]) / 2
    return rounded(found)


def turned(pixels: RGB, random: Random) -> RGB:
    """Rotated by some degrees, and perhaps enlarged."""
    around = np.pad(pixels, ((40, 40), (40, 40), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    kernel = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[random.integers(2)]
    image = Image.fromarray(around).rotate(random.uniform(-25, 25), kernel)
    return np.asarray(image.crop((40, 40, 40 + width, 40 + height)))


def denoised(pixels: RGB, random: Random) -> RGB:
    """By non-local means or a bilateral filter."""
    plain = pixels / 255
    if random.random() < 0.5:
        found = restoration.denoise_nl_means(
            plain, 5, int(random.integers(3, 7)), random.uniform(0.01, 0.06), channel_axis=2
        )
    else:
        found = restoration.denoise_bilateral(
            plain, None, random.uniform(0.03, 0.2), random.uniform(0.7, 3), channel_axis=2
        )
    return rounded(255 * found)


def smoothed(pixels: RGB, random: Random) -> RGB:
    return rounded(
        255
        * restoration.denoise_tv_chambolle(pixels / 255, random.uniform(0.02, 0.2), channel_axis=2)
    )


def with_levels(pixels: RGB, random: Random) -> RGB:
    step = int(random.choice([4, 8, 16, 32]))
    return rounded(pixels // step * step + step / 2)


def captioned(pixels: RGB, random: Random) -> RGB:
    """A strip of text above or below."""
    height, width = pixels.shape[:2]
    strip = max(1, round(height * random.uniform(0.1, 0.4)))
    words = line_art(_SCALE * strip, _SCALE * width, _SCALE, random)
    found = pixels.copy()
    rows = slice(0, strip) if random.random() < 0.5 else slice(height - strip, height)
    found[rows] = resized(words, width, strip, Image.Resampling.BOX)
    return found


def in_part(step: Step, pixels: RGB, random: Random) -> RGB:
    """A step within a rectangle alone."""
    place = rectangle(*pixels.shape[:2], random, (0.3, 0.95))
    found = pixels.copy()
    found[place] = step(pixels, random)[place]
    return found


STEPS: Final[Mapping[str, Step]] = {
    "blurred": lambda x, r: rounded(
        ndimage.gaussian_filter(x.astype(np.float32), (*[r.uniform(0.4, 4)] * 2, 0))
    ),
    "box": lambda x, r: filtered(x, ImageFilter.BoxBlur(r.uniform(0.5, 3))),
    "out of focus": out_of_focus,
    "moved": moved,
    "enlarged": enlarged,
    "enlarged far": partial(enlarged, least=3, most=12),
    "filed": filed,
    "chroma halved": in_chroma(halved),
    "chroma blurred": in_chroma(lambda c, r: ndimage.gaussian_filter(c, r.uniform(1, 6))),
    "chroma noise": in_chroma(lambda c, r: c + r.normal(0, r.uniform(2, 15), c.shape)),
    "chroma shifted": in_chroma(lambda c, r: ndimage.shift(c, r.uniform(-2, 2, 2), mode="nearest")),
    "noisy": noisy,
    "shot noise": with_shot_noise,
    "dots": with_dots,
    "median": lambda x, r: filtered(x, ImageFilter.MedianFilter(int(r.choice([3, 3, 5])))),
    "ranks": lambda x, r: filtered(x, ImageFilter.RankFilter(3, int(r.integers(9)))),
    "denoised": denoised,
    "total variation": smoothed,
    "sharpened": lambda x, r: filtered(
        x, ImageFilter.UnsharpMask(r.uniform(0.5, 4), int(r.uniform(40, 300)), int(r.integers(4)))
    ),
    "tones": lambda x, r: rounded(255 * (x / 255) ** np.exp(r.uniform(-0.8, 0.8))),
    "equalised": lambda x, _: np.asarray(ImageOps.equalize(Image.fromarray(x))),
    "contrast": lambda x, r: rounded(
        255 * exposure.equalize_adapthist(x, clip_limit=r.uniform(0.005, 0.05))
    ),
    "levels": with_levels,
    "few colours": lambda x, r: np.asarray(
        Image.fromarray(x)
        .quantize(int(2 ** r.integers(3, 9)), dither=Image.Dither(int(r.choice([0, 3]))))
        .convert("RGB")
    ),
    "demosaiced": demosaiced,
    "deinterlaced": deinterlaced,
    "turned": turned,
    "screened": screened,
    "captioned": captioned,
    CALIBRATED: lambda x, _: without_colour(x),
}
_CRUSHED, _LARGER, _LOCALLY, _SAVED = 0.04, 0.2, 0.35, 0.4  # shares of the chains
_CRUSHING: Final[Sequence[tuple[Codec, int]]] = (("jpeg", 28), ("webp", 16), ("avif", 35))
LOCAL: Final = ("blurred", "moved", "enlarged", "filed", "noisy", "total variation", "turned")


def foreign(truth: RGB, random: Random) -> tuple[str, DegradedInput]:
    """X of a truth by a random chain of one to three steps, and the name of the first."""
    reduction = str(random.choice(["bicubic", "bicubic", "area", "lanczos"]))
    before = Degradation.model_validate({"reduction": reduction})
    pixels = make_input(truth, _SCALE, before, 0).pixels
    if random.random() < _CRUSHED:
        form, most = _CRUSHING[random.integers(len(_CRUSHING))]
        return f"crushed {form}", round_trip(pixels, form, int(random.integers(3, most)))
    height, width = pixels.shape[:2]
    larger = random.uniform(1.3, 3) if random.random() < _LARGER else 1.0
    if larger > 1:
        size = round(width * larger), round(height * larger)
        pixels = resized(truth, *size, Image.Resampling.BICUBIC)
    names = random.choice(list(STEPS), random.choice([1, 2, 3], p=[0.65, 0.25, 0.1])).tolist()
    is_local = names[0] in LOCAL and random.random() < _LOCALLY
    first = partial(in_part, STEPS[names[0]]) if is_local else STEPS[names[0]]
    for step in (first, *(STEPS[name] for name in names[1:])):
        pixels = step(pixels, random)
    if larger > 1:
        pixels = resized(pixels, width, height, Image.Resampling.BICUBIC)
    name = f"{names[0]}{' in a part' if is_local else ''}"
    if random.random() < _SAVED:
        return name, round_trip(np.ascontiguousarray(pixels), "jpeg", int(random.integers(60, 98)))
    return name, DegradedInput(np.ascontiguousarray(pixels), LOSSLESS)
