"""What the monitor has seen as an SVG picture, readable in light and dark surroundings."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from app.monitor.report import DriftFacts, LabelPoint, UpscalerReport

_WIDTH, _HEIGHT = 720, 560
_LEFT, _RIGHT = 64, 24

# Top and bottom of the two panels.
_EVIDENCE = (56, 270)
_LABELS = (346, 510)

_STYLE = """
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

_Points = Sequence[tuple[float, float]]


def monitor_plot(report: UpscalerReport) -> str:
    """Evidence of drift over the requests; labelled losses, their mean's interval, and α."""
    name = html.escape(report.upscaler)
    labels = report.feedback.n if report.feedback else 0
    counts = f"{report.requests.counted} requests, {labels} labels"
    if report.alarms:
        counts += f", alarms: {', '.join(alarm.kind for alarm in report.alarms)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>Monitor of {name}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="22">{name}, {counts}</text>',
        *_evidence(report),
        *_feedback(report),
        "</svg>",
    ]
    return "\n".join(parts)


def _evidence(report: UpscalerReport) -> list[str]:
    """log₁₀ of the martingale and of the Shiryaev-Roberts statistic, and where they alarm."""
    top, bottom = _EVIDENCE
    heading = (
        f'<text x="{_LEFT}" y="{top - 10}">evidence that inputs differ, powers of ten: '
        '<tspan class="key-one">martingale</tspan>, '
        '<tspan class="key-two">Shiryaev–Roberts</tspan></text>'
    )
    history = report.history
    if not history or report.drift is None:
        return [heading, *_nothing(_EVIDENCE, "no requests yet")]
    one = [(float(p.requests), p.log10_martingale) for p in history]
    two = [(float(p.requests), p.log10_shiryaev_roberts) for p in history]
    limits = _limits(report.drift)
    values = [value for _, value in [*one, *two]] + limits
    low, high = math.floor(min(0.0, *values)), math.ceil(max(values) + 0.2)
    right = max(one[-1][0], one[0][0] + 1)
    step = max(1, math.ceil((high - low) / 6))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, value = point
        share = (x - one[0][0]) / (right - one[0][0])
        return _x(share), bottom - (value - low) / (high - low) * (bottom - top)

    lines = [heading]
    for level in range(low, high + 1, step):
        lines += _rule(place((one[0][0], level))[1], f"{level}")
    for limit in limits:
        lines += [_limit(place((one[0][0], limit))[1])]
    lines += [_line("one", [place(p) for p in one]), _line("two", [place(p) for p in two])]
    lines += [
        f'<text x="{_LEFT}" y="{bottom + 20}">{one[0][0]:.0f}</text>',
        f'<text class="end" x="{_WIDTH - _RIGHT}" y="{bottom + 20}">{right:.0f} requests</text>',
    ]
    return lines


def _limits(facts: DriftFacts) -> list[float]:
    return [math.log10(facts.martingale_alarm_at), math.log10(facts.shiryaev_roberts_alarm_at)]


def _feedback(report: UpscalerReport) -> list[str]:
    """Each labelled loss, the interval for the mean, and α of the labelled masks."""
    top, bottom = _LABELS
    heading = (
        f'<text x="{_LEFT}" y="{top - 10}"><tspan class="key-two">losses of labelled results'
        '</tspan>, <tspan class="key-one">interval for their mean</tspan>, and α</text>'
    )
    found = [point for point in report.feedback_history if point.counted and point.n > 0]
    if not found or report.feedback is None:
        return [heading, *_nothing(_LABELS, "no labels yet")]
    alpha = report.feedback.alpha
    # The first intervals reach up to B; they would flatten everything that matters.
    settled = [point.upper or 0.0 for point in found[len(found) // 2 :]]
    high = 1.05 * max(alpha, *(point.loss for point in found), *settled)
    first, last = found[0].n, max(found[-1].n, found[0].n + 1)

    def place(point: LabelPoint, value: float) -> tuple[float, float]:
        share = (point.n - first) / (last - first)
        return _x(share), bottom - min(1.0, value / high) * (bottom - top)

    level = bottom - alpha / high * (bottom - top)
    band = [place(p, p.upper or 0.0) for p in found]
    band += [place(p, p.lower or 0.0) for p in reversed(found)]
    lines = [heading]
    for share in (0.0, 0.5, 1.0):
        lines += _rule(bottom - share * (bottom - top), f"{share * high:.2g}")
    lines.append(f'<polygon class="band" points="{_pairs(band)}"/>')
    lines.append(_line("one", [place(p, p.mean_loss or 0.0) for p in found]))
    for point in found:
        x, y = place(point, point.loss)
        lines.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
    lines += [
        _limit(level),
        f'<text class="end" x="{_WIDTH - _RIGHT}" y="{level - 5:.1f}">α = {alpha:.3g}</text>',
        f'<text x="{_LEFT}" y="{bottom + 20}">{first}</text>',
        f'<text class="end" x="{_WIDTH - _RIGHT}" y="{bottom + 20}">{found[-1].n} labels</text>',
    ]
    return lines


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _rule(y: float, text: str) -> list[str]:
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{text}</text>',
    ]


def _limit(y: float) -> str:
    return f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _line(name: str, points: _Points) -> str:
    return f'<polyline class="{name}" points="{_pairs(points)}"/>'


def _pairs(points: _Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _nothing(panel: tuple[int, int], text: str) -> list[str]:
    top, bottom = panel
    return [
        *_rule(bottom, ""),
        f'<text class="middle" x="{_x(0.5)}" y="{(top + bottom) / 2}">{text}</text>',
    ]
