"""Kinds of uploads that classes of inputs were made for, as files, for `benchmarks.risk`."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter
from PIL.Image import Resampling
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from trustscale_server.images.decoding.header import installed_formats

SCALE = 4
installed_formats()  # with HEIF among them, where it is installed


def saved(image: Image.Image, form: str, quality: int | None = None, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    quality_of = {} if quality is None else {"quality": quality}
    image.save(out, form, **quality_of, **options)
    return out.getvalue()


def reduced(truth: Image.Image, factor: float = 1, by: Resampling = Resampling.BICUBIC) -> Any:
    """X by antialiased reduction, or once more by the factor and enlarged again."""
    size = truth.width // SCALE, truth.height // SCALE
    if factor == 1:
        return truth.resize(size, by)
    small = truth.resize((round(size[0] / factor), round(size[1] / factor)), Resampling.BICUBIC)
    return small.resize(size, by)


def noisy(image: Image.Image, level: float) -> Image.Image:
    """With Gaussian noise of so many grey levels, the same for the same picture."""
    pixels = np.asarray(image)
    noise = np.random.default_rng(zlib.crc32(pixels.tobytes())).normal(0, level, pixels.shape)
    return Image.fromarray(np.rint(np.clip(pixels + noise, 0, 255)).astype(np.uint8))


def through(image: Image.Image, form: str, quality: int) -> Image.Image:
    """After a round trip through a file."""
    return Image.open(io.BytesIO(saved(image, form, quality))).convert("RGB")


def phone(truth: Image.Image) -> bytes:
    """Noise, its removal, sharpening and a JPEG, as a phone does it."""
    image = noisy(reduced(truth), 4).filter(ImageFilter.MedianFilter(3))
    return saved(image.filter(ImageFilter.UnsharpMask(1.2, 110, 2)), "JPEG", 93)


def smoothed(truth: Image.Image, by: Callable[..., Any], **options: Any) -> Image.Image:
    """With noise, and freed of it by a filter of scikit-image."""
    noise_free = by(np.asarray(noisy(reduced(truth), 4)) / 255, channel_axis=2, **options)
    return Image.fromarray(np.rint(255 * np.clip(noise_free, 0, 1)).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    """Saved without loss."""
    return saved(image, "PNG")


UPLOADS: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG": lambda y: saved(reduced(y), "PNG"),
    "Lanczos": lambda y: saved(reduced(y, by=Resampling.LANCZOS), "PNG"),
    "area": lambda y: saved(reduced(y, by=Resampling.BOX), "PNG"),
    "nearest": lambda y: saved(reduced(y, by=Resampling.NEAREST), "PNG"),
    "noise 2": lambda y: saved(noisy(reduced(y), 2), "PNG"),
    "noise 5": lambda y: saved(noisy(reduced(y), 5), "PNG"),
    "sharpened": lambda y: saved(reduced(y).filter(ImageFilter.UnsharpMask(1, 60, 2)), "PNG"),
    **{f"JPEG {q}": lambda y, q=q: saved(reduced(y), "JPEG", q) for q in (95, 85, 75, 60, 50)},
    "JPEG 60, then 92": lambda y: saved(through(reduced(y), "JPEG", 60), "JPEG", 92),
    "JPEG 92, then 60": lambda y: saved(through(reduced(y), "JPEG", 92), "JPEG", 60),
    "JPEG 75, cut, then PNG": lambda y: saved(
        ImageChops.offset(through(ImageChops.offset(reduced(y), 3, 5), "JPEG", 75), -3, -5), "PNG"
    ),
    "JPEG 60, then WebP 90": lambda y: saved(through(reduced(y), "JPEG", 60), "WEBP", 90),
    **{f"enlarged ×{f}": lambda y, f=f: saved(reduced(y, f), "PNG") for f in (1.25, 1.5, 2)},
    "enlarged ×1.5, bilinear": lambda y: saved(reduced(y, 1.5, Resampling.BILINEAR), "PNG"),
    "enlarged ×2, bilinear, JPEG 90": lambda y: saved(
        reduced(y, 2, Resampling.BILINEAR), "JPEG", 90
    ),
    "enlarged ×2, JPEG 80": lambda y: saved(reduced(y, 2), "JPEG", 80),
    "enlarged ×1.5, JPEG 90": lambda y: saved(reduced(y, 1.5), "JPEG", 90),
    "blurred, sd 1": lambda y: saved(reduced(y.filter(ImageFilter.GaussianBlur(SCALE))), "PNG"),
    "blurred, sd 0.7, JPEG 85": lambda y: saved(
        reduced(y.filter(ImageFilter.GaussianBlur(0.7 * SCALE))), "JPEG", 85
    ),
    **{f"WebP {q}": lambda y, q=q: saved(reduced(y), "WEBP", q) for q in (90, 75, 50, 30, 10)},
    **{f"AVIF {q}": lambda y, q=q: saved(reduced(y), "AVIF", q) for q in (80, 50)},
    "GIF": lambda y: saved(reduced(y), "GIF"),
    "phone": phone,
    "noise 3, median": lambda y: saved(
        noisy(reduced(y), 3).filter(ImageFilter.MedianFilter(3)), "PNG"
    ),
    "noise 4, total variation": lambda y: saved(
        smoothed(y, denoise_tv_chambolle, weight=0.06), "PNG"
    ),
    "noise 4, non-local means, sharpened, JPEG 90": lambda y: saved(
        smoothed(y, denoise_nl_means, sigma=4 / 255, h=3.2 / 255, patch_distance=6).filter(
            ImageFilter.UnsharpMask(1, 100, 0)
        ),
        "JPEG",
        90,
    ),
}
