"""The options of calls; a test compares them with the service's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

Guarantees = Literal["expectation", "high_probability", "probability", "post_hoc"]


class UpscaleOptions(TypedDict, total=False):
    """Fields of `POST /v1/upscale`; None is the service's default."""

    upscaler: str | None
    alpha: float | None
    seed: int | None
    mask: Literal["trust", "none"]
    background: str | None
    believed: bool
    safe: bool
    card: bool
    words: bool
    without_promise: bool
    faces: Literal["leave_out", "keep"] | None
    letters: Literal["leave_out", "keep"] | None
    group: str | None
    batch: str | None
    format: Literal["png", "webp", "avif", "jpeg", "tiff", "cog.tiff", "ome.tiff"]
    quality: int | None
    metadata: Literal["none", "keep", "keep-gps"]
    fit: int | None
    to: int | str | None
    scale: float | None
    stretch: str | None
    bands: str | None
    page: int | None
    guarantee: Guarantees | None
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


class PairOptions(TypedDict, total=False):
    """Which pairs belong together, and who hears of their sending.

    groups: by name of the pair. scenes: likewise; pairs of one scene count once. group_by:
    "folder", or a column of the pairs' manifest.csv. scene_by: likewise; "manifest": its column
    scene or pool_id. on_sent: called with (bytes sent, all bytes).
    """

    groups: Mapping[str, str] | None
    scenes: Mapping[str, str] | None
    group_by: str | None
    scene_by: str | None
    on_sent: Callable[[int, int], None] | None


class CalibrateOptions(CalibrationOptions, PairOptions, total=False):
    """Which pairs belong together, and the configuration."""


class ActivateOptions(TypedDict, total=False):
    """How a calibration is activated."""

    force: bool
    only: bool


class ExtendOptions(PairOptions, total=False):
    """Which pairs belong together, and what becomes of the calibration."""

    activate: bool
    force: bool


class DeriveOptions(TypedDict, total=False):
    """What a derived calibration differs in."""

    guarantee: Mapping[str, Any] | None
    fidelity: Mapping[str, Any] | None
    name: str | None
    activate: bool
    force: bool


def checked(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call.

    Raises:
        TypeError: one is unknown; the message names what was probably meant.
    """
    known = kind.__annotations__
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"There is no option {name!r}.{meant}")
    return dict(options)
