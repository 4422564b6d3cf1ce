"""Samples on disk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.errors import ConfigError
from app.evaluation.cache import SampleCache, Samples, decode, encode


def some(seed: int = 0, count: int = 4) -> Samples:
    random = np.random.default_rng(seed)
    return Samples(random.integers(0, 256, (count, 6, 5, 3), np.uint8))


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3, st.just(3))))
def test_lossless(images):
    """What is decoded is what was encoded, bit for bit."""
    assert np.array_equal(decode(encode(Samples(images))).images, images)


class TestCache:
    def test_kept(self, tmp_path):
        """Samples are found again, also by another process."""
        cache = SampleCache(tmp_path / "deep" / "cache")
        path = cache.path("fp", "x", 7, 4)
        assert cache.get(path) is None
        cache.put(path, some())
        found = SampleCache(cache.folder).get(path)
        assert np.array_equal(found.images, some().images)
        assert [p.name for p in cache.folder.iterdir()] == [path.name]

    def test_the_name_holds_all_that_changes_samples(self, tmp_path):
        """Fingerprint, input, seed and M."""
        cache = SampleCache(tmp_path)
        base = ("fp", "x", 7, 4)
        others = [("fq", "x", 7, 4), ("fp", "y", 7, 4), ("fp", "x", 8, 4), ("fp", "x", 7, 5)]
        assert len({cache.path(*key) for key in (base, *others)}) == 5

    def test_a_flipped_bit(self, tmp_path):
        """Wherever it is, the samples are the true ones or absent."""
        cache = SampleCache(tmp_path)
        path = cache.path("fp", "x", 7, 4)
        whole = encode(some())
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            found = cache.get(path)
            assert found is None or np.array_equal(found.images, some().images)

    @pytest.mark.parametrize("damage", ["cut", "empty", "text"])
    def test_damage_counts_as_absent(self, tmp_path, damage):
        """A file that is not whole is never believed."""
        cache = SampleCache(tmp_path)
        path = cache.path("fp", "x", 7, 4)
        cache.put(path, some())
        data = path.read_bytes()
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"text"}[damage])
        assert cache.get(path) is None

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        """One sentence."""
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ConfigError, match="cannot be written"):
            SampleCache(tmp_path / "file" / "cache")
