"""Evidence that pictures differ, and that masks lose more than α: by definition, and its rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.conformal import evidence
from trustscale_server.monitoring.state import reference_of

FEW = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 3.0]), max_size=12)
UNIFORM = st.floats(0, 1, exclude_max=True)
B = 1.9576
LOSSES = st.lists(st.floats(0, B), min_size=1, max_size=30)


def follow(reference, stream, random, parts=("a",)):
    states, state = [], evidence.PictureEvidence()
    for k, z in enumerate(stream):
        state = state.after(parts[k % len(parts)], reference, z, random.random())
        states.append(state)
    return states


def labelled(losses, alpha=0.1, bound=B, slack=0.0):
    states, state = [], evidence.LabelEvidence()
    for loss in losses:
        state = state.after(float(loss), alpha, bound, slack=slack)
        states.append(state)
    return states


@given(FEW, FEW, st.sampled_from([-3.0, -0.5, 0.0, 0.05, 9.0]), UNIFORM)
def test_a_rank(reference, seen, z, uniform):
    """(#greater + U (#equal + 1)) / (m + 1), counted one by one."""
    pool = np.sort(np.float32(reference)), np.sort(np.float32(seen))
    everything = [*reference, *seen]
    greater = sum(value > z for value in everything)
    equal = sum(value == z for value in everything)
    expected = (greater + uniform * (equal + 1)) / (len(everything) + 1)
    assert evidence.rank(pool, z, uniform) == pytest.approx(expected)


def test_the_jumper_is_that_of_crepes():
    """S on 500 p-values agrees with crepes' simple jumper with the same accounts."""
    from crepes import martingales  # noqa: PLC0415 - takes a second

    ps = np.random.default_rng(2).beta(0.8, 1.1, 500)
    bets = martingales.EpsilonBettingFunction(list(evidence.BETS))
    expected = martingales.SimpleJumper(J=evidence.JUMP, bf=bets).apply(ps)
    shares, found = evidence.START, []
    for p in ps:
        shares = evidence.bet(shares, p)
        found.append(math.log(sum(shares)))
    np.testing.assert_allclose(found, np.log(expected), atol=1e-9)


class TestPictures:
    def test_classes_share_one_capital(self):
        """A picture is ranked in its class, calibration and earlier ones; all bet with one S."""
        reference = reference_of(np.random.default_rng(3).normal(size=50))
        random, again = np.random.default_rng(4), np.random.default_rng(4)
        stream = np.random.default_rng(5).normal(1, 1, 60)
        states = follow(reference, stream, random, parts=("a", "b"))
        shares, seen, best = evidence.START, {"a": [], "b": []}, 0.0
        for k, (z, state) in enumerate(zip(stream, states, strict=True)):
            known = seen["ab"[k % 2]]
            p = evidence.rank((reference, np.sort(np.float32(known))), z, again.random())
            shares = evidence.bet(shares, p)
            known.append(z)
            best = max(best, math.log(sum(shares)))
            assert state.log_capital == pytest.approx(math.log(sum(shares)))
            assert state.highest == pytest.approx(best)
        assert (states[-1].n, len(states[-1].seen["a"])) == (60, 30)
        shift = (stream - reference.mean()) / reference.std(ddof=1)
        assert states[-1].shift == pytest.approx(shift.sum(), rel=1e-5)

    def test_endless_evidence_does_not_overflow(self):
        reference = reference_of(np.random.default_rng(6).normal(size=5000))
        stream = [50.0 + k for k in range(evidence.RUN)]
        state = follow(reference, stream, np.random.default_rng(7))[-1]
        assert 100 < state.log_capital < 1000
        assert state.alarms

    def test_it_alarms_at_the_stated_limit(self):
        """S at 1/δ, ever in the run, is an alarm; a hair below is none."""
        assert evidence.PictureEvidence(highest=math.log(1 / evidence.FALSE_ALARM) + 1e-12).alarms
        assert not evidence.PictureEvidence(
            highest=math.log(1 / evidence.FALSE_ALARM) - 1e-9
        ).alarms

    @pytest.mark.slow
    def test_false_alarms(self):
        """In 200 streams of 150 requests like the calibration images P(S ever ≥ 20) ≤ 0.05.

        The test fails by chance in 1 of 10,000 runs, and surely (0.9999) if the rate were 0.2.
        """
        random, alarms = np.random.default_rng(8), 0
        for _ in range(200):
            reference = reference_of(random.normal(size=100))
            last = follow(reference, random.normal(size=150), random, parts=("a", "b"))[-1]
            alarms += last.highest >= math.log(20)
        assert alarms <= stats.binom.ppf(0.9999, 200, 0.05)

    def test_a_shift_is_found(self):
        """Of half a standard deviation within 300 requests in at least 8 of 10 streams."""
        random, found = np.random.default_rng(9), 0
        for _ in range(10):
            reference = reference_of(random.normal(size=243))
            found += follow(reference, random.normal(0.5, 1, 300), random)[-1].alarms
        assert found >= 8


class TestLabels:
    @given(LOSSES, st.floats(0.01, 1), st.floats(0, 0.2))
    def test_by_definition(self, losses, alpha, slack):
        """The mean over the stakes c of Π(1 + c (L/a − 1)) with a = α + tolerance."""
        ratios = [loss / min(alpha + slack, B) for loss in losses]
        expected = np.mean([np.prod([1 + c * (r - 1) for r in ratios]) for c in evidence.STAKES])
        last = labelled(losses, alpha, slack=slack)[-1]
        assert math.exp(last.log_e_value) == pytest.approx(expected, rel=1e-9)
        assert last.n == len(losses)
        assert last.within == sum(loss <= alpha for loss in losses)
        assert last.mean_loss == pytest.approx(np.mean(losses))
        assert last.total_alpha == pytest.approx(len(losses) * alpha)

    @pytest.mark.parametrize("alpha", [0.0, B, 1e6])
    def test_nothing_to_bet_on(self, alpha):
        """A promise that cannot be broken neither adds evidence nor takes it away."""
        state = labelled([1.0] * 3)[-1]
        after = state.after(0.0, alpha, B, slack=0.0)
        assert after.log_e == state.log_e
        assert after.n == state.n + 1

    @pytest.mark.parametrize(
        "values", [(-0.1, 0.1, B), (B + 0.1, 0.1, B), (math.nan, 0.1, B), (0.1, -1, B), (0, 1, 0)]
    )
    def test_impossible_labels(self, values):
        with pytest.raises(ValueError, match="must"):
            evidence.LabelEvidence().after(*values, slack=0.0)

    def test_the_tolerance(self):
        """1.645 standard errors of the mean; nothing can be said from a single loss."""
        losses = [0.0, 0.1, 0.4, 0.2]
        expected = stats.norm.ppf(0.95) * stats.sem(losses)
        assert evidence.tolerance(losses) == pytest.approx(expected)
        assert evidence.tolerance([0.3]) == 0

    @pytest.mark.slow
    def test_false_alarms(self):
        """In 200 audits of 200 labels with mean loss α at most δ = 0.05 raise the alarm.

        The test fails by chance in 1 of 10,000 runs, and surely (0.9999) if the rate were 0.2.
        """
        random = np.random.default_rng(3)
        # Skewed losses as real ones are; cutting changes their mean by less than 1e-3.
        audits = (np.minimum(random.gamma(1.0, 0.1, 200), B) for _ in range(200))
        alarms = sum(labelled(losses)[-1].alarms for losses in audits)
        assert alarms <= stats.binom.ppf(0.9999, 200, evidence.LABEL_DELTA)
