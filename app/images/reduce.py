"""A picture in fewer pixels, and what is true of all that each of them was made of."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Scalar = TypeVar("Scalar", np.bool_, np.uint16)


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """The picture with this longest side; each pixel is the mean of those that it covers."""
    share = longest / max(image.size)
    width, height = (max(1, round(side * share)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def largest_within(values: NDArray[Scalar], height: int, width: int) -> NDArray[Scalar]:
    """The largest value under each pixel of a reduction of [H, W] to [height, width].

    A value that is covered in part counts for every pixel that covers it.
    """
    return np.ascontiguousarray(_largest(_largest(values, height).T, width).T)


def _largest(values: NDArray[Scalar], count: int) -> NDArray[Scalar]:
    """Along the first axis."""
    edges = np.arange(count + 1) * len(values) / count
    first, last = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int) - 1
    largest: NDArray[Scalar] = np.maximum.reduceat(values, first, axis=0)
    np.maximum(largest, values[last], out=largest)
    return largest
