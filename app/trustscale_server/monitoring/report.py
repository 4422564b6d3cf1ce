"""What the monitor and the known truths say about a calibration, for people, with alarms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.subset import Subset
from trustscale_server.calibration.ways import losses_by_class
from trustscale_server.conformal import evidence
from trustscale_server.conformal.adapted import MIN_UPLOADS, effective_number, likelihood_ratios
from trustscale_server.monitoring.feedback import finite_exp
from trustscale_server.monitoring.state import MonitorState, time_of
from trustscale_server.upscalers.base import Upscaler

_AlarmKind = Literal["inputs", "feedback", "canary", "mismatch", "no-calibration"]


class Alarm(BaseModel):
    """What needs an operator; `page` needs one at once: nobody is served, or masks are in doubt."""

    kind: _AlarmKind
    severity: Literal["page", "ticket"]
    since: datetime | None = None
    message: str


class CalibrationSummary(BaseModel):
    """The calibration of the report."""

    id: str
    name: str | None
    n: int
    default_alpha: float

    @classmethod
    def from_calibration(cls, calibration: Calibration) -> CalibrationSummary:
        manifest = calibration.manifest
        return cls(
            id=calibration.id,
            name=manifest.name,
            n=calibration.n,
            default_alpha=manifest.default_alpha,
        )


class Requests(BaseModel):
    """Answered requests; repeated inputs are not counted in what follows."""

    model_config = ConfigDict(from_attributes=True)

    seen: int = 0
    counted: int = 0


class InputSummary(BaseModel):
    """Evidence that the inputs differ from the calibration images, in the present run.

    `martingale` is cut at 1e300. `shift_sd`: how much larger the mean log σ of the requests is than
    that of the calibration images, in standard deviations of the latter.
    """

    martingale: float
    martingale_alarm_at: float = 1 / evidence.FALSE_ALARM
    shift_sd: float | None
    trusted_fraction: float

    @classmethod
    def from_state(cls, state: MonitorState) -> InputSummary | None:
        if not state.counted:
            return None
        known = state.pictures
        return cls(
            martingale=finite_exp(known.log_capital),
            shift_sd=known.shift / known.n if known.n else None,
            trusted_fraction=state.trusted_sum / state.counted,
        )


class AlikeSummary(BaseModel):
    """What calibration images lose that look like the last inputs: no promise, an estimate.

    The calibration's own images count by how much more frequent pictures like them are among the
    inputs (`conformal/adapted.py`), each in the mask of its class at the default α.
    """

    pictures: int = Field(description="The number of the last inputs, from six on.")
    scenes: float = Field(
        description="How many equal scenes say as much: below about 10 it is a rough estimate."
    )
    loss: float = Field(description="The mean loss that these inputs suggest.")
    usual: float = Field(description="The mean loss of all images of the calibration.")

    @classmethod
    def from_state(cls, calibration: Calibration, state: MonitorState) -> AlikeSummary | None:
        whole, inputs = calibration.everything, state.described
        numbers = whole.arrays.described
        if numbers is None or len(inputs) < MIN_UPLOADS or numbers.shape[1] != inputs.shape[1]:
            return None
        return _alike(whole, inputs.tobytes(), len(inputs))


@lru_cache(maxsize=32)  # it takes a second, and a page asks again and again
def _alike(whole: Subset, inputs: bytes, count: int) -> AlikeSummary | None:
    """What the inputs, float16 [count, d], suggest; None if nothing is promised of any class."""
    described = np.frombuffer(inputs, np.float16).reshape(count, -1).astype(np.float32)
    ratios = likelihood_ratios(np.asarray(whole.arrays.described), described).calibrated
    losses = losses_by_class(whole)
    is_promised = np.isfinite(losses)
    if not is_promised.any():
        return None
    return AlikeSummary(
        pictures=count,
        scenes=round(effective_number(ratios, whole.members), 1),
        loss=round(float(np.average(losses[is_promised], weights=ratios[is_promised])), 4),
        usual=round(float(losses[is_promised].mean()), 4),
    )


class FeedbackSummary(BaseModel):
    """What the labels say; `alpha` is the mean of the labelled masks."""

    n: int
    within: int
    mean_loss: float
    alpha: float
    e_value: float
    e_value_alarm_at: float = 1 / evidence.LABEL_DELTA

    @classmethod
    def from_state(cls, state: MonitorState) -> FeedbackSummary | None:
        known = state.labels
        if known.mean_loss is None:
            return None
        return cls(
            n=known.n,
            within=known.within,
            mean_loss=known.mean_loss,
            alpha=known.total_alpha / known.n,
            e_value=finite_exp(known.log_e_value),
        )


class UpscalerReport(BaseModel):
    """What is known of one upscaler under one of its active calibrations."""

    upscaler: str
    kind: str
    calibration: CalibrationSummary | None = None
    since: datetime | None = None
    updated_at: datetime | None = None
    requests: Requests = Requests()
    inputs: InputSummary | None = None
    alike: AlikeSummary | None = None
    feedback: FeedbackSummary | None = None
    canary: dict[str, Any] | None = None
    alarms: list[Alarm] = []


class MonitorReport(BaseModel):
    """All upscalers, at one time."""

    at: datetime
    upscalers: list[UpscalerReport]


def report_of(
    upscaler: Upscaler,
    calibration: Calibration,
    state: MonitorState,
    *,
    canary: dict[str, Any] | None,
    differences: Sequence[dict[str, Any]],
) -> UpscalerReport:
    """Return the entry of an upscaler with an active calibration."""
    return UpscalerReport(
        upscaler=upscaler.name,
        kind=upscaler.kind,
        calibration=CalibrationSummary.from_calibration(calibration),
        since=time_of(state.since) if state.since else None,
        updated_at=time_of(state.updated) if state.updated else None,
        requests=Requests.model_validate(state),
        inputs=InputSummary.from_state(state),
        alike=AlikeSummary.from_state(calibration, state),
        feedback=FeedbackSummary.from_state(state),
        canary=canary,
        alarms=[*model_alarms(upscaler.name, differences, canary), *state_alarms(state)],
    )


def uncalibrated(upscaler: Upscaler) -> UpscalerReport:
    """Return the entry of an upscaler without an active calibration."""
    alarm = Alarm(
        kind="no-calibration",
        severity="ticket",
        message=f"{upscaler.name!r} has no active calibration, so it serves no masks.",
    )
    return UpscalerReport(upscaler=upscaler.name, kind=upscaler.kind, alarms=[alarm])


def state_alarms(state: MonitorState) -> list[Alarm]:
    """Return the alarms of requests and labels."""
    alarms = []
    if state.inputs_alarm_since is not None:
        shift = state.pictures.shift / max(1, state.pictures.n)
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
    known = state.labels
    if state.labels_alarm_since is not None and known.mean_loss is not None:
        alarms.append(
            Alarm(
                kind="feedback",
                severity="page",
                since=time_of(state.labels_alarm_since),
                message=f"The losses of {known.n} labelled results average {known.mean_loss:.3g}, "
                f"above α = {known.total_alpha / known.n:.3g} by more than chance and the draw of "
                "the calibration explain. If the labels are a random sample of the requests, "
                "calibrate again.",
            )
        )
    return alarms


def model_alarms(
    upscaler: str, differences: Sequence[dict[str, Any]], canary: dict[str, Any] | None
) -> list[Alarm]:
    """Return the alarms of a comparison of pipelines, and of the canaries."""
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
