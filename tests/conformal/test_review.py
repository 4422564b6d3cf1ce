"""Which pictures may go out without a look: the decision, its two promises, and what they cost."""

import math
from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.review import (
    TOLERANCES,
    SigmaCounts,
    accepted_of_batch,
    high_sigma,
    off_shares,
    p_value,
    passes,
)

from . import strategies

PICTURES = st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
"""Whether a picture is bad, and its σ_high, with ties."""
DELTAS = st.sampled_from([0.05, 0.2, 1 / 3, 0.5, 0.8])


def p_of(calibrating, picture):
    """p of a picture."""
    return p_value(
        np.array([high for bad, high in calibrating if bad]), len(calibrating), picture[1]
    )


def share_of_bad(pictures, p_values, delta):
    """The share of bad ones among the accepted pictures of a batch; 0 of none."""
    kept = [
        bad
        for (bad, _), fits in zip(pictures, accepted_of_batch(p_values, delta), strict=True)
        if fits
    ]
    return np.mean(kept) if kept else 0.0


class TestOnePicture:
    @given(st.lists(PICTURES, min_size=1, max_size=9), DELTAS)
    def test_at_most_the_share_delta_is_bad_and_accepted(self, pictures, delta):
        """Whichever of n + 1 pictures is the new one, all as likely: exact, with ties, any n."""
        wrong = 0
        for k, picture in enumerate(pictures):
            others = pictures[:k] + pictures[k + 1 :]
            wrong += picture[0] and p_of(others, picture) <= delta
        assert wrong <= delta * len(pictures)

    @given(st.lists(PICTURES, min_size=1, max_size=9), PICTURES, DELTAS)
    def test_it_is_conformal_risk_control(self, calibrating, picture, delta):
        """p is R of the loss 1{bad and σ_high ≤ t}, and accepted is what lies below t_δ."""
        curve = RiskCurve.from_calibration_set(
            CalibrationSet(
                [
                    LossCurve(np.float32([high]), np.float32([1])) if bad else strategies.NEVER
                    for bad, high in calibrating
                ],
                1.0,
            )
        )
        p = p_of(calibrating, picture)
        assert p == curve.risk(picture[1])
        assert (p <= delta) == (picture[1] < curve.threshold(delta))

    @given(st.lists(PICTURES, min_size=1, max_size=9), PICTURES, DELTAS)
    def test_passes_where_half_of_what_is_accepted_is_good(self, calibrating, picture, delta):
        """By the definition; always within p ≤ δ, so the promise stands."""
        ends = [high for _, high in calibrating if high >= picture[1]] + [picture[1]]

        def fits(end):
            inside = [bad for bad, high in calibrating if high <= end] + [True]
            return p_of(calibrating, (True, end)) <= delta and 2 * sum(inside) <= len(inside)

        bad, known = (
            np.array([high for is_bad, high in calibrating if is_bad or every])
            for every in (False, True)
        )
        found = passes(bad, known, picture[1], delta)
        assert found == any(map(fits, ends))
        assert not found or p_of(calibrating, picture) <= delta


class TestABatch:
    @given(st.integers(1, 3), st.lists(PICTURES, min_size=4, max_size=7), DELTAS)
    def test_of_the_accepted_at_most_the_share_delta_is_bad(self, count, pictures, delta):
        """The mean over all ways to divide n + m pictures is exact."""
        shares = []
        for chosen in combinations(range(len(pictures)), count):
            batch = [pictures[k] for k in chosen]
            others = [one for k, one in enumerate(pictures) if k not in chosen]
            shares.append(share_of_bad(batch, [p_of(others, one) for one in batch], delta))
        assert math.fsum(shares) / len(shares) <= delta * (1 + 1e-9)

    @given(st.lists(st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5, 1.0]), max_size=8), DELTAS)
    def test_follows_the_definition(self, p_values, delta):
        """K is the largest k for which k p-values are at most δ k/m; those up to δ K/m pass."""
        m = len(p_values)

        def fitting(k):
            return [p * m <= delta * k * (1 + 1e-9) for p in p_values]

        most = max((k for k in range(m + 1) if sum(fitting(k)) >= k), default=0)
        assert accepted_of_batch(p_values, delta) == (fitting(most) if most else [False] * m)


class TestNumbersOfAPicture:
    @given(strategies.maps())
    def test_shares_are_rounded_up(self, maps):
        """Of pixels that are off by more than τ, strictly: never below the true share."""
        _, error = maps
        for tolerance, share in zip(TOLERANCES, off_shares(error), strict=True):
            true = np.mean(error > np.float32(tolerance))
            assert true <= share < true + 1.01e-4

    @given(strategies.maps(), st.integers(1, 5))
    def test_high_sigma_in_any_strips(self, maps, rows):
        """At most 5 % of the pixels lie above it, to 7 binary digits, and more above less of it."""
        sigma, _ = maps
        counts = SigmaCounts()
        for top in reversed(range(0, len(sigma), rows)):
            counts.add(sigma[top : top + rows])
        high, largest = counts.high()
        assert (high, largest) == high_sigma(sigma)
        step = 1 + 2**-7
        tiny = 2e-38  # below the normal numbers steps are coarser
        assert np.mean(sigma > high * step + tiny) <= 0.05
        assert high == 0 or np.mean(sigma >= high) > 0.05
        assert largest <= sigma.max() <= largest * step + tiny

    def test_of_no_pixels(self):
        assert SigmaCounts().high() == (0.0, 0.0)
