"""D of a truth and a prediction by a metric, and the windows of an output that lose by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.error_metrics import METRICS, Metric
from trustscale_server.pixels.filters import largest_float32
from trustscale_server.pixels.lab import Pixels, check_pair

LossUnit = Literal["spot", "picture", "words"]

SPOT: Final = 128
"""Side in pixels of the windows of an output that losses are about by default."""


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """The text reader that judges words, as a calibration records it.

    version: of the reader and its models, since another one reads differently; the extra `text`
    pins it. compares: letters, digits, and what stands before a digit.
    """

    name: Literal["rapidocr"] = "rapidocr"
    version: str = "3.10.0"
    compares: Literal["numbers"] = "numbers"

    def __post_init__(self) -> None:
        if self.name != "rapidocr":
            raise ValueError(f"no text reader {self.name!r}")

    @property
    def title(self) -> str:
        """How answers and reports call it."""
        return f"text reader {self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class FidelitySettings:
    """How the error is measured.

    metric: a name in `METRICS`.
    blur: standard deviation in pixels of the neighbourhood's Gaussian K.
    bound: B; None: that of the metric. A smaller one clips D, and the guarantee is then about the
    clipped error; a larger one (the paper's 3) is allowed.
    reader: the text reader's settings for the metric `text`; None: its defaults, or another metric.
    unit: what loses: a `spot` of the output, `spot` pixels wide and high, the whole `picture`, or
    of the metric `text` its `words`.
    """

    metric: str = "neighborhood"
    blur: float = 4.0
    bound: float | None = None
    reader: ReaderSettings | None = None
    unit: LossUnit = "spot"
    spot: int = SPOT

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {tuple(METRICS)}")
        if self.spec.is_for_text:
            object.__setattr__(self, "reader", self.reader or ReaderSettings())
            object.__setattr__(self, "unit", "words")
        elif self.reader is not None:
            raise ValueError("the settings of a reader belong to the metric text")
        if not 0 <= self.blur <= 256:
            raise ValueError("blur must be between 0 and 256 pixels")
        is_known = self.unit in get_args(LossUnit) and 32 <= self.spot <= 4096
        if not is_known or (self.unit == "words") != self.spec.is_for_text:
            raise ValueError(
                "a promise is about a spot of 32 to 4096 pixels, about the picture, or about the "
                "words of the metric text"
            )
        if self.bound is None:
            object.__setattr__(self, "bound", self.spec.bound)
        # Below the least float32 no error could be counted, and above 1000 sums of losses in fixed
        # point might not fit 64 bits.
        elif not (0 < self.bound <= 1000 and largest_float32(self.bound) > 0):
            raise ValueError("bound must be a positive number of at most 1000")

    @property
    def spec(self) -> Metric:
        """The metric's row."""
        return METRICS[self.metric]

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the windows of an output whose losses count."""
        if self.unit != "spot":
            return [(slice(0, height), slice(0, width))]
        return spots(height, width, self.spot)

    @property
    def clause(self) -> str:
        """D at a pixel in the statement of a guarantee, under these settings."""
        title = self.reader and self.reader.title
        return self.spec.clause.format(blur=self.blur, reader=title)


def bound(settings: FidelitySettings) -> float:
    """B, the largest value of `error` under these settings."""
    assert settings.bound is not None  # noqa: S101 - __post_init__ fills it
    return settings.bound


def clips(settings: FidelitySettings) -> bool:
    """Return whether the chosen bound is below the metric's own, so that D is cut."""
    return bound(settings) < settings.spec.bound


def error(
    truth_rgb: Pixels,
    prediction_rgb: Pixels,
    settings: FidelitySettings,
    *,
    label: NDArray[Any] | None = None,
    distance: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """D, float32 [H, W] in [0, B], of two [H, W, 3] images of 8 or 16 bits; cut at B.

    label: [H, W], non-zero where the meaning differs, of a metric that measures nothing itself.
    distance: ‖Y − Ŷ‖₁ in normalised Lab, float32 [H, W], where it is known.

    Raises:
        ValueError: shapes or dtypes do not match, or the label is missing or not wanted.
    """
    check_pair(truth_rgb, prediction_rgb)
    measure = settings.spec.error
    if (measure is None) != (label is not None):
        raise ValueError("a label belongs to a metric that does not measure, and only to it")
    if measure is None:
        return semantic(np.asarray(label), truth_rgb.shape[:2], bound(settings))
    if distance is not None and settings.spec.of_distance is not None:
        measured = settings.spec.of_distance(distance, settings.blur)
    else:
        measured = measure(truth_rgb, prediction_rgb, settings.blur)
    place = None if measured is distance else measured
    return np.clip(measured, 0, largest_float32(bound(settings)), out=place)


def semantic(label: NDArray[Any], shape: tuple[int, ...], limit: float) -> NDArray[np.float32]:
    """Return the semantic D: 1 where the label says the meaning differs, else 0 (paper §2.3).

    Raises:
        ValueError: the label does not have the shape [H, W] of the images.
    """
    if label.shape != shape:
        raise ValueError(f"the label has the shape {label.shape}, the images have {shape}")
    return np.where(label != 0, largest_float32(min(1.0, limit)), np.float32(0))


def spots(height: int, width: int, side: int) -> list[tuple[slice, slice]]:
    """Return the windows of an output whose losses count: as few as cover it, evenly spread.

    They overlap where the output's length is no multiple of `side`, and fill it where it is less.
    """

    def along(length: int) -> list[slice]:
        count = -(-length // side)
        room = max(0, length - side)
        starts = [round(room * k / max(1, count - 1)) for k in range(count)]
        return [slice(start, min(start + side, length)) for start in starts]

    return [(rows, columns) for rows in along(height) for columns in along(width)]
