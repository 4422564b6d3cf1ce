"""Whether a returned image is a sample of the input.

Measured on small windows at the input's resolution: a few milliseconds at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.upscalers.base import RGB

_WINDOW = 64  # input pixels; finds displacements up to half of it
_TEXTURE = 2.0  # standard deviation in grey levels; a window below it shows no displacement
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

MAX_DISPLACEMENT = 0.75
"""Input pixels; conventions of pixel centres differ by half a pixel each way, 0.71 in all."""

MIN_SIMILARITY = 0.5
"""Correlation of input and reduced sample; below it the sample shows something else."""

_RESIZERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


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
        """Why the sample cannot be compared pixel by pixel; None: it can, or it is unknown."""
        if self.windows == 0:
            return None
        if self.displacement > MAX_DISPLACEMENT:
            if max(abs(factor - 1) for factor in self.stretch) > 0.01:
                return (
                    f"its content is stretched by {self.stretch[1]:.3f} horizontally and "
                    f"{self.stretch[0]:.3f} vertically against the input"
                )
            return (
                f"its content is shifted by {self.shift[1]:+.1f} pixels horizontally and "
                f"{self.shift[0]:+.1f} vertically against the input"
            )
        if self.similarity < MIN_SIMILARITY:
            return (
                f"it does not show the input: reduced to the input's size, the correlation is "
                f"{self.similarity:.2f}"
            )
        return None


def alignment(source: RGB, sample: RGB, scale: int) -> Alignment:
    """Shift and stretch by phase correlation on up to nine windows.

    Args:
        source: uint8 [h, w, 3].
        sample: uint8 [k·h, k·w, 3].
        scale: k.
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
            if expected.std() < _TEXTURE:
                continue
            found = _reduced(sample, window, scale)
            places.append((top + side / 2, left + side / 2))
            move, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
                _tapered(expected), _tapered(found), upsample_factor=10, normalization=None
            )
            moves.append(-move)
            correlations.append(_correlation(expected, found))
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


def is_unchanged(source: RGB, sample: RGB, scale: int) -> bool:
    """Whether the sample is merely the input resized by a usual filter: no model has run.

    Judged on the centre, and only where the filters differ enough from each other to distinguish
    them from a model that had nothing to add.
    """
    if scale == 1:
        return bool(np.array_equal(source, sample)) and bool((source != source[0, 0]).any())
    height, width = source.shape[:2]
    side_y, side_x = min(96, height), min(96, width)
    top, left = (height - side_y) // 2, (width - side_x) // 2
    crop = Image.fromarray(source[top : top + side_y, left : left + side_x])
    size = (side_x * scale, side_y * scale)
    # Filters reach four input pixels beyond a cut edge.
    margin = 4 * scale if min(side_y, side_x) >= 16 else 0
    inner = (slice(margin, size[1] - margin), slice(margin, size[0] - margin))
    resized = [np.asarray(crop.resize(size, method), np.float32)[inner] for method in _RESIZERS]
    found = sample[top * scale : top * scale + size[1], left * scale : left * scale + size[0]]
    texture = float(np.abs(resized[1] - resized[2]).mean())
    nearest = min(float(np.abs(found[inner] - image).mean()) for image in resized)
    return texture >= 1.0 and nearest <= 0.25 * texture


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin along an axis: both ends and the middle."""
    return sorted({0, (length - side) // 2, length - side})


def _grey(rgb: RGB) -> NDArray[np.float32]:
    return rgb.astype(np.float32) @ _LUMA


def _reduced(sample: RGB, window: tuple[slice, slice], scale: int) -> NDArray[np.float32]:
    """The window of the sample, averaged over the k × k pixels of each input pixel."""
    rows, columns = (slice(part.start * scale, part.stop * scale) for part in window)
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
