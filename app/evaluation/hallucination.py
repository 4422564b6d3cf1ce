"""Hallucination inside the mask and outside of it, as opensr-test counts it (extra `opensr`).

Of X, Ŷ and Y the package calls every pixel with detail an improvement, an omission or a
hallucination, whichever Ŷ is closest to (Aybar et al. 2024). Its settings are its defaults, but Ŷ
is not shifted to fit Y: the mask speaks about the pixels where they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import ConfigError
from app.evaluation.measure import Image
from app.evaluation.plots import Record
from app.evaluation.reduce import Cell
from app.serving.promise import Subject
from app.upscalers.base import RGB

KINDS: Final = ("improvement", "omission", "hallucination")
"""By the number that the package gives each."""

_BORDER: Final = 16  # output pixels that the package leaves out


def check_opensr_installed() -> None:
    """Raise ConfigError unless opensr-test is there."""
    if find_spec("opensr_test") is None:
        raise ConfigError("--opensr needs the extra “opensr”.")


@dataclass(slots=True)
class Counts:
    """Pixels by kind, inside and outside of the mask of `alpha` (a `Part`).

    cell: whose masks and predictions are looked at.
    pixels: of all test images, [inside or outside, kind].
    """

    cell: Cell
    alpha: float
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 3), np.int64))

    def seen(self, image: Image) -> None:
        """Nothing is calibrated."""

    def calibrate(self, images: Sequence[Any]) -> None:
        """Nothing is calibrated."""

    def tested(self, image: Image) -> NDArray[np.int64]:
        """The pixels of one test image."""
        cell, measured = self.cell, image.measured(self.cell.pipeline)
        size = measured.sigma.shape
        subject = Subject.of(cell.calibration, None, image.pair.facts, size=size)
        mask = subject.part.curve.mask(measured.sigma, self.alpha)
        kinds = classified(image.pair.x, measured.prediction, image.pair.y)
        rows, columns = kinds.shape
        top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
        inside = mask[top : top + rows, left : left + columns]
        return np.array(
            [[np.count_nonzero((kinds == kind) & part) for kind in range(len(KINDS))]
             for part in (inside, ~inside)]
        )  # fmt: skip

    def gather(self, images: Sequence[NDArray[np.int64]]) -> None:
        """Add them up."""
        self.pixels = np.sum(images, axis=0)

    def records(self) -> list[Record]:
        """The shares of the pixels with detail, inside and outside."""
        rows: list[Record] = []
        for where, pixels in zip(("inside the mask", "outside"), self.pixels, strict=True):
            total = int(pixels.sum())
            shares = {kind: float(n / total) if total else None
                      for kind, n in zip(KINDS, pixels, strict=True)}  # fmt: skip
            rows.append({"where": where, "alpha": self.alpha, "pixels": total, **shares})
        return rows


def classified(low: RGB, prediction: RGB, truth: RGB) -> NDArray[np.float64]:
    """The kind of each pixel, its number in `KINDS`, or NaN where there is no detail.

    Args:
        low: X, [h, w, 3].
        prediction: Ŷ, [H, W, 3], larger than the borders that are left out.
        truth: Y, [H, W, 3].

    Returns:
        float64 [H − 2b, W − 2b] without the borders of b pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that are not asked for, of shares of nothing
        import opensr_test  # noqa: PLC0415 - an extra that takes seconds to load

        metrics = opensr_test.Metrics(harm_apply_spatial=False, border_mask=_BORDER)
        metrics.compute(*(_tensor(image) for image in (low, prediction, truth)))
    return np.asarray(metrics.classification.numpy(), np.float64)


def _tensor(image: RGB) -> Any:
    """[h, w, 3] as float32 [3, h, w] in [0, 1] of torch."""
    import torch  # noqa: PLC0415 - an extra

    share = np.asarray(image, np.float32) / np.iinfo(image.dtype).max
    return torch.from_numpy(np.ascontiguousarray(share.transpose(2, 0, 1)))
