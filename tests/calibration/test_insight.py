"""What admins are shown: thresholds, curves in fewer steps, a picture that is true and valid."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calibration.insight import coarser, risk_plot, thresholds
from app.calibration.price import COMMON_ALPHAS
from app.calibration.record import Calibration
from app.conformal import RiskCurve, Staircase
from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler

LEVELS = st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True).map(sorted)


@given(LEVELS, st.integers(1, 40))
def test_coarser_is_never_lower(levels, most):
    """A curve in fewer steps is at least the curve everywhere; with enough steps it is equal."""
    sigma = np.array([levels], np.float32) / 1000
    error = np.linspace(0.1, 1, len(levels), dtype=np.float32)[None]
    curve = RiskCurve.from_staircases([Staircase.from_maps(sigma, error)], 1.0)
    thresholds, risks = coarser(curve, most)
    assert len(risks) <= most
    assert thresholds[0] == curve.thresholds[0]
    assert risks[-1] == curve.risks[-1]
    if most >= len(curve.risks):
        assert (thresholds, risks) == (curve.thresholds.tolist(), curve.risks.tolist())
    for t in curve.thresholds:
        place = np.searchsorted(thresholds, t, side="right") - 1
        assert risks[place] >= curve.risk(float(t))


def test_the_default_alpha_is_tabled(calibration):
    """A calibration tells its threshold at its own default α, in the order of α, and once."""
    for default, wanted in ((0.12, sorted([*COMMON_ALPHAS, 0.12])), (0.1, list(COMMON_ALPHAS))):
        rows = thresholds(changed(calibration, default_alpha=default))
        assert [row["alpha"] for row in rows] == wanted


SVG = "{http://www.w3.org/2000/svg}"


def points(svg: str) -> list[tuple[float, float]]:
    """The corners of the curve, in pixels."""
    line = ET.fromstring(svg).find(f"{SVG}polyline")
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_curve(calibration):
    """The trusted area grows with α inside the picture; the smallest α is marked and named."""
    svg = risk_plot(calibration)
    corners = points(svg)
    assert [x for x, _ in corners] == sorted(x for x, _ in corners)
    assert [y for _, y in corners] == sorted((y for _, y in corners), reverse=True)
    assert all(0 <= x <= 720 and 0 <= y <= 420 for x, y in corners)
    assert f"B/(n+1) = {calibration.curve.min_alpha:.3g}" in svg
    assert "prefers-color-scheme: dark" in svg


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a "b" & c', "π ≤ 4"])
def test_names(calibration, name):
    """Whatever its name, the picture is XML, and the name is text in it."""
    root = ET.fromstring(risk_plot(changed(calibration, name=name)))
    assert name in root.find(f"{SVG}title").text
    assert not root.findall(f".//{SVG}script")


async def test_extremes(calibration):
    """A calibration of one pair is drawn, and without any error the axis still has a length."""
    flat = [Staircase(s.levels[:0], s.errors[:0]) for s in calibration.staircases]
    perfect = Calibration(calibration.document, flat, calibration.sigma_quantiles)
    for extreme in (perfect, await calibration_of(FakeUpscaler(), 1)):
        assert len(points(risk_plot(extreme))) == 161
