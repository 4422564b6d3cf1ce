"""D: how wrong a prediction is, per pixel, bounded by B (paper §2.3).

A metric is one small function of the truth and the prediction, and a bound. To
add one, write the function and enter it in `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from app.conformal import annotator as synthetic
from app.conformal.filters import gaussian_blur
from app.conformal.lab import check_rgb, lab_distance, normalised_lab

MetricName = Literal["neighborhood", "neighborhood_difference", "pointwise", "semantic"]
Labels = Literal["people", "synthetic"]

# The largest ‖u − v‖₁ between two sRGB colours in normalised Lab is 1.9575660174, between pure
# green and pure blue, over the whole cube; rounded up. The paper uses 3, the trivial bound.
LAB_BOUND = 1.9576

# Far above anything that makes sense; sums of losses in fixed point stay within 64 bits.
MOST_BOUND = 1000.0


class Metric(NamedTuple):
    """A fidelity metric on uint8 [H, W, 3] images and the least bound that is known to hold."""

    error: Callable[[NDArray[np.uint8], NDArray[np.uint8], float], NDArray[np.float32]]
    bound: float


def pointwise(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], blur: float
) -> NDArray[np.float32]:
    """‖Y − Ŷ‖₁ per pixel in normalised Lab; `blur` is not used."""
    del blur
    return lab_distance(truth, prediction)


def neighborhood(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], blur: float
) -> NDArray[np.float32]:
    """K * ‖Y − Ŷ‖₁: the mean error of a neighbourhood, as the authors' experiments computed it."""
    return gaussian_blur(lab_distance(truth, prediction), blur)


def neighborhood_difference(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], blur: float
) -> NDArray[np.float32]:
    """‖Y * K − Ŷ * K‖₁, the paper's formula: errors that cancel in a neighbourhood vanish.

    At most `neighborhood` at every pixel, by the triangle inequality.
    """
    blurred = np.subtract(normalised_lab(truth), normalised_lab(prediction))
    for channel in blurred:
        channel[...] = gaussian_blur(channel, blur)
    np.abs(blurred, out=blurred)
    return np.asarray(blurred.sum(axis=0, dtype=np.float32))


METRICS: Mapping[str, Metric] = {
    "pointwise": Metric(pointwise, LAB_BOUND),
    "neighborhood": Metric(neighborhood, LAB_BOUND),
    "neighborhood_difference": Metric(neighborhood_difference, LAB_BOUND),
}
SEMANTIC_BOUND = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the error is measured.

    metric: `neighborhood` (default), `neighborhood_difference`, `pointwise` or `semantic`.
    blur: standard deviation in pixels of the neighbourhood's Gaussian K.
    bound: B. None means the least known bound of the metric; a larger one (the paper's 3) is
        allowed; a smaller one clips D, and the guarantee is then about the clipped error.
    labels: who draws the labels of the `semantic` metric: `people` (default), or `synthetic`, the
        rule of `app/conformal/annotator.py`.
    annotator: the settings of that rule; None: its defaults, or no rule where people draw.
    """

    metric: MetricName = "neighborhood"
    blur: float = 4.0
    bound: float | None = None
    labels: Labels = "people"
    annotator: synthetic.Settings | None = None

    def __post_init__(self) -> None:
        if self.metric not in get_args(MetricName):
            raise ValueError(f"metric must be one of {get_args(MetricName)}")
        if self.labels not in get_args(Labels):
            raise ValueError(f"labels must be one of {get_args(Labels)}")
        if self.labels == "synthetic":
            if self.metric != "semantic":
                raise ValueError("synthetic labels belong to the semantic metric, and only to it")
            object.__setattr__(self, "annotator", synthetic.Settings.of(self.annotator))
        elif self.annotator is not None:
            raise ValueError('the annotator belongs to labels "synthetic", and only to them')
        if not 0 <= self.blur <= 256:
            raise ValueError("blur must be between 0 and 256 pixels")
        if self.bound is None:
            object.__setattr__(self, "bound", natural_bound(self.metric))
        elif not 0 < self.bound <= MOST_BOUND:
            raise ValueError(f"bound must be a positive number of at most {MOST_BOUND:g}")

    @classmethod
    def of(cls, settings: Settings | Mapping[str, Any] | None) -> Settings:
        """Settings from an instance, a mapping of its fields, or None for the defaults."""
        if isinstance(settings, Settings):
            return settings
        return cls(**(settings or {}))

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @property
    def title(self) -> str:
        """The metric as lists show it; labels that no person drew are called so."""
        return f"{self.metric} (synthetic labels)" if self.labels == "synthetic" else self.metric


def natural_bound(metric: str) -> float:
    """The least bound B that is known to hold for a metric."""
    return SEMANTIC_BOUND if metric == "semantic" else METRICS[metric].bound


def bound(settings: Settings | Mapping[str, Any] | None = None) -> float:
    """B, the largest value that `error` can return under these settings."""
    value = Settings.of(settings).bound
    assert value is not None  # noqa: S101 - __post_init__ fills it
    return value


def needs_label(settings: Settings) -> bool:
    """Whether D needs a label that a person has drawn."""
    return settings.metric == "semantic" and settings.labels == "people"


def clips(settings: Settings) -> bool:
    """Whether the chosen bound is smaller than the metric's own, so that D is cut."""
    return bound(settings) < natural_bound(settings.metric)


def error(
    truth_rgb: NDArray[np.uint8],
    prediction_rgb: NDArray[np.uint8],
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    label: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """D, float32 [H, W] in [0, B], of two uint8 [H, W, 3] sRGB images.

    The bound is enforced, never believed: D is cut at B.

    Args:
        truth_rgb: the high-resolution truth Y.
        prediction_rgb: the prediction Ŷ.
        settings: `Settings`, a mapping of their fields, or None for the defaults.
        label: where people label (`needs_label`): [H, W], non-zero where the prediction's meaning
            differs.

    Raises:
        ValueError: shapes or dtypes do not match, or the label is missing or not wanted.
    """
    settings = Settings.of(settings)
    check_rgb(truth_rgb)
    check_rgb(prediction_rgb)
    if truth_rgb.shape != prediction_rgb.shape:
        raise ValueError(
            f"truth {truth_rgb.shape} and prediction {prediction_rgb.shape} differ in size"
        )
    if needs_label(settings) != (label is not None):
        raise ValueError("a label belongs to the semantic metric of people, and only to it")
    if settings.labels == "synthetic":
        label = synthetic.label(truth_rgb, prediction_rgb, settings.annotator)
    if label is not None:
        return semantic(label, truth_rgb.shape[:2], bound(settings))
    metric = METRICS[settings.metric]
    measured = metric.error(truth_rgb, prediction_rgb, settings.blur)
    return np.clip(measured, 0, largest_float32(bound(settings)), out=measured)


def semantic(
    label: NDArray[Any], shape: tuple[int, ...], limit: float = SEMANTIC_BOUND
) -> NDArray[np.float32]:
    """The semantic D: 1 where the label is non-zero (the meaning differs), else 0 (paper §2.3).

    Raises:
        ValueError: the label does not have the shape [H, W] of the images.
    """
    if label.shape != shape:
        raise ValueError(f"the label has the shape {label.shape}, the images have {shape}")
    return np.where(label != 0, largest_float32(min(1.0, limit)), np.float32(0))


def largest_float32(value: float) -> np.float32:
    """The largest float32 that does not exceed `value`."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))
