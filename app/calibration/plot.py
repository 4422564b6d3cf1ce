"""The risk curve of a calibration as an SVG picture, readable in light and dark surroundings."""

from __future__ import annotations

import html

import numpy as np

from app.calibration.record import Calibration

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 40, 56

_STYLE = """
  :root { color-scheme: light dark; --ink: #1f2328; --grid: #d0d7de; --area: #0072b2;
    --limit: #d55e00; --paper: #ffffff; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6edf3; --grid: #3d444d; --area: #56b4e9; --limit: #e69f00; --paper: #0d1117; }
  }
  .paper { fill: var(--paper); } text { fill: var(--ink); font: 13px system-ui, sans-serif; }
  .grid { stroke: var(--grid); stroke-width: 1; }
  .area { stroke: var(--area); stroke-width: 2.5; fill: none; }
  .limit { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 5 4; }
  .title { font-weight: 600; font-size: 15px; } .end { text-anchor: end; }
  .middle { text-anchor: middle; }
"""


def risk_plot(calibration: Calibration, group: str | None = None) -> str:
    """Trusted area against α: what a calibration buys, and from which α on it buys anything.

    `group` is only named: the calibration is the part of it.
    """
    curve = calibration.curve
    right = max(min(float(curve.risk(float("inf"))) * 1.15, calibration.bound), 1e-6)
    alphas = np.linspace(0, right, 161)
    areas = [calibration.mean_trusted_fraction(curve.threshold(float(a))) for a in alphas]
    points = " ".join(
        f"{_x(float(a) / right):.1f},{_y(0 if np.isnan(area) else area):.1f}"
        for a, area in zip(alphas, areas, strict=True)
    )
    promise = calibration.guarantee
    name = html.escape(
        f"{calibration.manifest.name or calibration.id}{f', group {group}' if group else ''}"
    )
    subject, least = "α, largest expected error", "B/(n+1)"
    if promise.kind == "high_probability":
        subject += f", with probability {1 - promise.delta:g} over the calibration images"
        least = "smallest α"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>Trusted area against α, {name}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="24">{name}, n = {calibration.n}</text>',
        *_grid(right, subject),
        f'<polyline class="area" points="{points}"/>',
        *_limit(curve.min_alpha, right, least),
        "</svg>",
    ]
    return "\n".join(parts)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(right: float, subject: str) -> list[str]:
    lines = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = _x(share), _y(share)
        lines += [
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{share:.0%}</text>',
            f'<text class="middle" x="{x:.1f}" y="{_HEIGHT - 32}">{share * right:.3g}</text>',
        ]
    middle = _x(0.5)
    lines += [
        f'<text class="middle" x="{middle}" y="{_HEIGHT - 10}">{subject}</text>',
        f'<text x="{_LEFT}" y="{_TOP - 4}">trusted area</text>',
    ]
    return lines


def _limit(min_alpha: float, right: float, least: str) -> list[str]:
    if min_alpha >= right:
        return []
    x = _x(min_alpha / right)
    return [
        f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>',
        f'<text x="{x + 6:.1f}" y="{_TOP + 14}">{least} = {min_alpha:.3g}</text>',
    ]
