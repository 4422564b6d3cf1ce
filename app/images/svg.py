"""Plots as SVG pictures, readable in light and dark surroundings."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

LEFT: Final = 64
"""The margin on the left, in pixels, which holds the numbers of the axis."""

_WIDTH: Final = 720
_RIGHT: Final = 24

_STYLE: Final = """
  :root { color-scheme: light dark; --ink: #1f2328; --grid: #d0d7de; --one: #0072b2;
    --two: #009e73; --limit: #d55e00; --band: #0072b233; --paper: #ffffff; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6edf3; --grid: #3d444d; --one: #56b4e9; --two: #2fc79a; --limit: #e69f00;
      --band: #56b4e933; --paper: #0d1117; }
  }
  .paper { fill: var(--paper); } text { fill: var(--ink); font: 13px system-ui, sans-serif; }
  .grid { stroke: var(--grid); stroke-width: 1; }
  .one { stroke: var(--one); stroke-width: 2; fill: none; }
  .two { stroke: var(--two); stroke-width: 2; fill: none; }
  .dot { fill: var(--two); } .band { fill: var(--band); }
  .key-one { fill: var(--one); } .key-two { fill: var(--two); }
  .limit { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 5 4; }
  .title { font-weight: 600; font-size: 15px; } .end { text-anchor: end; }
  .middle { text-anchor: middle; }
"""

Points: TypeAlias = Sequence[tuple[float, float]]


def drawing(height: int, title: str, heading: str, parts: Iterable[str]) -> str:
    """A picture of so many pixels with a title for readers of screens, and a heading."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
            text(LEFT, 24, html.escape(heading), "title"),
            *parts,
            "</svg>",
        ]
    )


def across(share: float) -> float:
    """X at a share in [0, 1] of the width between the margins."""
    return LEFT + share * (_WIDTH - LEFT - _RIGHT)


def text(x: float, y: float, markup: str, kind: str = "") -> str:
    """A line of text; `kind` is title, end (where x is its end) or middle."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{markup}</text>'


def rule(y: float, number: str) -> str:
    """A line of the grid, with its number at the left."""
    return horizontal(y, "grid") + text(LEFT - 8, y + 4, number, "end")


def horizontal(y: float, kind: str) -> str:
    """A line across; `kind` is grid or limit."""
    return f'<line class="{kind}" x1="{LEFT}" x2="{across(1):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def line(points: Points, kind: str) -> str:
    """A curve; `kind` is one or two."""
    return f'<polyline class="{kind}" points="{pairs(points)}"/>'


def pairs(points: Points) -> str:
    """Points as attributes name them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
