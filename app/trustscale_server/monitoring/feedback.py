"""Scores that count in the evidence about the promise.

- Where nothing was promised, or the picture was reduced after its mask was made, the loss is not
  counted.
- The truth about one image counts once.
- Counted losses test the promise (`conformal/evidence.py`); they never enter the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from pydantic import Field

from trustscale_server.conformal import evidence
from trustscale_server.monitoring.scoring import Measured, ScoredMask
from trustscale_server.monitoring.state import MonitorState, StateChange, fold_label
from trustscale_server.stores.monitor_states import Label


class TruthReport(Measured):
    """What the truth says about one result, and about all labelled ones so far."""

    counted: bool = Field(description="Whether this truth counts in the fields below.")
    n_labels: int
    mean_loss: float | None
    e_value: float
    e_value_alarm_at: float
    alarm: bool
    statement: str


def counting(scored: ScoredMask, at: float) -> Callable[[MonitorState], StateChange[TruthReport]]:
    """Return what a score changes: the monitor's state, the answer and the label."""
    measured = scored.measured

    def count(state: MonitorState) -> StateChange[TruthReport]:
        uncounted = None
        if not scored.counts:
            uncounted = "nothing was promised of this output"
        elif np.uint64(scored.image_digest) in state.labelled:
            uncounted = "the truth about this image is counted already, with another result"
        else:
            state = fold_label(
                state,
                measured.loss,
                measured.alpha,
                measured.bound,
                digest=scored.image_digest,
                slack=measured.tolerance,
                at=at,
            )
        truth = _truth_of(measured, state, uncounted)
        record = truth.model_dump_json().encode()
        return StateChange(state, truth, Label(measured.result, scored.digest, record))

    return count


def finite_exp(log_value: float) -> float:
    """Return exp, cut at 1e300, since JSON has no infinity."""
    return math.exp(min(log_value, 300 * math.log(10)))


def _truth_of(measured: Measured, state: MonitorState, uncounted: str | None) -> TruthReport:
    known = state.labels
    verb = "is within" if measured.within else "exceeds"
    statement = (
        f"The loss in the mask was {measured.loss:.3g}; that {verb} α = {measured.alpha:g}. The "
        "promise is about the average over images, which one image neither proves nor refutes."
    )
    if uncounted is not None:
        statement += f" It is not counted: {uncounted}."
    if known.alarms:
        statement += (
            " The labels so far average above α. If they are a random sample of the requests, "
            "calibrate again."
        )
    return TruthReport(
        **measured.model_dump(),
        counted=uncounted is None,
        n_labels=known.n,
        mean_loss=known.mean_loss,
        e_value=finite_exp(known.log_e_value),
        e_value_alarm_at=1 / evidence.LABEL_DELTA,
        alarm=known.alarms,
        statement=statement,
    )
