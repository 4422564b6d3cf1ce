"""Symmetries of a picture, and the seeds that choose among them.

A generative model takes a sample seed as it is. A deterministic model f has only one answer, so its
samples are `undo(f(apply(x, g)), g)` with g = seed % 96, drawn *without* replacement from a group
that leaves the task unchanged: an ideal upscaler gives the same image for every g, and where a real
one does not, it is undecided. Elements are numbered

    element = d + 8 * c        d in 0..7: the dihedral group of the square
                               c in 0..11: channel permutation x intensity inversion

with d = quarter turns + 4 * mirror and c = permutation + 6 * inversion. Element 0 is the identity,
and elements 0..7 are the geometric self-ensemble of Timofte et al., "Seven ways to improve
example-based single image super resolution", CVPR 2016, section 3.5. None interpolates. Geometry,
permutation and inversion act on different axes, so they commute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trustscale_server.upscalers.base import MAX_REQUEST_SEED

T = TypeVar("T", NDArray[np.uint8 | np.uint16], NDArray[np.float32])
"""An image [h, w, 3]: uint8, uint16, or float32 in [0, 1]."""

_DTYPES = (np.uint8, np.uint16, np.float32)
_MAX_SAMPLE_SEED = 2**31 - 1  # of every known API

DIHEDRAL = 8
GROUP_ORDER = 96
"""Elements of dihedral x channel permutation x intensity inversion: 8 · 6 · 2."""
# In lexicographic order, the identity first; the numbering is part of every fingerprint.
_PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def sample_seeds(seed: int, count: int) -> list[int]:
    """Return `count` distinct sample seeds in [1, 2^31 − 1], a pure function of `seed`.

    Not 0, which several APIs read as "random". The first eight seeds have the residues 0..7 modulo
    96 in random order, the next the others in random order, so 96 seeds have distinct elements.

    Raises ValueError for `seed` outside [0, 2^63 − 1] or `count` < 1.
    """
    if not 0 <= seed <= MAX_REQUEST_SEED:
        raise ValueError(f"seed must be between 0 and 2^63 - 1, got {seed}")
    if count < 1:
        raise ValueError(f"at least one sample is needed, got {count}")
    random = np.random.Generator(np.random.PCG64(seed))
    seeds: list[int] = []
    used: set[int] = set()
    while len(seeds) < count:
        elements = np.concatenate(
            [random.permutation(DIHEDRAL), DIHEDRAL + random.permutation(GROUP_ORDER - DIHEDRAL)]
        )
        for element in elements[: count - len(seeds)]:
            candidate = 0
            while candidate == 0 or candidate in used:
                block = int(random.integers(1, _MAX_SAMPLE_SEED // GROUP_ORDER))
                candidate = block * GROUP_ORDER + int(element)
            used.add(candidate)
            seeds.append(candidate)
    return seeds


def apply(image: T, element: int) -> T:
    """Transform the image [h, w, 3] by a group element, 0 <= element < 96.

    C-contiguous and of the same dtype; [w, h, 3] when the element turns by an odd number of
    quarters.
    """
    turns, mirror, permutation, invert = _split(image, element)
    turned = np.rot90(image, turns)
    if mirror:
        turned = turned[:, ::-1]
    return _recoloured(turned, _PERMUTATIONS[permutation], invert=invert)


def undo(image: T, element: int) -> T:
    """Invert `apply`, also on an upscaled image.

    Exact for integers. For float32 it is exact whenever `1 - x` is (every multiple of 2^-24, and
    everything from 0.5 up), and otherwise within 2^-25, half a unit in the last place of 1.
    """
    turns, mirror, permutation, invert = _split(image, element)
    if mirror:
        image = image[:, ::-1]
    order = _PERMUTATIONS[permutation]
    inverse = [order.index(channel) for channel in range(3)]
    return _recoloured(np.rot90(image, -turns), inverse, invert=invert)


def _split(image: T, element: int) -> tuple[int, bool, int, bool]:
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


def _recoloured(image: T, order: Sequence[int], *, invert: bool) -> T:
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
