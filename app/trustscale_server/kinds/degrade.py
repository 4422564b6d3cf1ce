"""Makes the input X from the truth Y when only Y is at hand, by the steps of `degradation.py`."""

from __future__ import annotations

import io
import math
from typing import Any, Final, NamedTuple

import numpy as np
import scipy
import skimage
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.compression import (
    LOSSLESS,
    PALETTE,
    Codec,
    Compression,
    read_compression,
)
from trustscale_server.images.decoding.header import installed_formats
from trustscale_server.kinds.degradation import FILE_CODECS, Degradation, Mixture, range_of
from trustscale_server.kinds.holes import cut_holes, hole_mask
from trustscale_server.kinds.line_art import line_art, page_around, rectangle
from trustscale_server.kinds.streams import Stream, stream
from trustscale_server.pixels.resize import resized
from trustscale_server.platform.errors import BadRequest

_FILTERS: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


class DegradedInput(NamedTuple):
    """X, [H/k, W/k, 3], with the compression of its file."""

    pixels: NDArray[Any]
    compression: Compression


def make_input(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> DegradedInput:
    """Make X from Y, uint8 [H, W, 3].

    Args:
        truth: Y; its sides are multiples of the scale, or ValueError (`crop_to_multiple`).
        scale: k ≥ 1.
        degradation: the steps.
        seed: of noise, holes, and draws from mixtures and ranges.
    """
    height, width = truth.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{width}×{height} is not a multiple of {scale}")
    if isinstance(degradation, Mixture):
        degradation = degradation.drawn(seed)
    pixels = _without_colour(truth) if degradation.grey else truth
    pixels = _blurred(pixels, scale, degradation, seed)
    pixels = _reduced(pixels, scale, degradation, seed)
    pixels = _filtered(pixels, degradation, seed)
    pixels, compression = _saved(pixels, degradation, seed)
    if degradation.inpaint is not None:
        mask = hole_mask(height // scale, width // scale, degradation.inpaint, seed)
        pixels = cut_holes(pixels, mask, degradation.inpaint.color)
    return DegradedInput(np.ascontiguousarray(pixels), compression)


def subject_of(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> NDArray[Any]:
    """Return Y, or the picture of its size that replaces it before X is made."""
    if isinstance(degradation, Mixture):
        degradation = degradation.drawn(seed)
    if degradation.subject == "grey":
        return _without_colour(truth)
    if degradation.subject == "drawing":
        height, width = truth.shape[:2]
        return line_art(height, width, scale, stream(seed, Stream.SUBJECT))
    if degradation.subject == "page":
        return page_around(truth, scale, stream(seed, Stream.SUBJECT))
    return truth


def _without_colour(pixels: NDArray[Any]) -> NDArray[Any]:
    """The luma in all channels, uint8 [h, w, 3]."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _blurred(pixels: NDArray[Any], scale: int, degradation: Degradation, seed: int) -> NDArray[Any]:
    """Y out of focus, and as the camera moved."""
    if blur := scale * _drawn(degradation.blur, seed, Stream.BLUR):
        pixels = scipy.ndimage.gaussian_filter(pixels, (blur, blur, 0), mode="reflect")
    if length := scale * _drawn(degradation.motion, seed, Stream.MOTION):
        angle = stream(seed, Stream.MOTION).uniform(0, math.pi)
        pixels = _moved(pixels, length, angle)
    return pixels


def _reduced(pixels: NDArray[Any], scale: int, degradation: Degradation, seed: int) -> NDArray[Any]:
    """Y in the size of X: at once, by way of a first JPEG file, or enlarged again from less."""
    larger = _drawn(degradation.shrunk, seed, Stream.SHRUNK)
    if degradation.before is not None and larger > 1:
        height, width = pixels.shape[:2]
        kernel = _FILTERS[degradation.reduction]
        first = max(1, round(width * larger / scale)), max(1, round(height * larger / scale))
        saved = _filed(resized(pixels, first, kernel), degradation, "before", seed).pixels
        return resized(saved, (width // scale, height // scale), kernel)
    factor = _drawn(degradation.enlarged, seed, Stream.ENLARGED)
    if degradation.patch:
        return _patched(pixels, scale, degradation, factor, seed)
    return _resized(pixels, scale, degradation, factor)


def _saved(pixels: NDArray[Any], degradation: Degradation, seed: int) -> DegradedInput:
    """X as its files hold it, with the compression of the last one."""
    compression, cut = LOSSLESS, (0, 0)
    if degradation.decoded:
        # It may have been cut between two blocks of 8 pixels.
        down, across = stream(seed, Stream.CUT).integers(0, 8, 2).tolist()
        cut = (down, across) if stream(seed, Stream.CUT).random() < 0.5 else (0, 0)
        pixels = np.pad(pixels, ((cut[0], 0), (cut[1], 0), (0, 0)), mode="edge")
    for field in degradation.qualities:
        if field != "before" or not degradation.is_shrunk:
            pixels, compression = _filed(pixels, degradation, field, seed)
    if degradation.decoded:
        pixels, compression = pixels[cut[0] :, cut[1] :], LOSSLESS
    if degradation.palette:
        few = Image.fromarray(pixels).quantize(256)
        pixels, compression = np.asarray(few.convert("RGB")), PALETTE
    return DegradedInput(pixels, compression)


def _filed(pixels: NDArray[Any], degradation: Degradation, field: str, seed: int) -> DegradedInput:
    low, high = range_of(degradation.qualities[field])
    quality = stream(seed, Stream[field.upper()]).integers(low, high + 1)
    return _round_trip(pixels, FILE_CODECS[field], int(quality))


def _round_trip(pixels: NDArray[Any], codec: Codec, quality: int) -> DegradedInput:
    """Write a picture, uint8 [h, w, 3], with a codec, and read it back.

    BadRequest: it cannot be written.
    """
    if codec == "heic" and "HEIF" not in installed_formats():
        raise BadRequest("HEIC files are written by the extra “formats”, which is not installed.")
    file = io.BytesIO()
    # The number of threads changes what the encoder of AVIF writes.
    alone = {"max_threads": 1} if codec == "avif" else {}
    form = "heif" if codec == "heic" else codec  # as Pillow calls it
    Image.fromarray(pixels).save(file, form, quality=quality, **alone)
    saved = Image.open(file)
    compression = read_compression(file.getvalue(), saved)
    return DegradedInput(np.asarray(saved.convert("RGB")), compression)


def _moved(pixels: NDArray[Any], length: float, angle: float) -> NDArray[Any]:
    """Blurred as by a straight movement of the camera, in pixels and radians."""
    side = 2 * math.ceil(length / 2) + 1
    steps = np.linspace(-length / 2, length / 2, 8 * side) + 0.0
    places = side // 2 + np.stack([steps * math.sin(angle), steps * math.cos(angle)])
    kernel = np.zeros((side + 1, side + 1), np.float32)
    low = np.floor(places).astype(int)
    share = places - low
    for corner in np.ndindex(2, 2):
        weight = np.abs(1 - np.array(corner)[:, None] - share).prod(axis=0)
        np.add.at(kernel, tuple(low + np.array(corner)[:, None]), weight)
    kernel /= kernel.sum()
    planes = [
        scipy.ndimage.convolve(plane, kernel, mode="reflect")
        for plane in np.moveaxis(pixels.astype(np.float32), 2, 0)
    ]
    return _as(pixels.dtype, np.stack(planes, axis=2))


def _patched(
    pixels: NDArray[Any], scale: int, degradation: Degradation, factor: float, seed: int
) -> NDArray[Any]:
    """X with a rectangle that was enlarged, or enlarged all but a rectangle."""
    sharp = _resized(pixels, scale, degradation, 1)
    soft = _resized(pixels, scale, degradation, factor)
    random = stream(seed, Stream.PATCH)
    below, above = (sharp, soft) if random.random() < 0.5 else (soft, sharp)
    patched = below.copy()
    height, width = patched.shape[:2]
    place = rectangle(height, width, random, (0.3, 0.8))
    patched[place] = above[place]
    return patched


def make_values(
    truth: NDArray[Any], scale: int, degradation: Degradation, seed: int
) -> NDArray[Any]:
    """Make X from Y where both are data, [H, W, c]; noise is in 255ths of the range of Y."""
    low, high = float(truth.min()), float(truth.max())
    unit = (high - low) / 255 or 1.0
    values = ((truth.astype(np.float64) - low) / unit).astype(np.float32)
    reduced = make_input(values, scale, degradation, seed).pixels.astype(np.float64)
    return _as(truth.dtype, reduced * unit + low)


def _as(dtype: np.dtype[Any], values: NDArray[Any]) -> NDArray[Any]:
    """The values as a type; integers are rounded and cut to its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    rounded: NDArray[Any] = np.rint(np.clip(values, 0, np.iinfo(dtype).max)).astype(dtype)
    return rounded


def _drawn(value: float | tuple[float, float], seed: int, drawn: Stream) -> float:
    """The value, or one of its range by this stream of the seed."""
    low, high = range_of(value)
    return low if low == high else float(stream(seed, drawn).uniform(low, high))


def _filtered(pixels: NDArray[Any], degradation: Degradation, seed: int) -> NDArray[Any]:
    """The picture, uint8 [h, w, 3], with noise, freed of it, sharpened."""
    if noise := _drawn(degradation.noise, seed, Stream.NOISE):
        noisy = pixels + stream(seed, Stream.NOISE).normal(0, noise, pixels.shape)
        pixels = _as(pixels.dtype, noisy)
    if degradation.median:
        pixels = scipy.ndimage.median_filter(pixels, (3, 3, 1))
    if weight := _drawn(degradation.variation, seed, Stream.VARIATION):
        plain = skimage.restoration.denoise_tv_chambolle(
            pixels / 255, weight=weight, channel_axis=2
        )
        pixels = np.rint(255 * np.clip(plain, 0, 1)).astype(np.uint8)
    if amount := _drawn(degradation.sharpened, seed, Stream.SHARPENED):
        plain = pixels.astype(np.float32)
        blurred = scipy.ndimage.gaussian_filter(plain, (1, 1, 0))
        sharper = plain + np.float32(amount) * (plain - blurred)
        pixels = _as(pixels.dtype, sharper)
    return pixels


def _resized(
    pixels: NDArray[Any], scale: int, degradation: Degradation, factor: float
) -> NDArray[Any]:
    """The picture reduced by the scale, or by factor × scale and then enlarged by the factor."""
    height, width = (side // scale for side in pixels.shape[:2])
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        small = resized(pixels, size, _FILTERS[degradation.reduction])
        return resized(small, (width, height), _FILTERS[degradation.kernel])
    if scale == 1:
        return pixels
    return resized(pixels, (width, height), _FILTERS[degradation.reduction])


def crop_to_multiple(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Crop the image at the right and bottom to multiples of the scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
