"""What is alarming, in words: what each finding says, and what it does not say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from app.calibration.record import Calibration
from app.conformal import feedback
from app.monitor.state import MonitorState, time_of
from app.monitor.watch import reference_of
from app.upscalers.resilience import HealthFacts

AlarmKind = Literal[
    "inputs", "feedback", "canary", "breaker", "spend", "mismatch", "no-calibration"
]


class Alarm(BaseModel):
    """What somebody should look at. `page`: nobody is served, or masks have lost their ground."""

    kind: AlarmKind
    severity: Literal["page", "ticket"]
    since: datetime | None = None
    message: str


def state_alarms(calibration: Calibration, state: MonitorState) -> list[Alarm]:
    """What requests and labels say."""
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


def mismatch_alarms(upscaler: str, differences: Sequence[dict[str, Any]]) -> list[Alarm]:
    """What a comparison of the pipelines says."""
    if not differences:
        return []
    fields = ", ".join(str(item["field"]) for item in differences)
    message = f"{upscaler!r} is not the upscaler that was calibrated ({fields} differ): not served."
    return [Alarm(kind="mismatch", severity="page", message=message)]


def health_alarms(upscaler: str, health: HealthFacts | None) -> list[Alarm]:
    """What the breaker and the spend guard of this gateway say."""
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


def canary_alarms(upscaler: str, canary: dict[str, Any] | None) -> list[Alarm]:
    """What the canaries say."""
    if not canary or not canary.get("alarm"):
        return []
    message = f"The model behind {upscaler!r} seems to have changed since it was calibrated."
    return [Alarm(kind="canary", severity="page", message=message)]


def shift_sd(calibration: Calibration, state: MonitorState) -> float | None:
    """Mean z of the epoch's requests against that of the calibration images, in their sd."""
    reference = reference_of(calibration)
    if not len(state.drift.seen) or len(reference) < 2:
        return None
    spread = float(np.std(reference, ddof=1, dtype=np.float64))
    apart = float(
        np.mean(state.drift.seen, dtype=np.float64) - np.mean(reference, dtype=np.float64)
    )
    return apart / spread if spread > 0 else None
