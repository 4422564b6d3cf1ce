"""The findings of the monitor as a document, and its alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError

from app.calibration.record import Calibration
from app.conformal import drift, feedback
from app.stores.base import Label
from app.upscalers.base import Upscaler
from app.upscalers.resilience import HealthFacts
from app.watch.monitor import Part, reference_of
from app.watch.requests import BINS, HistoryPoint, MonitorState, time_of
from app.watch.truth import ConfidenceSequence, confidence_sequence, finite_exp

_LN10 = math.log(10)

AlarmKind = Literal[
    "inputs", "feedback", "canary", "breaker", "spend", "mismatch", "no-calibration"
]


class Alarm(BaseModel):
    """What needs an operator; `page`, at once: nobody is served, or masks are in doubt."""

    kind: AlarmKind
    severity: Literal["page", "ticket"]
    since: datetime | None = None
    message: str


class CalibrationFacts(BaseModel):
    """The calibration of the report."""

    id: str
    name: str | None
    created_at: datetime
    n: int
    default_alpha: float
    metric: str
    bound: float

    @classmethod
    def of(cls, calibration: Calibration, calibration_id: str) -> CalibrationFacts:
        manifest = calibration.manifest
        return cls(
            id=calibration_id,
            name=manifest.name,
            created_at=manifest.created_at,
            n=calibration.n,
            default_alpha=manifest.default_alpha,
            metric=calibration.pipeline.fidelity.metric,
            bound=calibration.bound,
        )


class Requests(BaseModel):
    """Answered requests; duplicates and subsampled ones are not counted in what follows."""

    model_config = ConfigDict(from_attributes=True)

    seen: int = 0
    counted: int = 0
    duplicates: int = 0
    subsampled: int = 0


class Bin(BaseModel):
    """Counted requests with a typicality in (from, to]."""

    start: float = Field(serialization_alias="from")
    to: float
    count: int


class Typicality(BaseModel):
    """`unusual`: the share that was warned of; by chance it is at most `expected_unusual`."""

    mean: float
    unusual: float
    expected_unusual: float
    histogram: list[Bin]


class Share(BaseModel):
    """Mean share of trusted pixels."""

    mean: float


class DriftFacts(BaseModel):
    """Evidence that the inputs differ from the calibration images, in the present epoch.

    Values are cut at 1e300; their logarithms are not. `shift_sd`: the mean z of the requests minus
    that of the calibration images, in standard deviations of the latter.
    """

    epoch: int
    epoch_requests: int
    epoch_length: int = drift.EPOCH
    martingale: float
    log10_martingale: float
    martingale_alarm_at: float = 1 / drift.DELTA
    delta: float = drift.DELTA
    shiryaev_roberts: float
    log10_shiryaev_roberts: float | None
    shiryaev_roberts_alarm_at: float = drift.CEILING
    shift_sd: float | None

    @classmethod
    def of(cls, calibration: Calibration, state: MonitorState) -> DriftFacts:
        known = state.drift
        return cls(
            epoch=state.epoch,
            epoch_requests=len(known.seen),
            martingale=finite_exp(known.log_s),
            log10_martingale=known.log_s / _LN10,
            shiryaev_roberts=finite_exp(known.log_v),
            log10_shiryaev_roberts=known.log_v / _LN10 if math.isfinite(known.log_v) else None,
            shift_sd=shift_sd(calibration, state),
        )


class FeedbackFacts(BaseModel):
    """What the labels say; `tolerance` is that of the calibration's default α.

    `alpha`: average of the labelled masks, with the weights of the confidence sequence.
    """

    n: int
    within: int
    mean_loss: float
    alpha: float
    tolerance: float
    e_value: float
    log10_e_value: float
    e_value_alarm_at: float = 1 / feedback.DELTA
    delta: float = feedback.DELTA
    confidence_sequence: ConfidenceSequence

    @classmethod
    def of(cls, calibration: Calibration, state: MonitorState) -> FeedbackFacts | None:
        known = state.feedback
        sequence = confidence_sequence(state, calibration.bound)
        if sequence is None:
            return None
        threshold = calibration.curve.threshold(calibration.manifest.default_alpha)
        return cls(
            n=known.n,
            within=known.within,
            mean_loss=known.mean_loss,
            alpha=feedback.mean_alpha(known, calibration.bound),
            tolerance=feedback.tolerance(calibration.losses(threshold)),
            e_value=finite_exp(known.log_e_value),
            log10_e_value=known.log_e_value / _LN10,
            confidence_sequence=sequence,
        )


class LabelPoint(BaseModel):
    """One labelled result, and what was known after it: of a stored `FeedbackPoint`."""

    at: datetime
    result: str = Field(validation_alias=AliasPath("truth", "result"))
    n: int
    loss: float = Field(validation_alias=AliasPath("truth", "loss"))
    alpha: float = Field(validation_alias=AliasPath("truth", "alpha"))
    counted: bool = Field(validation_alias=AliasPath("truth", "counted"))
    mean_loss: float | None
    lower: float | None
    upper: float | None
    log10_e_value: float


class UpscalerReport(BaseModel):
    """What is known of one upscaler under its active calibration.

    group: None, or the group of images, class of uploads, or both, of this entry.
    """

    upscaler: str
    kind: str
    group: str | None = None
    calibration: CalibrationFacts | None = None
    since: datetime | None = None
    updated_at: datetime | None = None
    requests: Requests = Requests()
    trusted_fraction: Share | None = None
    typicality: Typicality | None = None
    drift: DriftFacts | None = None
    feedback: FeedbackFacts | None = None
    canary: dict[str, Any] | None = None
    health: HealthFacts | None = None
    alarms: list[Alarm] = []
    history: list[HistoryPoint] = []
    feedback_history: list[LabelPoint] = []


class MonitorReport(BaseModel):
    """All upscalers, at one time."""

    at: datetime
    upscalers: list[UpscalerReport]


def report_of(
    upscaler: Upscaler,
    calibration_id: str,
    part: Part,
    *,
    points: Sequence[HistoryPoint],
    labels: Sequence[Label],
    canary: dict[str, Any] | None,
    differences: Sequence[dict[str, Any]],
    health: HealthFacts | None,
) -> UpscalerReport:
    """The entry of an upscaler with an active calibration."""
    group, calibration, state = part
    counted, feedback_history = state.counted, []
    for label in labels:
        with suppress(ValidationError):  # a damaged one
            feedback_history.append(LabelPoint.model_validate_json(label.record))
    alarms = state_alarms(calibration, state)
    if group is None:  # once, as it concerns all parts
        alarms = [
            *model_alarms(upscaler.name, differences, canary),
            *alarms,
            *health_alarms(upscaler.name, health),
        ]
    return UpscalerReport(
        upscaler=upscaler.name,
        kind=upscaler.kind,
        group=group,
        calibration=CalibrationFacts.of(calibration, calibration_id),
        since=time_of(state.since) if state.since else None,
        updated_at=time_of(state.updated) if state.updated else None,
        requests=Requests.model_validate(state),
        trusted_fraction=Share(mean=state.trusted_sum / counted) if counted else None,
        typicality=_typicality(calibration, state),
        drift=DriftFacts.of(calibration, state),
        feedback=FeedbackFacts.of(calibration, state),
        canary=canary,
        health=health,
        alarms=alarms,
        history=list(points),
        feedback_history=feedback_history,
    )


def uncalibrated(upscaler: Upscaler, health: HealthFacts | None) -> UpscalerReport:
    """The entry of an upscaler without an active calibration."""
    alarm = Alarm(
        kind="no-calibration",
        severity="ticket",
        message=f"{upscaler.name!r} has no active calibration, so it serves no masks.",
    )
    return UpscalerReport(
        upscaler=upscaler.name,
        kind=upscaler.kind,
        health=health,
        alarms=[alarm, *health_alarms(upscaler.name, health)],
    )


def _typicality(calibration: Calibration, state: MonitorState) -> Typicality | None:
    if not state.counted:
        return None
    return Typicality(
        mean=state.typicality_sum / state.counted,
        unusual=state.unusual / state.counted,
        expected_unusual=calibration.unusual,
        histogram=[
            Bin(start=i / BINS, to=(i + 1) / BINS, count=count)
            for i, count in enumerate(state.histogram)
        ],
    )


def state_alarms(calibration: Calibration, state: MonitorState) -> list[Alarm]:
    """Alarms of requests and labels."""
    alarms = []
    if state.inputs_alarm_since is not None:
        shift = shift_sd(calibration, state)
        how = f" (on average {shift:+.2g} standard deviations of them)" if shift else ""
        alarms.append(
            Alarm(
                kind="inputs",
                severity="ticket",
                since=time_of(state.inputs_alarm_since),
                message=f"The inputs differ from the calibration images: the samples disagree "
                f"more or less about them{how}. This does not say that masks are wrong; it says "
                "that the promise was not made about such images. Look at who sends what, and "
                "calibrate with images like theirs.",
            )
        )
    if state.feedback_alarm_since is not None:
        known = state.feedback
        alarms.append(
            Alarm(
                kind="feedback",
                severity="page",
                since=time_of(state.feedback_alarm_since),
                message=f"The losses of {known.n} labelled results average {known.mean_loss:.3g}, "
                f"above α = {feedback.mean_alpha(known, calibration.bound):.3g} by more than "
                "chance and the draw of the calibration explain. If the labels are a random "
                "sample of the requests, calibrate again.",
            )
        )
    return alarms


def model_alarms(
    upscaler: str, differences: Sequence[dict[str, Any]], canary: dict[str, Any] | None
) -> list[Alarm]:
    """Alarms of a comparison of pipelines, and of the canaries."""
    alarms = []
    if differences:
        fields = ", ".join(str(item["field"]) for item in differences)
        message = (
            f"{upscaler!r} is not the upscaler that was calibrated ({fields} differ): not served."
        )
        alarms.append(Alarm(kind="mismatch", severity="page", message=message))
    if canary and canary.get("alarm"):
        message = f"The model behind {upscaler!r} seems to have changed since it was calibrated."
        alarms.append(Alarm(kind="canary", severity="page", message=message))
    return alarms


def health_alarms(upscaler: str, health: HealthFacts | None) -> list[Alarm]:
    """Alarms of the breaker and the spend guard of this gateway."""
    if health is None:
        return []
    alarms = []
    if health.breaker_open:
        message = f"{upscaler!r} failed {health.failures_in_a_row} times in a row: not called now."
        alarms.append(Alarm(kind="breaker", severity="page", message=message))
    limit, calls = health.max_calls_per_hour, health.calls_last_hour
    if limit is not None and calls is not None and calls >= limit:
        message = f"{upscaler!r} has made its max_calls_per_hour of {limit} calls."
        alarms.append(Alarm(kind="spend", severity="ticket", message=message))
    return alarms


def shift_sd(calibration: Calibration, state: MonitorState) -> float | None:
    """Mean z of the epoch's requests minus that of the calibration images, in their sd."""
    reference = reference_of(calibration)
    if not len(state.drift.seen) or len(reference) < 2:
        return None
    spread = float(np.std(reference, ddof=1, dtype=np.float64))
    seen, expected = (float(np.mean(z, dtype=np.float64)) for z in (state.drift.seen, reference))
    return (seen - expected) / spread if spread > 0 else None
