"""Mask and trust levels of one answer, filled strip by strip while σ is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.conformal.lab import Pixels
from app.images.drawings import OPAQUE
from app.images.resize import largest_within, resized, size_within
from app.serving.prepare import Mask

_ROWS: Final = 64  # of a whole σ that are thresholded at once


@dataclass(slots=True)
class Trust:
    """Where Ŷ is trusted at α, bool [H, W], and the codes of α(p), uint16 [H, W].

    opaque: where the picture is wholly opaque, bool [H, W]; None: everywhere.
    """

    wanted: Mask
    mask: NDArray[np.bool_]
    codes: NDArray[np.uint16]
    opaque: NDArray[np.bool_] | None

    @classmethod
    def of(cls, wanted: Mask, alpha: NDArray[np.uint8] | None, height: int, width: int) -> Self:
        """Empty, for `put` to fill."""
        size = height, width
        opaque = None if alpha is None else alpha == OPAQUE
        return cls(wanted, np.empty(size, np.bool_), np.empty(size, np.uint16), opaque)

    def score(self, mean_log_sigma: float, sigma: NDArray[np.float32]) -> None:
        """All of σ, where its mean decides which curve is used."""
        subject = self.wanted.subject.scored(mean_log_sigma)
        self.wanted = replace(self.wanted, subject=subject)
        for top in range(0, len(sigma), _ROWS):
            self.put(top, sigma[top : top + _ROWS])

    def put(self, top: int, sigma: NDArray[np.float32]) -> None:
        """Rows of σ from `top` on. Pixels that are not opaque are trusted at no α."""
        rows = slice(top, top + len(sigma))
        if self.opaque is not None:
            sigma[~self.opaque[rows]] = np.inf
        curve = self.wanted.subject.part.curve
        self.mask[rows] = curve.mask(sigma, self.wanted.alpha)
        self.codes[rows] = curve.trust_code(sigma)

    @property
    def shares(self) -> tuple[float, float]:
        """The trusted share of the opaque pixels, and the opaque share of all."""
        pixels = self.mask.size
        opaque = pixels if self.opaque is None else int(np.count_nonzero(self.opaque))
        return int(np.count_nonzero(self.mask)) / max(1, opaque), opaque / pixels


def enlarged(alpha: NDArray[np.uint8] | None, height: int, width: int) -> NDArray[np.uint8] | None:
    """The transparency of an upload at the size of the output."""
    if alpha is None:
        return None
    return np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.BICUBIC))


def reduced(made: Pixels, trust: Trust | None, longest: int) -> tuple[Pixels, Trust | None]:
    """The picture with this longest side, each pixel as little trusted as any that it averages."""
    height, width, _ = made.shape
    small = resized(made, size_within((width, height), longest), Image.Resampling.BOX)
    if trust is None:
        return small, None
    height, width, _ = small.shape
    opaque = trust.opaque
    if opaque is not None:
        opaque = ~largest_within(~opaque, height, width)
    mask = ~largest_within(~trust.mask, height, width)
    codes = largest_within(trust.codes, height, width)
    return small, Trust(trust.wanted, mask, codes, opaque)
