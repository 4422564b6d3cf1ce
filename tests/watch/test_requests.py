"""The monitor's state: folding, epochs, history, bytes."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from app.conformal import drift
from app.conformal.drift import EPOCH
from app.stores.base import MOST_POINTS
from app.watch.requests import (
    BadState,
    HistoryPoint,
    MonitorState,
    Observation,
    dump_state,
    fold,
    fold_label,
    load_state,
    time_of,
)

REFERENCE = drift.reference_of(np.random.default_rng(0).normal(size=200))


def seen(digest, z=0.0, *, at=100.0, **fields):
    values = {"typicality": 0.5, "trusted_fraction": 0.25, **fields}
    return Observation(at=at, mean_log_sigma=z, digest=digest, **values)


def follow(count, *, shift=0.0, state=None, first=0):
    """The state after ordinary requests (or shifted ones), and the points of history."""
    random = np.random.default_rng(first + 1)
    state, points = state or MonitorState(), []
    for k in range(first, first + count):
        request = seen(k, shift + random.normal(), at=float(k + 1))
        state, point = fold(state, REFERENCE, request, random.random())
        if point is not None:
            points.append(point)
    return state, points


class TestFold:
    def test_what_is_counted(self):
        """Duplicates of an epoch and subsampled requests are seen, and change nothing else."""
        state, point = fold(MonitorState(), REFERENCE, seen(2**64 - 1, 0.3), 0.5)
        assert point == HistoryPoint(
            at=time_of(100.0),
            requests=1,
            log10_martingale=state.drift.log_s / math.log(10),
            log10_shiryaev_roberts=state.drift.log_v / math.log(10),
            mean_log_sigma=0.3,
            typicality=0.5,
            trusted_fraction=0.25,
        )
        for again in (seen(2**64 - 1, 9.0), seen(5, 9.0, counts=False)):
            state, point = fold(state, REFERENCE, again, 0.5)
            assert point is None
        assert (state.seen, state.counted, state.duplicates, state.subsampled) == (3, 1, 1, 1)
        assert len(state.drift.seen) == 1

    def test_typicality_has_its_bin(self):
        """Edges belong to the bin below."""
        state = MonitorState()
        for k, typicality in enumerate([0.001, 0.019, 0.02, 0.1, 0.11, 0.999, 1.0]):
            state, _ = fold(state, REFERENCE, seen(k, typicality=typicality), 0.5)
        assert state.histogram == (4, 1, 0, 0, 0, 0, 0, 0, 0, 2)

    def test_an_alarm_lasts_until_an_epoch_has_passed_without(self):
        state, _ = follow(300, shift=1.0)
        since = state.inputs_alarm_since
        assert since < 200
        state, _ = follow(EPOCH - 300, state=state, first=300)
        assert (state.epoch, state.inputs_alarm_since) == (1, since)
        state, _ = follow(EPOCH, state=state, first=EPOCH)
        assert (state.epoch, state.inputs_alarm_since) == (2, since)
        assert not state.drift.alarms()
        state, _ = follow(1, state=state, first=2 * EPOCH)
        assert (state.epoch, state.inputs_alarm_since) == (3, None)
        assert state.counted == 2 * EPOCH + 1

    def test_a_new_epoch_counts_old_inputs_again(self):
        """Only what an epoch has seen is a duplicate in it."""
        state, _ = follow(EPOCH)
        state, _ = fold(state, REFERENCE, seen(0), 0.5)
        assert (state.epoch, state.duplicates, len(state.inputs)) == (2, 0, 1)

    def test_labels(self):
        state = follow(3)[0]
        after = state
        for at in range(1, 30):
            after = fold_label(after, 1.0, 0.1, 1.9576, digest=1, slack=0.01, at=float(at))
        assert after.feedback.n == 29
        assert after.feedback_alarm_since == 3
        assert after.drift is state.drift
        calm = fold_label(state, 0.0, 0.1, 1.9576, digest=1, slack=0.0, at=5.0)
        assert calm.feedback_alarm_since is None


class TestHistory:
    def test_it_thins_out(self):
        """Points stand for 1, 2, 4, … requests: the last thousand reach back over half of all."""
        _, points = follow(5 * MOST_POINTS)
        steps = np.diff([0, *(point.requests for point in points)])
        assert set(steps) == {1, 2, 4, 8}
        assert list(steps) == sorted(steps)
        kept = points[-MOST_POINTS:]
        assert kept[-1].requests >= 5 * MOST_POINTS - 8
        assert kept[0].requests <= 5 * MOST_POINTS / 2

    def test_peaks_are_not_lost(self):
        """A point has the largest evidence, and the mean of the rest, since the last one."""
        state, _ = follow(MOST_POINTS + 1)
        values = []
        for k, z in enumerate((6.0, -6.0)):
            state, point = fold(state, REFERENCE, seen(10**6 + k, z, typicality=0.2 + k / 2), 0.5)
            values.append(state.drift.log_s / math.log(10))
        assert point.log10_martingale == pytest.approx(max(values))
        assert point.mean_log_sigma == 0
        assert point.typicality == pytest.approx(0.45)


class TestBytes:
    def test_there_and_back(self):
        busy, _ = follow(700, shift=0.7)
        busy = fold_label(busy, 0.2, 0.1, 1.9576, digest=1, slack=0.01, at=3.0)
        for state in (busy, MonitorState()):  # V of the latter is zero
            again = load_state(dump_state(state))
            np.testing.assert_equal(asdict(again), asdict(state))
            later = [dump_state(follow(9, state=one, first=900)[0]) for one in (again, state)]
            assert later[0] == later[1]

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{}",
            b"[1]",
            b'{"format": 1}',
            dump_state(MonitorState())[:-9],
            dump_state(MonitorState()).replace(b'"counted"', b'"countet"'),
            dump_state(MonitorState()).replace(b'"inputs": ""', b'"inputs": "?"'),
        ],
    )
    def test_damage_is_noticed(self, damage):
        with pytest.raises(BadState, match="damaged"):
            load_state(damage)
