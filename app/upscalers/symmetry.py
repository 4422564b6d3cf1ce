"""The 96 exact symmetries through which a deterministic upscaler is sampled.

A deterministic model f gives only one answer, so its samples are `undo(f(apply(x, g)), g)` for
different elements g of a group that leaves the task unchanged: an ideal upscaler gives the same
image for every g, and where a real one does not, it is undecided. Elements are numbered

    element = d + 8 * c        d in 0..7: the dihedral group of the square
                               c in 0..11: channel permutation x intensity inversion

with d = quarter turns + 4 * mirror and c = permutation + 6 * inversion. Element 0 is the identity,
and elements 0..7 (c = 0) are the flips and quarter turns: the geometric self-ensemble of Timofte et
al., "Seven ways to improve example-based single image super resolution", CVPR 2016, section 3.5.
Every element rearranges pixels and channels, of the image or of its complement: none interpolates,
blurs or adds noise.

Geometry, permutation and inversion act on different axes of the array, so they commute and `undo`
may invert them in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.upscalers.seeds import DIHEDRAL, GROUP_ORDER

Pixels = TypeVar("Pixels", NDArray[np.uint8 | np.uint16], NDArray[np.float32])
"""An image [h, w, 3]: uint8, uint16, or float32 in [0, 1]."""

# All orders of (R, G, B) with the identity first, so that c = 0 leaves the colours alone. They
# are in lexicographic order; the numbering is part of every fingerprint and must never change.
_DTYPES = (np.uint8, np.uint16, np.float32)

_PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def apply(image: Pixels, element: int) -> Pixels:
    """The image transformed by a group element.

    Args:
        image: uint8 or uint16 [h, w, 3], or float32 [h, w, 3] in [0, 1]. Any size, also 1 x 1.
        element: the group element, 0 <= element < 96.

    Returns:
        A C-contiguous image of the same dtype, [h, w, 3], or [w, h, 3] when the element turns
        by an odd number of quarters.

    Raises:
        ValueError: another dtype or shape, or an element outside the group.
    """
    turns, mirror, permutation, invert = _split(image, element)
    turned = np.rot90(image, turns)
    if mirror:
        turned = turned[:, ::-1]
    return _recoloured(turned, _PERMUTATIONS[permutation], invert=invert)


def undo(image: Pixels, element: int) -> Pixels:
    """The inverse of `apply`: `undo(apply(x, e), e)` is `x`, and `apply(undo(x, e), e)` too.

    Exact for integers. For float32 it is exact whenever `1 - x` is (every multiple of 2^-24, and
    everything from 0.5 up), and otherwise within 2^-25, half a unit in the last place of 1.

    Arguments and errors are those of `apply`; the image may be an upscaled one, whose sides swap
    too.
    """
    turns, mirror, permutation, invert = _split(image, element)
    if mirror:
        image = image[:, ::-1]
    order = _PERMUTATIONS[permutation]
    inverse = [order.index(channel) for channel in range(3)]
    return _recoloured(np.rot90(image, -turns), inverse, invert=invert)


def _split(image: Pixels, element: int) -> tuple[int, bool, int, bool]:
    """Quarter turns, mirror, number of the permutation and inversion, after checking both."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in _DTYPES:
        raise ValueError(
            f"expected a uint8, uint16 or float32 [h, w, 3] image, got {image.dtype} {image.shape}"
        )
    if not 0 <= element < GROUP_ORDER:
        raise ValueError(f"a group element is 0 to {GROUP_ORDER - 1}, got {element}")
    colours, geometry = divmod(element, DIHEDRAL)
    invert, permutation = divmod(colours, len(_PERMUTATIONS))
    mirror, turns = divmod(geometry, 4)
    return turns, mirror == 1, permutation, invert == 1


def _recoloured(image: Pixels, order: Sequence[int], *, invert: bool) -> Pixels:
    """The channels in another order, and white − x where inverted; C-contiguous."""
    out = np.empty_like(image, order="C")
    largest = {1: 255, 2: 65535}.get(image.itemsize, 1)
    for channel, source in enumerate(order):  # three planes, since rows of three are slow
        plane = image[..., source]
        if invert:
            np.subtract(largest, plane, out=out[..., channel])
        else:
            out[..., channel] = plane
    return out
