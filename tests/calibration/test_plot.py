"""The picture of a calibration: valid XML whatever the calibration, and true to it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from app.calibration.plot import risk_plot
from app.calibration.record import Calibration
from app.conformal import Staircase
from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler

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


async def test_one_pair():
    """A calibration of one pair, whose smallest α is half the bound, is drawn too."""
    corners = points(risk_plot(await calibration_of(FakeUpscaler(), 1)))
    assert len(corners) == 161


def test_perfect_upscaler(calibration):
    """Without any error the axis still has a length."""
    flat = [Staircase(s.levels[:0], s.errors[:0]) for s in calibration.staircases]
    perfect = Calibration(calibration.document, flat, calibration.sigma_quantiles)
    assert ET.fromstring(risk_plot(perfect)) is not None
