"""Whether a sample lies on the pixels of its input: shift, stretch, similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.lab import LUMA
from trustscale_server.upscalers.base import RGB

_WINDOW = 64  # input pixels; finds displacements up to half of it

_MAX_DISPLACEMENT = 0.75
"""Input pixels; conventions of pixel centres differ by half a pixel each way, 0.71 in all."""

_MIN_SIMILARITY = 0.5
"""Correlation of input and reduced sample; below it the sample shows something else."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a sample aligns with the input.

    shift: median displacement (down, right) in output pixels.
    stretch: actual over expected size, (vertical, horizontal).
    displacement: median length of the displacements, input pixels.
    similarity: correlation with the input, −1..1.
    windows: those with enough texture; with 0 nothing is known.
    """

    shift: tuple[float, float]
    stretch: tuple[float, float]
    displacement: float
    similarity: float
    windows: int

    @property
    def problem(self) -> str | None:
        """Why the sample cannot be compared pixel by pixel; None if it can or nothing is known."""
        if self.windows == 0:
            return None
        if self.displacement > _MAX_DISPLACEMENT:
            if max(abs(factor - 1) for factor in self.stretch) > 0.01:
                return (
                    f"its content is stretched by {self.stretch[1]:.3f} horizontally and "
                    f"{self.stretch[0]:.3f} vertically against the input"
                )
            return (
                f"its content is shifted by {self.shift[1]:+.1f} pixels horizontally and "
                f"{self.shift[0]:+.1f} vertically against the input"
            )
        if self.similarity < _MIN_SIMILARITY:
            return (
                f"it does not show the input: reduced to the input's size, the correlation is "
                f"{self.similarity:.2f}"
            )
        return None


def alignment(source: RGB, sample: RGB, scale: int, *, precision: int = 10) -> Alignment:
    """Measure shift and stretch by phase correlation on up to nine windows.

    Source uint8 [h, w, 3], sample uint8 [k·h, k·w, 3]. Shifts are measured in steps of
    1 / `precision` of an input pixel.
    """
    # Importing it takes half a second.
    from skimage.registration import phase_cross_correlation  # noqa: PLC0415

    height, width = source.shape[:2]
    side = min(_WINDOW, height, width)
    places, moves, correlations = [], [], []
    for top in _starts(height, side):
        for left in _starts(width, side):
            window = (slice(top, top + side), slice(left, left + side))
            expected = _grey(source[window])
            if expected.std() < 2.0:  # grey levels; less texture shows no displacement
                continue
            reduced = _reduced(sample, window, scale)
            places.append((top + side / 2, left + side / 2))
            move, _, _ = phase_cross_correlation(
                _tapered(expected), _tapered(reduced), upsample_factor=precision, normalization=None
            )
            moves.append(-move)
            correlations.append(_correlation(expected, reduced))
    if not places:
        return Alignment((0.0, 0.0), (1.0, 1.0), 0.0, 0.0, 0)
    displaced = np.array(moves)
    centre = np.array(places) - np.array([height / 2, width / 2])
    shift = np.median(displaced, axis=0) * scale
    return Alignment(
        (float(shift[0]), float(shift[1])),
        (_stretch(centre[:, 0], displaced[:, 0]), _stretch(centre[:, 1], displaced[:, 1])),
        float(np.median(np.hypot(displaced[:, 0], displaced[:, 1]))),
        float(np.median(correlations)),
        len(places),
    )


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin along an axis: both ends and the middle."""
    return sorted({0, (length - side) // 2, length - side})


def _grey(rgb: RGB) -> NDArray[np.float32]:
    return rgb.astype(np.float32) @ LUMA


def _reduced(sample: RGB, window: tuple[slice, slice], scale: int) -> NDArray[np.float32]:
    """The window of the sample, averaged over the k × k pixels of each input pixel."""
    rows, columns = (slice(span.start * scale, span.stop * scale) for span in window)
    grey = _grey(sample[rows, columns])
    side = grey.shape[0] // scale
    reduced: NDArray[np.float32] = grey.reshape(side, scale, grey.shape[1] // scale, scale).mean(
        axis=(1, 3)
    )
    return reduced


def _tapered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image without mean and edges, which correlate with themselves at displacement zero."""
    taper = [np.hanning(length + 2)[1:-1].astype(np.float32) for length in image.shape]
    tapered: NDArray[np.float32] = (image - image.mean()) * np.outer(*taper)
    return tapered


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def _stretch(places: NDArray[np.float64], moves: NDArray[np.float64]) -> float:
    """1 + the slope of displacement over place; 1 if all windows are in one line."""
    spread = places - places.mean()
    weight = float((spread * spread).sum())
    return 1.0 + float((spread * moves).sum()) / weight if weight > 0 else 1.0
