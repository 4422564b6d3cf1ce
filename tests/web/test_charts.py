"""The charts of the admin's pages: axes, look-up, tables and files."""

from __future__ import annotations

import csv
import io
import itertools
import math

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def test_axes_and_look_up(call):
    """Ticks are round and within the axis; the nearest point and the step before are found."""
    for low, high in ((0, 1), (0.013, 0.171), (-3, 4000), (0, 1e-6)):
        ticks = call("charts/scale.js", "roundTicks", low, high, 5)
        assert 3 <= len(ticks) <= 8
        assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in ticks)
        steps = {round((b - a) / (high - low), 6) for a, b in itertools.pairwise(ticks)}
        assert len(steps) == 1
        mantissa = (ticks[1] - ticks[0]) / 10 ** math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)
        assert round(mantissa, 6) in {1, 2, 5}
    points = [{"x": x, "y": 10 * x} for x in (1, 2, 4, 8)]
    assert [call("charts/data.js", "nearest", points, x) for x in (0, 2.9, 3.1, 9)] == [0, 1, 2, 3]
    step = {"kind": "step", "points": points}
    assert call("charts/data.js", "at", step, 3.9) == {"x": 2, "y": 20}
    assert call("charts/data.js", "at", step, 0.5) is None
    assert call("charts/scale.js", "powerOfTen", -12) == "10⁻¹²"


def test_csv(call):
    """Series are joined by x; hostile names are quoted and are no formulae to a spreadsheet."""
    spec = {
        "x": {"label": "α"},
        "series": [
            {"name": '=HYPERLINK("x")', "points": [{"x": 1, "y": -2}, {"x": 3, "y": 4}]},
            {"name": "band, wide", "kind": "band", "points": [{"x": 1, "low": 5, "high": 6}]},
        ],
    }
    text = call("charts/data.js", "csv", spec)
    assert list(csv.reader(io.StringIO(text))) == [
        ["α", '\'=HYPERLINK("x")', "band, wide, lower", "band, wide, upper"],
        ["1", "-2", "5", "6"],
        ["3", "4", "", ""],
    ]
