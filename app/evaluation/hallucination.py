"""Hallucination inside the mask and outside, as opensr-test 1.3 counts it (Aybar et al. 2024).

Every pixel with detail is an improvement (Ŷ is near Y), an omission (near the enlarged X) or a
hallucination (near neither). Ŷ is not shifted to fit Y, since a mask is about pixels in their
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.exposure import match_histograms

from app.evaluation.measure import Image as Upload
from app.evaluation.plots import Record
from app.evaluation.reduce import Cell, Part
from app.images.resize import resized
from app.serving.promise import Subject
from app.upscalers.base import RGB

KINDS: Final = ("improvement", "omission", "hallucination")
"""In the order of their numbers."""

_BORDER: Final = 16  # output pixels that are left out on each side
_PLAIN: Final = 0.75  # share of the pixels whose distance from X to Y is no detail
_SCORE: Final = 0.05  # λ of all three scores


@dataclass(slots=True)
class Counts(Part):
    """Pixels by kind, inside and outside of the mask of `alpha`.

    cell: whose masks and predictions are counted.
    pixels: of all test images, [inside or outside, kind].
    """

    cell: Cell
    alpha: float
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 3), np.int64))

    def tested(self, image: Upload) -> NDArray[np.int64]:
        """The pixels of one test image."""
        cell, measured = self.cell, image.measured(self.cell.pipeline)
        size = measured.sigma.shape
        subject = Subject.of(cell.calibration, None, image.pair.facts, size=size)
        mask = subject.part.curve.mask(measured.sigma, self.alpha)
        kinds = classified(image.pair.x, measured.prediction, image.pair.y)
        rows, columns = kinds.shape
        top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
        inside = mask[top : top + rows, left : left + columns]
        parts = (kinds[inside], kinds[~inside])
        return np.array([[np.count_nonzero(p == k) for k in range(len(KINDS))] for p in parts])

    def gather(self, images: Sequence[NDArray[np.int64]]) -> None:
        """Add them up."""
        self.pixels = np.sum(images, axis=0)

    def records(self) -> list[Record]:
        """The shares of the pixels with detail, inside and outside."""
        rows: list[Record] = []
        for where, pixels in zip(("inside the mask", "outside"), self.pixels.tolist(), strict=True):
            total = sum(pixels)
            shares = [n / total if total else None for n in pixels]
            about = {"where": where, "alpha": self.alpha, "pixels": total}
            rows.append({**about, **dict(zip(KINDS, shares, strict=True))})
        return rows


def classified(low: RGB, prediction: RGB, truth: RGB) -> NDArray[np.float64]:
    """The kind of each pixel, its number in `KINDS`, or NaN where there is no detail.

    Of X [h, w, 3], and Ŷ and Y [H, W, 3]: float64 [H − 2b, W − 2b] without borders of b pixels.
    """
    inside = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    y = _scaled(truth)[inside]
    # Its colours are not judged, only its detail.
    made = match_histograms(_scaled(prediction)[inside], y, channel_axis=2)
    plain = _enlarged(_scaled(low), len(truth) // len(low))
    reference, improvement, omission = (
        _difference(plain, y),
        _difference(made, y),
        _difference(made, plain),
    )
    limit = np.sort(reference, axis=None)[int(_PLAIN * reference.size) - 1]
    has_detail = np.max([reference, improvement, omission], axis=0) > limit
    with np.errstate(divide="ignore", invalid="ignore"):
        improvement, omission = improvement / reference, omission / reference
        far = 1 - np.exp(-_SCORE * (improvement + omission - 1))
        scores = [
            improvement + omission * far,
            omission + improvement * far,
            np.exp(-_SCORE * improvement * omission),
        ]
    return np.where(has_detail, np.argmin(scores, axis=0), np.nan)


def _scaled(image: RGB) -> NDArray[np.float32]:
    return np.asarray(image, np.float32) / np.float32(np.iinfo(image.dtype).max)


def _enlarged(low: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """X without borders, enlarged by straight lines to the size of Y without borders."""
    cut = _BORDER // scale
    low = low[cut : len(low) - cut, cut : low.shape[1] - cut]
    size = (scale * low.shape[1], scale * len(low))
    large, rest = resized(low, size, Image.Resampling.BILINEAR), _BORDER - scale * cut
    return large[rest : len(large) - rest, rest : large.shape[1] - rest]


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """|a − b| / |a + b|, the mean over the bands."""
    return np.asarray(np.mean(np.abs(one - other) / np.abs(one + other + 1e-8), axis=2), np.float32)
