"""The e-value of labelled losses and the confidence sequence for their mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.conformal import feedback
from app.conformal.feedback import DELTA, STAKES, Feedback, interval, observe, tolerance

B = 1.9576
LOSSES = st.lists(st.floats(0, B), min_size=1, max_size=30)


def follow(losses, alpha=0.1, bound=B, slack=0.0):
    """The states after each label."""
    states, state = [], Feedback()
    for loss in losses:
        state = observe(state, float(loss), alpha, bound, slack=slack)
        states.append(state)
    return states


def gamma_losses(random, mean, size):
    """Skewed losses in [0, B] as real ones are, with this mean (cutting changes it by < 1e-3)."""
    return np.minimum(random.gamma(1.0, mean, size), B)


class TestEValue:
    @given(LOSSES, st.floats(0.01, 1), st.floats(0, 0.2))
    def test_by_definition(self, losses, alpha, slack):
        """The mean over the stakes c of Π(1 + c (L/a − 1)) with a = α + tolerance."""
        ratios = [loss / min(alpha + slack, B) for loss in losses]
        expected = np.mean([np.prod([1 + c * (r - 1) for r in ratios]) for c in STAKES])
        last = follow(losses, alpha, slack=slack)[-1]
        assert math.exp(last.log_e_value) == pytest.approx(expected, rel=1e-9)
        assert last.n == len(losses)
        assert last.within == sum(loss <= alpha for loss in losses)
        assert last.mean_loss == pytest.approx(np.mean(losses))

    def test_it_cannot_gain_on_average(self):
        """For any loss of mean a the factor of every stake is 1; at the edge too."""
        for loss, chance in ((0.1, 1.0), (B, 0.1 / B), (0.2, 0.5)):
            lucky = np.exp(follow([loss])[-1].log_e)
            empty = np.exp(follow([0.0])[-1].log_e)
            np.testing.assert_allclose(chance * lucky + (1 - chance) * empty, 1)

    def test_levels_of_their_own(self):
        """Each loss is judged by the α of its own mask."""
        state = observe(observe(Feedback(), 0.2, 0.1, B), 0.4, 0.5, B)
        expected = np.mean([(1 + c) * (1 - 0.2 * c) for c in STAKES])
        assert math.exp(state.log_e_value) == pytest.approx(expected)
        assert feedback.mean_alpha(state, B) == pytest.approx(0.3, abs=0.05)

    @pytest.mark.parametrize("alpha", [0.0, B, 1e6])
    def test_nothing_to_bet_on(self, alpha):
        """A promise that cannot be broken neither adds evidence nor takes it away."""
        state = follow([1.0] * 3)[-1]
        after = observe(state, 0.0, alpha, B)
        assert after.log_e == state.log_e
        assert after.n == state.n + 1

    def test_an_alarm_stays(self):
        """What was proven once is not taken back by later losses."""
        states = follow([1.0] * 6 + [0.0] * 60)
        assert states[5].alarms()
        assert states[-1].log_e_value < 0
        assert states[-1].alarms()
        assert not follow([0.05] * 60)[-1].alarms()

    @pytest.mark.parametrize(
        "values", [(-0.1, 0.1, B), (B + 0.1, 0.1, B), (math.nan, 0.1, B), (0.1, -1, B), (0, 1, 0)]
    )
    def test_impossible_labels(self, values):
        """Values outside their range are refused."""
        with pytest.raises(ValueError, match="must"):
            observe(Feedback(), *values)


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
            best = math.sqrt(2 * math.log(2 / DELTA) / (variance * t * math.log(1 + t)))
            weights.append(min(best, 0.75))
            penalty += (x[t - 1] - guess[-1]) ** 2 * (-math.log(1 - weights[-1]) - weights[-1])
        centre = np.dot(weights, x) / sum(weights)
        radius = (math.log(2 / DELTA) + penalty) / sum(weights)
        found = interval(follow(losses, alpha)[-1], B)
        assert found.centre == pytest.approx(B * centre)
        assert found.lower == pytest.approx(B * max(0, centre - radius))
        assert found.upper == pytest.approx(B * min(1, centre + radius))

    def test_it_narrows(self):
        """400 labels of mean 0.1 leave an interval of about a tenth, which holds the mean."""
        losses = gamma_losses(np.random.default_rng(1), 0.1, 400)
        widths = [interval(state, B) for state in follow(losses)]
        assert widths[-1].lower < 0.1 < widths[-1].upper
        assert widths[-1].upper - widths[-1].lower < 0.12
        assert widths[4].upper == B

    def test_without_labels(self):
        """Nothing is known: [0, B]."""
        found = interval(Feedback(), B)
        assert (found.lower, found.upper) == (0, B)
        assert math.isnan(found.centre)
        assert math.isnan(Feedback().mean_loss)
        assert math.isnan(feedback.mean_alpha(Feedback(), B))


class TestTolerance:
    def test_by_definition(self):
        """1.645 standard errors of the mean; nothing can be said from a single loss."""
        losses = [0.0, 0.1, 0.4, 0.2]
        expected = stats.norm.ppf(0.95) * stats.sem(losses)
        assert tolerance(losses) == pytest.approx(expected)
        assert tolerance([0.3]) == 0

    def test_it_covers_most_calibrations(self):
        """The mean loss lies below the sample's mean plus this for 90 to 99 % of the samples."""
        random = np.random.default_rng(2)
        samples = random.gamma(2.0, 0.05, (2000, 60))
        covered = np.mean([one.mean() + tolerance(list(one)) >= 0.1 for one in samples])
        assert 0.90 < covered < 0.99


@pytest.mark.slow
class TestRates:
    def test_false_alarms_and_misses(self):
        """In 200 audits of 200 labels with mean loss α, both errors stay below δ = 0.05.

        The test fails by chance in 1 of 10,000 runs, and surely (0.9999) if a rate were 0.2.
        """
        random = np.random.default_rng(3)
        alarms = misses = 0
        for _ in range(200):
            states = follow(gamma_losses(random, 0.1, 200))
            alarms += states[-1].alarms()
            misses += any(
                not found.lower <= 0.1 <= found.upper
                for found in (interval(state, B) for state in states)
            )
        limit = stats.binom.ppf(0.9999, 200, DELTA)
        assert alarms <= limit
        assert misses <= limit

    def test_delays(self):
        """A mean loss of 0.167 at α = 0.1 is found after some 30 labels (median of 41 audits)."""
        random = np.random.default_rng(4)
        found = []
        for _ in range(41):
            hits = [s.n for s in follow(gamma_losses(random, 1 / 6, 200)) if s.alarms()]
            found.append(hits[0] if hits else math.inf)
        assert np.median(found) <= 45
