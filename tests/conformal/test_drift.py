"""Online ranks, the simple jumper and the Shiryaev-Roberts statistic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from crepes.martingales import EpsilonBettingFunction, SimpleJumper
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.conformal import drift
from app.conformal.drift import CEILING, DELTA, EPOCH, Drift, observe, rank, reference_of

FEW = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 3.0]), max_size=12)
UNIFORM = st.floats(0, 1, exclude_max=True)


def follow(reference, stream, random, state=None):
    """The states after each request of a stream."""
    states, state = [], state or Drift()
    for z in stream:
        state = observe(state, reference, z, random.random())
        states.append(state)
    return states


class TestRank:
    @given(FEW, FEW, st.sampled_from([-3.0, -0.5, 0.0, 0.05, 9.0]), UNIFORM)
    def test_by_definition(self, reference, seen, z, uniform):
        """(#greater + U (#equal + 1)) / (m + 1), counted one by one."""
        pool = np.sort(np.float32(reference)), np.sort(np.float32(seen))
        everything = [*reference, *seen]
        greater = sum(value > z for value in everything)
        equal = sum(value == z for value in everything)
        expected = (greater + uniform * (equal + 1)) / (len(everything) + 1)
        assert rank(pool, z, uniform) == pytest.approx(expected)

    def test_values_are_compared_as_they_are_kept(self):
        """A value that float32 rounds is a tie with itself."""
        z = 0.1 + 1e-12
        kept = reference_of(np.array([z]))
        assert rank((kept,), z, 0.0) == 0.0
        assert rank((kept,), z, 1.0) == 1.0

    def test_exchangeable_values_have_uniform_ranks(self):
        """Ranks of a lattice variable, ties broken at random, are uniform and independent."""
        random = np.random.default_rng(1)
        first, last = [], []
        for _ in range(1500):
            values = np.float32(random.integers(0, 3, 12))
            reference, seen = np.sort(values[:8]), np.empty(0, np.float32)
            ps = []
            for z in values[8:]:
                ps.append(rank((reference, seen), z, random.random()))
                seen = np.sort(np.append(seen, z))
            first.append(ps[0])
            last.append(ps[-1])
        # Failing by chance: 1 in 10,000 each. Ties at U = ½ instead of random ones give p = 0.
        assert stats.kstest(first, "uniform").pvalue > 1e-4
        assert stats.kstest(last, "uniform").pvalue > 1e-4
        assert stats.spearmanr(first, last).pvalue > 1e-4


class TestJumper:
    def test_it_is_the_one_of_crepes(self):
        """S on 500 p-values agrees with crepes' simple jumper with the same accounts."""
        ps = np.random.default_rng(2).beta(0.8, 1.1, 500)
        oracle = SimpleJumper(J=drift.JUMP, bf=EpsilonBettingFunction(list(drift.BETS)))
        expected = oracle.apply(ps)
        shares, log_s, found = Drift().shares, 0.0, []
        for p in ps:
            shares = drift.bet(shares, p)
            log_s = math.log(sum(shares))
            found.append(log_s)
        np.testing.assert_allclose(found, np.log(expected), atol=1e-9)

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
    def test_it_is_a_martingale(self, ps):
        """After any past the factor is 1 on average over a uniform rank, and positive always."""
        shares = Drift().shares
        for p in ps:
            before, shares = sum(shares), drift.bet(shares, p)
            assert 0.5 <= sum(shares) / before <= 1.5
        # The sum is linear in p, so two values give the mean.
        mean = (sum(drift.bet(shares, 0.0)) + sum(drift.bet(shares, 1.0))) / 2
        assert mean == pytest.approx(sum(shares))


class TestObserve:
    def test_the_recursions(self):
        """S and V follow their definitions, and their maxima are kept."""
        random = np.random.default_rng(3)
        reference = reference_of(random.normal(size=50))
        s, v, states = 1.0, 0.0, follow(reference, random.normal(1, 1, 80), random)
        best_s, best_v = 1.0, 0.0
        before = 0.0
        for state in states:
            ratio = math.exp(state.log_s - before)
            s, v, before = s * ratio, (v + 1) * ratio, state.log_s
            best_s, best_v = max(best_s, s), max(best_v, v)
            assert math.exp(state.log_v) == pytest.approx(v)
            assert math.exp(state.highest_s) == pytest.approx(best_s)
            assert math.exp(state.highest_v) == pytest.approx(best_v)

    @given(st.lists(st.floats(-5, 5, width=32), max_size=30))
    def test_what_was_seen_stays_sorted(self, stream):
        """The memory is the sorted stream."""
        random = np.random.default_rng(4)
        state = Drift()
        for z in stream:
            state = observe(state, np.zeros(1, np.float32), z, random.random())
        np.testing.assert_array_equal(state.seen, np.sort(np.float32(stream)))

    def test_the_memory_is_bounded(self):
        """A full epoch is followed by a new one that knows the calibration images only."""
        random = np.random.default_rng(5)
        reference = reference_of(random.normal(size=30))
        full = follow(reference, random.normal(size=EPOCH), random)[-1]
        assert full.is_full
        assert len(full.seen) == EPOCH
        after = observe(full, reference, 0.5, 0.25)
        first = observe(Drift(), reference, 0.5, 0.25)
        assert (after.log_s, after.log_v, after.shares) == (first.log_s, first.log_v, first.shares)
        np.testing.assert_array_equal(after.seen, [0.5])

    def test_endless_evidence_does_not_overflow(self):
        """A whole epoch of extreme inputs gives finite logarithms and an alarm."""
        random = np.random.default_rng(6)
        reference = reference_of(random.normal(size=5000))
        state = follow(reference, [50.0 + k for k in range(EPOCH)], random)[-1]
        assert 100 < state.log_s < 1000
        assert math.isfinite(state.log_v)
        assert state.alarms()

    def test_nothing_else_than_numbers(self):
        """What is not finite is refused, in a request and in a calibration."""
        for value in (math.nan, math.inf):
            with pytest.raises(ValueError, match="finite"):
                observe(Drift(), np.zeros(1, np.float32), value, 0.5)
            with pytest.raises(ValueError, match="finite"):
                reference_of(np.array([value]))

    def test_alarms_at_the_stated_limits(self):
        """S at 1/δ or V at c, ever in the epoch, is an alarm; a hair below is none."""
        assert Drift(highest_s=math.log(1 / DELTA) + 1e-12).alarms()
        assert Drift(highest_v=math.log(CEILING)).alarms()
        below = Drift(highest_s=math.log(1 / DELTA) - 1e-9, highest_v=math.log(CEILING) - 1e-9)
        assert not below.alarms()


@pytest.mark.slow
class TestRates:
    def test_false_alarms(self):
        """In 200 streams of 300 requests like the calibration images both promises hold.

        P(S ever ≥ 20) ≤ 0.05 and P(V ≥ 3000) ≤ 300/3000. The test fails by chance in 1 of 10,000
        runs, and surely (0.9999) if a rate were 0.2.
        """
        random = np.random.default_rng(8)
        s = v = 0
        for _ in range(200):
            reference = reference_of(random.normal(size=100))
            last = follow(reference, random.normal(size=300), random)[-1]
            s += last.highest_s >= math.log(20)
            v += last.highest_v >= math.log(3000)
        assert s <= stats.binom.ppf(0.9999, 200, 0.05)
        assert v <= stats.binom.ppf(0.9999, 200, 0.1)

    def test_delays(self):
        """After 200 ordinary requests a shift by one standard deviation is found in about 50.

        Median over 21 streams at the limits that are shipped: at most 80, of S and of V.
        """
        random = np.random.default_rng(10)
        found: dict[str, list[float]] = {"s": [], "v": []}
        for _ in range(21):
            reference = reference_of(random.normal(size=300))
            state = follow(reference, random.normal(size=200), random)[-1]
            states = follow(reference, random.normal(1, 1, 200), random, state)
            for key, limit in (("s", math.log(1 / DELTA)), ("v", math.log(CEILING))):
                hits = [k for k, one in enumerate(states) if getattr(one, f"log_{key}") >= limit]
                found[key].append(hits[0] + 1 if hits else math.inf)
        assert np.median(found["s"]) <= 80
        assert np.median(found["v"]) <= 80
