"""The fields of an answer that are read from text, or have a text for a number."""

from __future__ import annotations

import math

import pytest

from app.errors import BadAlpha
from app.serving.answer import check_alpha, threshold_json


class TestAlpha:
    @pytest.mark.parametrize("alpha", [0, 0.2, 3])
    def test_numbers(self, alpha):
        """Any finite number from 0 on; without one, the calibration's α."""
        assert check_alpha(alpha, 9) == alpha
        assert check_alpha(None, 0.125) == 0.125

    @pytest.mark.parametrize("alpha", [-0.001, math.nan, math.inf, -math.inf])
    def test_anything_else(self, alpha):
        """The answer repeats what was sent."""
        with pytest.raises(BadAlpha) as caught:
            check_alpha(alpha, 0.1)
        assert str(alpha) in caught.value.detail


def test_infinite_thresholds_are_strings():
    """JSON has no infinities."""
    assert [threshold_json(t) for t in (-math.inf, math.inf, 0.5)] == ["-inf", "inf", 0.5]
