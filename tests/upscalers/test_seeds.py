from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upscalers.seeds import DIHEDRAL, GROUP_ORDER, MAX_REQUEST_SEED, sample_seeds

request_seeds = st.integers(0, MAX_REQUEST_SEED)


class TestSampleSeeds:
    @given(request_seeds, st.integers(1, 300))
    def test_distinct_and_in_range(self, seed, count):
        """The seeds are distinct, positive and below 2^31."""
        seeds = sample_seeds(seed, count)
        assert len(set(seeds)) == len(seeds) == count
        assert all(1 <= value < 2**31 for value in seeds)

    @given(request_seeds)
    def test_elements(self, seed):
        """96 seeds stand for the 96 group elements, each once, the eight dihedral ones first."""
        elements = [value % GROUP_ORDER for value in sample_seeds(seed, GROUP_ORDER)]
        assert sorted(elements[:DIHEDRAL]) == list(range(DIHEDRAL))
        assert sorted(elements) == list(range(GROUP_ORDER))

    @given(request_seeds, st.integers(1, 120), st.integers(1, 120))
    def test_prefix(self, seed, first, second):
        """Asking for more samples keeps those that fewer would give."""
        few, many = sorted([first, second])
        assert sample_seeds(seed, many)[:few] == sample_seeds(seed, few)

    def test_known_values(self):
        """The rule is frozen: these seeds are part of every stored result."""
        seeds = sample_seeds(0, 3)
        assert seeds == [1628312642, 2023172452, 104360739]
        assert [value % GROUP_ORDER for value in seeds] == [2, 4, 3]

    def test_order_varies(self):
        """Which element comes first depends on the request's seed: all eight occur."""
        firsts = {sample_seeds(seed, 1)[0] % GROUP_ORDER for seed in range(100)}
        assert firsts == set(range(DIHEDRAL))

    @pytest.mark.parametrize(("seed", "count"), [(-1, 8), (MAX_REQUEST_SEED + 1, 8), (0, 0)])
    def test_refused(self, seed, count):
        """A seed outside its range or no samples at all are refused."""
        with pytest.raises(ValueError, match=r"seed must|at least one"):
            sample_seeds(seed, count)
