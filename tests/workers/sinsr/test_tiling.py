"""Padding and tile positions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from workers.models.tiling import pad_reflect, starts


class TestStarts:
    def test_tables(self, data):
        """Start positions are the reference's for all sizes in its tables."""
        for rule, table in json.loads((data / "tile_starts.json").read_text()).items():
            tile, stride = map(int, rule.split("/"))
            for length, want in table.items():
                assert starts(int(length), tile, stride) == want, (rule, length)


class TestPadding:
    @pytest.mark.parametrize(("height", "width"), [(33, 64), (40, 63), (64, 128)])
    def test_ordinary_reflection(self, height, width):
        """Where ordinary reflection is possible, it is what is done."""
        image = torch.rand(1, 3, height, width)
        pad = (0, -width % 64, 0, -height % 64)
        want = torch.nn.functional.pad(image, pad, mode="reflect")
        assert torch.equal(pad_reflect(image, 64), want)

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (2, 3), (32, 31), (5, 64)])
    def test_small_sides_are_mirrored_again(self, height, width):
        """Small sides continue the reflection as numpy's repeated mirroring does."""
        image = np.random.default_rng(0).random((height, width), np.float32)
        want = np.pad(image, ((0, -height % 64), (0, -width % 64)), mode="reflect")
        got = pad_reflect(torch.from_numpy(image)[None, None], 64)[0, 0]
        assert np.array_equal(got.numpy(), want)
