"""The risk curve of a calibration as a picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.calibration.record import Calibration
from app.images import svg

_HEIGHT = 420
_TOP, _BOTTOM = 52, 56


def risk_plot(calibration: Calibration, group: str | None = None) -> str:
    """Trusted area against α: what a calibration buys, and from which α on it buys anything.

    `group` is only named: the calibration is the part of it.
    """
    curve = calibration.curve
    right = max(min(float(curve.risk(float("inf"))) * 1.15, calibration.bound), 1e-6)
    alphas = np.linspace(0, right, 161)
    areas = [calibration.mean_trusted_fraction(curve.threshold(float(a))) for a in alphas]
    points = [
        (svg.across(float(alpha) / right), _y(0 if np.isnan(area) else area))
        for alpha, area in zip(alphas, areas, strict=True)
    ]
    promise = calibration.guarantee
    name = calibration.manifest.name or calibration.id
    if group:
        name += f", group {group}"
    subject, least = "α, largest expected error", "B/(n+1)"
    if promise.kind == "high_probability":
        subject += f", with probability {1 - promise.delta:g} over the calibration images"
        least = "smallest α"
    parts = [
        *_grid(right, subject),
        svg.line(points, "one"),
        *_limit(curve.min_alpha, right, least),
    ]
    title = f"Trusted area against α, {name}"
    return svg.drawing(_HEIGHT, title, f"{name}, n = {calibration.n}", parts)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(right: float, subject: str) -> Iterator[str]:
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield svg.rule(_y(share), f"{share:.0%}")
        yield svg.text(svg.across(share), _HEIGHT - 32, f"{share * right:.3g}", "middle")
    yield svg.text(svg.across(0.5), _HEIGHT - 10, subject, "middle")
    yield svg.text(svg.LEFT, _TOP - 4, "trusted area")


def _limit(min_alpha: float, right: float, least: str) -> Iterator[str]:
    if min_alpha < right:
        x = svg.across(min_alpha / right)
        yield f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_y(0)}"/>'
        yield svg.text(x + 6, _TOP + 14, f"{least} = {min_alpha:.3g}")
