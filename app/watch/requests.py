"""The monitor's state of the requests under one calibration, as a value and as bytes (≤ 28 kB).

All functions are pure; `app/watch/monitor.py` stores the state.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel

from app.conformal import drift, feedback
from app.conformal.drift import Drift
from app.conformal.feedback import Feedback
from app.errors import TrustscaleError
from app.stores.base import MOST_POINTS, Label

Outcome = TypeVar("Outcome")

FORMAT = 1
"""Of the bytes; raised when older programs cannot read them."""

MOST_LABELLED = 1000
"""Remembered images: the truth about each counts once."""

BINS = 10
"""Of the histogram of typicality, of equal width."""


class BadState(TrustscaleError):
    """The stored state is damaged, or of a newer release."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the monitor gets of one answered request.

    at: seconds since 1970.
    mean_log_sigma: z.
    digest: of the input, below 2^64; equal inputs count once in an epoch.
    unusual: whether the answer warned of its typicality.
    counts: False if its client was counted a short while ago.
    """

    at: float
    mean_log_sigma: float
    typicality: float
    trusted_fraction: float
    digest: int
    unusual: bool = False
    counts: bool = True


class HistoryPoint(BaseModel):
    """The requests since the point before: maxima of the evidence, means of the others."""

    at: datetime
    requests: int  # counted so far, under this calibration
    log10_martingale: float
    log10_shiryaev_roberts: float
    mean_log_sigma: float
    typicality: float
    trusted_fraction: float


@dataclass(frozen=True, slots=True)
class Pending:
    """What becomes the next point."""

    count: int = 0
    log_s: float = -math.inf
    log_v: float = -math.inf
    z: float = 0.0
    typicality: float = 0.0
    trusted: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class MonitorState:
    """Everything about the requests and labels under one calibration.

    since, updated: seconds since 1970; 0 before the first request.
    seen: answered requests; duplicates and subsampled ones are not counted.
    typicality_sum, trusted_sum: over the counted ones.
    unusual: counted ones with a warning of their typicality.
    epoch: from 1.
    inputs: digests of the inputs of this epoch, uint64, sorted.
    alarmed_before: whether the epoch before ended with an alarm.
    labelled: digests of the last `MOST_LABELLED` images whose truth was counted, uint64.
    """

    since: float = 0.0
    updated: float = 0.0
    seen: int = 0
    counted: int = 0
    duplicates: int = 0
    subsampled: int = 0
    typicality_sum: float = 0.0
    trusted_sum: float = 0.0
    unusual: int = 0
    histogram: tuple[int, ...] = (0,) * BINS
    epoch: int = 1
    drift: Drift = field(default_factory=Drift)
    inputs: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    alarmed_before: bool = False
    inputs_alarm_since: float | None = None
    pending: Pending = Pending()
    feedback: Feedback = field(default_factory=Feedback)
    feedback_alarm_since: float | None = None
    labelled: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))


class Change(NamedTuple, Generic[Outcome]):
    """A new state, the answer of the change, and what is stored with it."""

    state: MonitorState
    outcome: Outcome
    label: Label | None = None
    points: Sequence[bytes] = ()


def fold(
    state: MonitorState, reference: NDArray[np.float32], seen: Observation, uniform: float
) -> tuple[MonitorState, HistoryPoint | None]:
    """The state after one more request, and the point of history that it completes, if any.

    Whether a request counts depends on its input's digest and its client, never on z: leaving some
    out changes no promise. `reference` is that of `drift.reference_of`, `uniform` a draw from U(0,
    1).
    """
    state = replace(
        state,
        since=state.since or seen.at,
        updated=max(state.updated, seen.at),
        seen=state.seen + 1,
    )
    if not seen.counts:
        return replace(state, subsampled=state.subsampled + 1), None
    if state.drift.is_full:
        state = _next_epoch(state)
    place = int(state.inputs.searchsorted(np.uint64(seen.digest)))
    if place < len(state.inputs) and int(state.inputs[place]) == seen.digest:
        return replace(state, duplicates=state.duplicates + 1), None
    after = drift.observe(state.drift, reference, seen.mean_log_sigma, uniform)
    raised = after.alarms() or state.alarmed_before
    histogram = list(state.histogram)
    histogram[min(BINS - 1, math.ceil(seen.typicality * BINS) - 1)] += 1
    state = replace(
        state,
        counted=state.counted + 1,
        typicality_sum=state.typicality_sum + seen.typicality,
        trusted_sum=state.trusted_sum + seen.trusted_fraction,
        unusual=state.unusual + seen.unusual,
        histogram=tuple(histogram),
        drift=after,
        inputs=np.insert(state.inputs, place, np.uint64(seen.digest)),
        inputs_alarm_since=(state.inputs_alarm_since or seen.at) if raised else None,
    )
    return _with_point(state, seen)


def fold_label(
    state: MonitorState,
    loss: float,
    alpha: float,
    bound: float,
    *,
    digest: int,
    slack: float,
    at: float,
) -> MonitorState:
    """The state after one more label; see `feedback.observe`.

    `digest` is that of the image, of which only the first label counts.
    """
    after = feedback.observe(state.feedback, loss, alpha, bound, slack=slack)
    since = state.feedback_alarm_since or at
    return replace(
        state,
        since=state.since or at,
        feedback=after,
        labelled=np.append(state.labelled, np.uint64(digest))[-MOST_LABELLED:],
        feedback_alarm_since=since if after.alarms() else None,
    )


def _next_epoch(state: MonitorState) -> MonitorState:
    """Rank afresh. An alarm stays until a whole epoch has passed without."""
    return replace(
        state,
        epoch=state.epoch + 1,
        drift=Drift(),
        inputs=np.empty(0, np.uint64),
        alarmed_before=state.drift.alarms(),
    )


def _with_point(state: MonitorState, seen: Observation) -> tuple[MonitorState, HistoryPoint | None]:
    """Add a counted request to the next point, and return that once complete.

    A point covers 2^k requests; k grows with the history, so that the last `MOST_POINTS` cover at
    least its last half.
    """
    before = state.pending
    done = Pending(
        count=before.count + 1,
        log_s=max(before.log_s, state.drift.log_s),
        log_v=max(before.log_v, state.drift.log_v),
        z=before.z + seen.mean_log_sigma,
        typicality=before.typicality + seen.typicality,
        trusted=before.trusted + seen.trusted_fraction,
    )
    if done.count < 1 << max(0, (state.counted // MOST_POINTS).bit_length()):
        return replace(state, pending=done), None
    point = HistoryPoint(
        at=time_of(seen.at),
        requests=state.counted,
        log10_martingale=done.log_s / math.log(10),
        log10_shiryaev_roberts=done.log_v / math.log(10),
        mean_log_sigma=done.z / done.count,
        typicality=done.typicality / done.count,
        trusted_fraction=done.trusted / done.count,
    )
    return replace(state, pending=Pending()), point


def dump_state(state: MonitorState) -> bytes:
    """The bytes of a state."""
    document = asdict(state)
    document |= {
        "format": FORMAT,
        "seen_z": _text(document["drift"].pop("seen"), "<f4"),
        "inputs": _text(state.inputs, "<u8"),
        "labelled": _text(state.labelled, "<u8"),
    }
    return json.dumps(document).encode()


def load_state(data: bytes) -> MonitorState:
    """The state of `dump_state`. Raises BadState for damaged bytes or those of a newer release."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document.pop("format") != FORMAT:
            raise BadState("The state of the monitor was written by a newer release.")
        drifted = document.pop("drift")
        drifted["shares"] = tuple(drifted["shares"])
        labels = document.pop("feedback")
        labels["log_e"] = tuple(labels["log_e"])
        return MonitorState(
            drift=Drift(seen=_array(document.pop("seen_z"), "<f4", np.float32), **drifted),
            inputs=_array(document.pop("inputs"), "<u8", np.uint64),
            labelled=_array(document.pop("labelled"), "<u8", np.uint64),
            pending=Pending(**document.pop("pending")),
            feedback=Feedback(**labels),
            histogram=tuple(document.pop("histogram")),
            **document,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadState("The state of the monitor is damaged.") from error


def load_points(found: Sequence[bytes]) -> list[HistoryPoint]:
    """Stored points. Raises BadState."""
    try:
        return [HistoryPoint.model_validate_json(data) for data in found]
    except ValueError as error:
        raise BadState("The history of the monitor is damaged.") from error


def time_of(seconds: float) -> datetime:
    """A time of the monitor, in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _text(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _array(text: str, kind: str, native: DTypeLike) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), kind).astype(native)
