"""Ŷ, the picture that answers, from the samples of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trustscale_server.upscalers.base import RGB

PredictionRule = Literal["first", "mean"]
"""Ŷ is the sample of the first seed, or the mean of all samples."""


class Prediction:
    """Ŷ of samples that are added in any order, without keeping them."""

    def __init__(self, rule: PredictionRule) -> None:
        self._rule = rule
        self._first: RGB | None = None
        self._sum: NDArray[np.uint32] | None = None
        self._count = 0

    def add(self, index: int, sample: RGB) -> None:
        """Add the sample of the seed with this index."""
        if self._rule == "first":
            self._first = sample if index == 0 else self._first
            return
        if self._sum is None:
            self._sum, self._dtype = np.zeros(sample.shape, np.uint32), sample.dtype
        self._sum += sample
        self._count += 1

    def picture(self) -> RGB:
        """Return Ŷ of all samples, once; a mean is rounded half up."""
        if self._rule == "first":
            assert self._first is not None  # noqa: S101 - draw delivers every index
            return self._first
        assert self._sum is not None  # noqa: S101 - there is at least one sample
        total, self._sum = self._sum, None
        total *= np.uint32(2)
        total += np.uint32(self._count)
        total //= np.uint32(2 * self._count)
        return total.astype(self._dtype)


def predicted(samples: Iterable[RGB], rule: PredictionRule) -> RGB:
    """Return the Ŷ of all samples of a request, in order."""
    prediction = Prediction(rule)
    for index, sample in enumerate(samples):
        prediction.add(index, sample)
    return prediction.picture()
