"""Evidence of drift in inputs, and against the promise in labels: by definition, and its rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.conformal import drift, feedback
from app.conformal.drift import CEILING, DELTA, EPOCH, Drift, observe, rank, reference_of
from app.conformal.feedback import STAKES, Feedback, interval, tolerance

FEW = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 3.0]), max_size=12)
UNIFORM = st.floats(0, 1, exclude_max=True)


def follow(reference, stream, random, state=None):
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


class TestJumper:
    def test_it_is_the_one_of_crepes(self):
        """S on 500 p-values agrees with crepes' simple jumper with the same accounts."""
        from crepes import martingales  # noqa: PLC0415 - takes a second

        ps = np.random.default_rng(2).beta(0.8, 1.1, 500)
        bets = martingales.EpsilonBettingFunction(list(drift.BETS))
        oracle = martingales.SimpleJumper(J=drift.JUMP, bf=bets)
        expected = oracle.apply(ps)
        shares, log_s, found = Drift().shares, 0.0, []
        for p in ps:
            shares = drift.bet(shares, p)
            log_s = math.log(sum(shares))
            found.append(log_s)
        np.testing.assert_allclose(found, np.log(expected), atol=1e-9)


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
        random = np.random.default_rng(6)
        reference = reference_of(random.normal(size=5000))
        state = follow(reference, [50.0 + k for k in range(EPOCH)], random)[-1]
        assert 100 < state.log_s < 1000
        assert math.isfinite(state.log_v)
        assert state.alarms()

    def test_nothing_else_than_numbers(self):
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
def test_false_alarms():
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


B = 1.9576
LOSSES = st.lists(st.floats(0, B), min_size=1, max_size=30)


def labelled(losses, alpha=0.1, bound=B, slack=0.0):
    states, state = [], Feedback()
    for loss in losses:
        state = feedback.observe(state, float(loss), alpha, bound, slack=slack)
        states.append(state)
    return states


class TestEValue:
    @given(LOSSES, st.floats(0.01, 1), st.floats(0, 0.2))
    def test_by_definition(self, losses, alpha, slack):
        """The mean over the stakes c of Π(1 + c (L/a − 1)) with a = α + tolerance."""
        ratios = [loss / min(alpha + slack, B) for loss in losses]
        expected = np.mean([np.prod([1 + c * (r - 1) for r in ratios]) for c in STAKES])
        last = labelled(losses, alpha, slack=slack)[-1]
        assert math.exp(last.log_e_value) == pytest.approx(expected, rel=1e-9)
        assert last.n == len(losses)
        assert last.within == sum(loss <= alpha for loss in losses)
        assert last.mean_loss == pytest.approx(np.mean(losses))

    @pytest.mark.parametrize("alpha", [0.0, B, 1e6])
    def test_nothing_to_bet_on(self, alpha):
        """A promise that cannot be broken neither adds evidence nor takes it away."""
        state = labelled([1.0] * 3)[-1]
        after = feedback.observe(state, 0.0, alpha, B)
        assert after.log_e == state.log_e
        assert after.n == state.n + 1

    @pytest.mark.parametrize(
        "values", [(-0.1, 0.1, B), (B + 0.1, 0.1, B), (math.nan, 0.1, B), (0.1, -1, B), (0, 1, 0)]
    )
    def test_impossible_labels(self, values):
        with pytest.raises(ValueError, match="must"):
            feedback.observe(Feedback(), *values)


class TestInterval:
    @given(LOSSES, st.floats(0.01, 1))
    def test_by_definition(self, losses, alpha):
        """The formulae of the predictable plug-in empirical Bernstein sequence, step by step."""
        x = np.array(losses) / B
        a, guess = min(alpha / B, 1.0), []
        weights, penalty = [], 0.0
        for t in range(1, len(x) + 1):
            past = x[: t - 1]
            means = [(a + x[: i + 1].sum()) / (i + 2) for i in range(t - 1)]
            variance = (0.25 + np.sum((past - np.array(means)) ** 2)) / t
            guess.append((a + past.sum()) / t)
            best = math.sqrt(2 * math.log(2 / feedback.DELTA) / (variance * t * math.log(1 + t)))
            weights.append(min(best, 0.75))
            penalty += (x[t - 1] - guess[-1]) ** 2 * (-math.log(1 - weights[-1]) - weights[-1])
        centre = np.dot(weights, x) / sum(weights)
        radius = (math.log(2 / feedback.DELTA) + penalty) / sum(weights)
        found = interval(labelled(losses, alpha)[-1], B)
        assert found.centre == pytest.approx(B * centre)
        assert found.lower == pytest.approx(B * max(0, centre - radius))
        assert found.upper == pytest.approx(B * min(1, centre + radius))


def test_by_definition():
    """1.645 standard errors of the mean; nothing can be said from a single loss."""
    losses = [0.0, 0.1, 0.4, 0.2]
    expected = stats.norm.ppf(0.95) * stats.sem(losses)
    assert tolerance(losses) == pytest.approx(expected)
    assert tolerance([0.3]) == 0


@pytest.mark.slow
def test_false_alarms_and_misses():
    """In 200 audits of 200 labels with mean loss α, both errors stay below δ = 0.05.

    The test fails by chance in 1 of 10,000 runs, and surely (0.9999) if a rate were 0.2.
    """
    random = np.random.default_rng(3)
    alarms = misses = 0
    for _ in range(200):
        # Skewed losses as real ones are; cutting changes their mean by less than 1e-3.
        states = labelled(np.minimum(random.gamma(1.0, 0.1, 200), B))
        alarms += states[-1].alarms()
        misses += any(
            not found.lower <= 0.1 <= found.upper
            for found in (interval(state, B) for state in states)
        )
    limit = stats.binom.ppf(0.9999, 200, feedback.DELTA)
    assert alarms <= limit
    assert misses <= limit
