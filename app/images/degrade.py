"""The degradation: how the input X is made from the truth Y when only Y is at hand."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage


class Degradation(BaseModel):
    """Steps in the order in which they are applied.

    grey: drop the colour (colorization). blur: Gaussian, standard deviation in pixels of Y. Then
    bicubic reduction by the scale of the upscaler, antialiased. noise: Gaussian, standard deviation
    in grey levels of 255. jpeg: quality of a JPEG round trip; None: none.

    A calibration speaks about inputs made in this way, so choose what the real inputs went through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grey: bool = False
    blur: float = Field(0.0, ge=0, le=64)
    noise: float = Field(0.0, ge=0, le=128)
    jpeg: int | None = Field(None, ge=1, le=100)


def degrade(
    truth: NDArray[np.uint8], scale: int, degradation: Degradation, seed: int
) -> NDArray[np.uint8]:
    """X, uint8 [H/k, W/k, 3], from Y, uint8 [H, W, 3].

    Args:
        truth: Y; its sides must be multiples of the scale (`crop_to_multiple`).
        scale: k ≥ 1.
        degradation: the steps.
        seed: of the noise.

    Raises:
        ValueError: a side of Y is not a multiple of the scale.
    """
    height, width = truth.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{width}×{height} is not a multiple of {scale}")
    pixels = truth
    if degradation.grey:
        pixels = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
    if degradation.blur:
        pixels = ndimage.gaussian_filter(
            pixels, (degradation.blur, degradation.blur, 0), mode="reflect"
        )
    if scale > 1:
        small = Image.fromarray(pixels).resize(
            (width // scale, height // scale), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(small)
    if degradation.noise:
        random = np.random.Generator(np.random.PCG64(seed))
        noisy = pixels + random.normal(0, degradation.noise, pixels.shape)
        pixels = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    if degradation.jpeg is not None:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=degradation.jpeg)
        pixels = np.asarray(Image.open(file))
    return np.ascontiguousarray(pixels)


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The image without the right and lower rows that do not fill a multiple of the scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
