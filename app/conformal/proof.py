"""Are the compiled kernels numpy's equals on this machine? Asked before they are used.

The Lab function is compared at all of its 2^21 places, everything else on a fixed image that holds
every value of every channel, at sizes below and above a block and a window. The tests compare far
more; this guards against a processor, compiler or scipy on which they were never run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.conformal.compiled import Kernels
from app.conformal.filters import gaussian_blur, smooth
from app.conformal.indecision import Accumulator
from app.conformal.lab import XYZ_WIDTH, lab_distance, lab_function, normalised_lab

_SHAPES = ((67, 43), (3, 40), (40, 3), (1, 1))


def disagreements(kernels: Kernels) -> list[str]:
    """The names of the kernels that differ from numpy in any bit; numpy must be in use."""
    found: list[str] = []
    if not _equal(kernels.f(np.arange(1 << XYZ_WIDTH, dtype=np.int32)), lab_function()):
        found.append("f")
    for shape in _SHAPES:
        found += _on_image(kernels, shape)
    return list(dict.fromkeys(found))


def _on_image(kernels: Kernels, shape: tuple[int, int]) -> Iterator[str]:
    random = np.random.default_rng(shape[0])
    stack = [random.integers(0, 256, (*shape, 3), np.uint8) for _ in range(5)]
    stack[0].reshape(-1)[:] = np.arange(stack[0].size) % 256
    reference = Accumulator(shape)
    for sample in stack:
        reference.add(sample)
    variance = reference.pixel_variance()
    sums, squares = np.zeros_like(reference.sums), np.zeros_like(reference.squares)
    kernels.fold(stack, sums, squares)
    if not (_equal(sums, reference.sums) and _equal(squares, reference.squares)):
        yield "fold"
    got = kernels.variance(reference.sums, reference.squares, reference.count, reference.scale)
    if not _equal(got, variance.reshape(-1)):
        yield "variance"
    if not _equal(kernels.lab(stack[0]), normalised_lab(stack[0])):
        yield "lab"
    if not _equal(kernels.distance(*stack[:2]), lab_distance(*stack[:2])):
        yield "distance"
    ranks = np.arange(0, variance.size, 1 + variance.size // 50)
    statistics = kernels.order_statistics(variance.reshape(-1), ranks)
    if not _equal(statistics, np.sort(variance, axis=None)[ranks]):
        yield "order_statistics"
    yield from _filters(kernels, variance, reference.squares.reshape(shape))


def _filters(
    kernels: Kernels, single: NDArray[np.float32], double: NDArray[np.float64]
) -> Iterator[str]:
    for size in (2, 7, 31):
        if not _equal(kernels.box(single, size), smooth(single, "box", size)):
            yield "box"
        if not _equal(kernels.box(double, size), smooth(double, "box", size)):
            yield "box"
    for deviation in (0.4, 1.5, 4.0):
        radius = int(4 * deviation + 0.5)
        got = kernels.gaussian(single, deviation, radius)
        if not _equal(got, gaussian_blur(single, deviation)):
            yield "gaussian"


def _equal(left: NDArray[np.generic], right: NDArray[np.generic]) -> bool:
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()
