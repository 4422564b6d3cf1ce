"""What the monitor knows under one calibration, as a value and as bytes (≤ 30 kB)."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.evidence import RUN, LabelEvidence, PictureEvidence
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.stores.monitor_states import Label

T = TypeVar("T")

_MAX_LABELLED = 1000
"""Remembered images: the truth about each counts once."""

_MAX_DESCRIBED = 16
"""Uploads whose description is kept, the last ones."""


def reference_of(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the z of calibration pictures for `PictureEvidence.after`: float32, sorted.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("z contains values that are not finite")
    return np.sort(values.astype(np.float32))


class BadState(TrustscaleError):
    """The stored state is damaged, or of another release."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the monitor gets of one answered request.

    at: seconds since 1970.
    subset: names its group and class.
    reference: z of the calibration pictures of this subset, float32, sorted.
    mean_log_sigma: z.
    digest: of the input, below 2^64; equal inputs count once in a run.
    described: the numbers that describe it (`images/statistics.py`); empty: not known.
    """

    at: float
    subset: str
    reference: NDArray[np.float32]
    mean_log_sigma: float
    trusted_fraction: float
    digest: int
    described: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class MonitorState:
    """Everything about the requests and labels under one calibration.

    since, updated: seconds since 1970; 0 before the first request.
    seen: answered requests; counted: of these, without repeated inputs.
    trusted_sum: over the counted ones.
    inputs: digests of the inputs of this run, uint64, sorted.
    labelled: digests of the last `_MAX_LABELLED` images whose truth was counted, uint64.
    described: numbers that describe the last `_MAX_DESCRIBED` counted inputs, float16 [inputs, d].
    """

    since: float = 0.0
    updated: float = 0.0
    seen: int = 0
    counted: int = 0
    trusted_sum: float = 0.0
    pictures: PictureEvidence = field(default_factory=PictureEvidence)
    inputs: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    inputs_alarm_since: float | None = None
    labels: LabelEvidence = field(default_factory=LabelEvidence)
    labels_alarm_since: float | None = None
    labelled: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    described: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), np.float16))


class StateChange(NamedTuple, Generic[T]):
    """A new state, the answer of the change, and the label that is stored with it."""

    state: MonitorState
    outcome: T
    label: Label | None = None


def fold(state: MonitorState, seen: Observation, uniform: float) -> MonitorState:
    """Return the state after one more request.

    Whether a request counts depends on its input's digest, never on z: leaving some out changes no
    promise. An alarm lasts until a whole run has passed without.
    """
    state = replace(
        state,
        since=state.since or seen.at,
        updated=max(state.updated, seen.at),
        seen=state.seen + 1,
    )
    if state.pictures.n >= RUN:
        since = state.inputs_alarm_since if state.pictures.alarms else None
        state = replace(
            state,
            pictures=PictureEvidence(),
            inputs=np.empty(0, np.uint64),
            inputs_alarm_since=since,
        )
    place = int(state.inputs.searchsorted(np.uint64(seen.digest)))
    if place < len(state.inputs) and int(state.inputs[place]) == seen.digest:
        return state
    after = state.pictures.after(seen.subset, seen.reference, seen.mean_log_sigma, uniform)
    since = state.inputs_alarm_since
    return replace(
        state,
        counted=state.counted + 1,
        trusted_sum=state.trusted_sum + seen.trusted_fraction,
        pictures=after,
        inputs=np.insert(state.inputs, place, np.uint64(seen.digest)),
        described=_with(state.described, seen.described),
        inputs_alarm_since=seen.at if after.alarms and since is None else since,
    )


def _with(rows: NDArray[np.float16], described: tuple[float, ...]) -> NDArray[np.float16]:
    """The descriptions with one more; those of another length begin anew."""
    if not described:
        return rows
    new = np.array([described], np.float16)
    is_alike = rows.shape[1:] == new.shape[1:]
    return np.concatenate([rows, new] if is_alike else [new])[-_MAX_DESCRIBED:]


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
    """Return the state after one more label; see `LabelEvidence.after`.

    digest: of the image; only its first label counts.
    """
    after = state.labels.after(loss, alpha, bound, slack=slack)
    return replace(
        state,
        since=state.since or at,
        labels=after,
        labelled=np.append(state.labelled, np.uint64(digest))[-_MAX_LABELLED:],
        labels_alarm_since=(state.labels_alarm_since or at) if after.alarms else None,
    )


def dump_state(state: MonitorState) -> bytes:
    """Return the bytes of a state."""
    document = asdict(state)
    seen = document["pictures"]["seen"]
    document["pictures"]["seen"] = {subset: _text(z, "<f4") for subset, z in seen.items()}
    document |= {name: _text(document[name], "<u8") for name in ("inputs", "labelled")}
    document["described"] = [_text(row, "<f2") for row in state.described]
    return json.dumps(document).encode()


def load_state(data: bytes) -> MonitorState:
    """Read a state of `dump_state`; BadState if it is damaged or of another release."""
    try:
        document: dict[str, Any] = json.loads(data)
        pictures, labels = document.pop("pictures"), document.pop("labels")
        seen = {subset: _array(z, "<f4", np.float32) for subset, z in pictures.pop("seen").items()}
        shares, log_e = tuple(pictures.pop("shares")), tuple(labels.pop("log_e"))
        rows = [_array(row, "<f2", np.float16) for row in document.pop("described", [])]
        described = np.stack(rows) if rows else MonitorState().described
        return MonitorState(
            described=described,
            pictures=PictureEvidence(seen=seen, shares=shares, **pictures),
            labels=LabelEvidence(log_e=log_e, **labels),
            inputs=_array(document.pop("inputs"), "<u8", np.uint64),
            labelled=_array(document.pop("labelled"), "<u8", np.uint64),
            **document,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadState("The state of the monitor is damaged.") from error


def time_of(seconds: float) -> datetime:
    """Return a time of the monitor, in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _text(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _array(text: str, kind: str, native: DTypeLike) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), kind).astype(native)


def reference(subset: Subset) -> NDArray[np.float32]:
    """Return the z of one image of each scene of a subset, for ranks (`conformal/evidence.py`).

    With more of a scene, requests of new scenes would not be exchangeable with them.
    """
    return reference_of(np.array([pair.mean_log_sigma for pair in subset.one_of_each], np.float64))
