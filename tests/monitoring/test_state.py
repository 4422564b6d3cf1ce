"""The monitor's state: how long an alarm lasts, and its bytes."""

from dataclasses import asdict

import numpy as np

from trustscale_server.conformal.evidence import RUN
from trustscale_server.monitoring.state import (
    MonitorState,
    Observation,
    dump_state,
    fold,
    fold_label,
    load_state,
    reference_of,
)

REFERENCE = reference_of(np.random.default_rng(0).normal(size=200))


def seen(digest, z=0.0, *, at=100.0, subset="/", **fields):
    return Observation(at, subset, REFERENCE, z, 0.25, digest, **fields)


def follow(count, *, shift=0.0, state=None, first=0):
    """The state after ordinary requests, or shifted ones."""
    random, state = np.random.default_rng(first + 1), state or MonitorState()
    for k in range(first, first + count):
        request = seen(
            k,
            shift + random.normal(),
            at=float(k + 1),
            subset="ab"[k % 2],
            described=(k % 100 / 8, -1.5),
        )
        state = fold(state, request, random.random())
    return state


def test_an_alarm_lasts_until_a_run_has_passed_without():
    state = follow(300, shift=1.0)
    since = state.inputs_alarm_since
    assert since < 200
    state = follow(RUN - 300, state=state, first=300)
    assert (state.pictures.n, state.inputs_alarm_since) == (RUN, since)
    state = follow(RUN, state=state, first=RUN)
    assert (state.pictures.n, state.inputs_alarm_since) == (RUN, since)
    assert not state.pictures.alarms
    state = fold(state, seen(0), 0.5)  # a new run counts old inputs again
    assert (state.pictures.n, len(state.inputs), state.inputs_alarm_since) == (1, 1, None)
    assert state.counted == 2 * RUN + 1


def test_there_and_back():
    busy = follow(700, shift=0.7)
    busy = fold_label(busy, 0.2, 0.1, 1.9576, digest=1, slack=0.01, at=3.0)
    for state in (busy, MonitorState()):
        again = load_state(dump_state(state))
        np.testing.assert_equal(asdict(again), asdict(state))
        later = [dump_state(follow(9, state=one, first=900)) for one in (again, state)]
        assert later[0] == later[1]


def test_the_last_inputs_are_described():
    """Those that count, at most sixteen; of another calibrating table they begin anew."""
    state = follow(40)
    assert state.described[:, 0].tolist() == [k / 8 for k in range(24, 40)]
    assert fold(state, seen(39, described=(9.0, 9.0)), 0.5).described is state.described  # again
    assert fold(state, seen(40), 0.5).described is state.described  # unknown
    assert fold(state, seen(41, described=(1.0,)), 0.5).described.tolist() == [[1.0]]


def test_labels():
    """An alarm keeps the time of its first label, until there is none."""
    state = MonitorState()
    for at in range(1, 30):
        state = fold_label(state, 1.0, 0.1, 1.9576, digest=1, slack=0.01, at=float(at))
    assert (state.labels.n, state.labels_alarm_since) == (29, 3)
    calm = fold_label(MonitorState(), 0.0, 0.1, 1.9576, digest=1, slack=0.0, at=5.0)
    assert calm.labels_alarm_since is None
