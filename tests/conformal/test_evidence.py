"""Ranks and bets on them, by definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustscale_server.conformal import evidence

FEW = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 3.0]), max_size=12)
UNIFORM = st.floats(0, 1, exclude_max=True)


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
