"""The degradation: how the input X is made from the truth Y when only Y is at hand."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from app.images.holes import Inpaint, cut, hole_mask, stream


class Degradation(BaseModel):
    """Steps in the order in which they are applied.

    grey: drop the colour (colorization). blur: Gaussian, standard deviation in pixels of Y. Then
    bicubic reduction by the scale of the upscaler, antialiased. noise: Gaussian, standard deviation
    in grey levels of 255. jpeg: quality of a JPEG round trip; None: none. inpaint: holes, cut last
    so that their colour stays exact; None: none.

    A calibration speaks about inputs made in this way, so choose what the real inputs went through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grey: bool = False
    blur: float = Field(0.0, ge=0, le=64)
    noise: float = Field(0.0, ge=0, le=128)
    jpeg: int | None = Field(None, ge=1, le=100)
    inpaint: Inpaint | None = None

    def in_words(self, scale: int) -> str:
        """How X was made, such as "bicubic reduction by 4, JPEG of quality 50"."""
        steps = {
            "removal of the colour": self.grey,
            f"a blur of {self.blur:g} px": self.blur,
            f"bicubic reduction by {scale}": scale > 1,
            f"noise of {self.noise:g} grey levels": self.noise,
            f"JPEG of quality {self.jpeg}": self.jpeg,
            self.inpaint.in_words() if self.inpaint else "": self.inpaint,
        }
        return ", ".join(words for words, given in steps.items() if given) or "no change"


def degrade(
    truth: NDArray[np.uint8], scale: int, degradation: Degradation, seed: int
) -> NDArray[np.uint8]:
    """X, uint8 [H/k, W/k, 3], from Y, uint8 [H, W, 3].

    Args:
        truth: Y; its sides must be multiples of the scale (`crop_to_multiple`).
        scale: k ≥ 1.
        degradation: the steps.
        seed: of the noise and of the holes.

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
        noisy = pixels + stream(seed, 1).normal(0, degradation.noise, pixels.shape)
        pixels = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    if degradation.jpeg is not None:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=degradation.jpeg)
        pixels = np.asarray(Image.open(file))
    if degradation.inpaint is not None:
        height, width = pixels.shape[:2]
        mask = hole_mask(height, width, degradation.inpaint, seed)
        pixels = cut(pixels, mask, degradation.inpaint.color)
    return np.ascontiguousarray(pixels)


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The image without the right and lower rows that do not fill a multiple of the scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
