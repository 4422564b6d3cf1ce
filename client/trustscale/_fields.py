"""The fields of requests as types, which `make reference` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class UpscaleOptions(TypedDict, total=False):
    """Fields of `POST /v1/upscale`; None is the service's default."""

    upscaler: str | None
    alpha: float | None
    seed: int | None
    mask: Literal["trust", "none"]
    background: str | None
    believed: bool
    safe: bool
    without_promise: bool
    card: bool
    words: bool
    faces: Literal["leave_out", "keep"] | None
    letters: Literal["leave_out", "keep"] | None
    group: str | None
    batch: str | None
    format: Literal["png", "webp", "avif", "jpeg", "tiff", "cog.tiff", "ome.tiff"]
    quality: int | None
    metadata: Literal["none", "keep", "keep-gps"]
    fit: int | None
    stretch: str | None
    bands: str | None
    page: int | None
    to: int | str | None
    scale: float | None
    guarantee: Literal["expectation", "high_probability", "probability", "post_hoc"] | None
    robust: float | None


class SubmitOptions(UpscaleOptions, total=False):
    """Fields of a job's request: also who is notified, and a calibration that is not active."""

    webhook: str | None
    calibration: str | None


class CalibrationOptions(TypedDict, total=False):
    """Fields of the `config` of `POST /v1/admin/calibrations`."""

    name: str | None
    upscaler: str | None
    samples: int | None
    prediction: Literal["first", "mean"]
    indecision: Mapping[str, Any] | None
    fit_indecision: float | None
    fidelity: Mapping[str, Any]
    default_alpha: float
    guarantee: Mapping[str, Any]
    review: Mapping[str, Any]
    degradation: Mapping[str, Any] | None
    input_rule: str | None
    stretch: str | None
    activate: bool
    force: bool
    seed: int
    on_bad_pair: Literal["fail", "skip"]
    note: str | None
    attributions: Sequence[str]


class ActivateOptions(TypedDict, total=False):
    """How a calibration is activated."""

    force: bool
    only: bool


class DeriveOptions(TypedDict, total=False):
    """How a derived calibration differs from its parent."""

    guarantee: Mapping[str, Any] | None
    fidelity: Mapping[str, Any] | None
    name: str | None
    activate: bool
    force: bool
