"""What the monitor has seen as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

from app.images import svg
from app.monitor.report import DriftFacts, FeedbackFacts, LabelPoint, UpscalerReport
from app.monitor.state import HistoryPoint

_HEIGHT = 560

# Top and bottom of the two panels.
_EVIDENCE = (56, 270)
_LABELS = (346, 510)


def monitor_plot(report: UpscalerReport) -> str:
    """Evidence of drift over the requests; labelled losses, their mean's interval, and α."""
    labels = report.feedback.n if report.feedback else 0
    heading = f"{report.upscaler}, {report.requests.counted} requests, {labels} labels"
    if report.alarms:
        heading += f", alarms: {', '.join(alarm.kind for alarm in report.alarms)}"
    counted = [point for point in report.feedback_history if point.counted and point.n > 0]
    parts = [
        svg.text(
            svg.LEFT,
            _EVIDENCE[0] - 10,
            "evidence that inputs differ, powers of ten: "
            '<tspan class="key-one">martingale</tspan>, '
            '<tspan class="key-two">Shiryaev–Roberts</tspan>',
        ),
        *(
            _evidence(report.history, report.drift)
            if report.history and report.drift
            else _nothing(_EVIDENCE, "no requests yet")
        ),
        svg.text(
            svg.LEFT,
            _LABELS[0] - 10,
            '<tspan class="key-two">losses of labelled results</tspan>, '
            '<tspan class="key-one">interval for their mean</tspan>, and α',
        ),
        *(
            _feedback(counted, report.feedback)
            if counted and report.feedback
            else _nothing(_LABELS, "no labels yet")
        ),
    ]
    return svg.drawing(_HEIGHT, f"Monitor of {report.upscaler}", heading, parts)


def _evidence(history: list[HistoryPoint], facts: DriftFacts) -> Iterator[str]:
    """log₁₀ of the martingale and of the Shiryaev-Roberts statistic, and where they alarm."""
    top, bottom = _EVIDENCE
    one = [(float(p.requests), p.log10_martingale) for p in history]
    two = [(float(p.requests), p.log10_shiryaev_roberts) for p in history]
    limits = [math.log10(facts.martingale_alarm_at), math.log10(facts.shiryaev_roberts_alarm_at)]
    values = [value for _, value in [*one, *two]] + limits
    low, high = math.floor(min(0.0, *values)), math.ceil(max(values) + 0.2)
    left = one[0][0]
    right = max(one[-1][0], left + 1)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    for level in range(low, high + 1, max(1, math.ceil((high - low) / 6))):
        yield svg.rule(y(level), f"{level}")
    for limit in limits:
        yield svg.horizontal(y(limit), "limit")
    for kind, points in (("one", one), ("two", two)):
        placed = [(svg.across((x - left) / (right - left)), y(value)) for x, value in points]
        yield svg.line(placed, kind)
    yield from _ends(bottom, f"{left:.0f}", f"{right:.0f} requests")


def _feedback(found: list[LabelPoint], facts: FeedbackFacts) -> Iterator[str]:
    """Each labelled loss, the interval for the mean, and α of the labelled masks."""
    top, bottom = _LABELS
    # The first intervals reach up to B; they would flatten everything that matters.
    settled = [point.upper or 0.0 for point in found[len(found) // 2 :]]
    high = 1.05 * max(facts.alpha, *(point.loss for point in found), *settled)
    first, last = found[0].n, max(found[-1].n, found[0].n + 1)

    def place(point: LabelPoint, value: float | None) -> tuple[float, float]:
        share = (point.n - first) / (last - first)
        return svg.across(share), bottom - min(1.0, (value or 0.0) / high) * (bottom - top)

    for share in (0.0, 0.5, 1.0):
        yield svg.rule(bottom - share * (bottom - top), f"{share * high:.2g}")
    band = [place(p, p.upper) for p in found] + [place(p, p.lower) for p in reversed(found)]
    yield f'<polygon class="band" points="{svg.pairs(band)}"/>'
    yield svg.line([place(p, p.mean_loss) for p in found], "one")
    for x, y in (place(point, point.loss) for point in found):
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
    level = bottom - facts.alpha / high * (bottom - top)
    yield svg.horizontal(level, "limit")
    yield svg.text(svg.across(1), level - 5, f"α = {facts.alpha:.3g}", "end")
    yield from _ends(bottom, f"{first}", f"{found[-1].n} labels")


def _ends(bottom: float, first: str, last: str) -> Iterator[str]:
    """What the horizontal axis begins and ends with."""
    yield svg.text(svg.LEFT, bottom + 20, first)
    yield svg.text(svg.across(1), bottom + 20, last, "end")


def _nothing(panel: tuple[int, int], words: str) -> Iterator[str]:
    top, bottom = panel
    yield svg.rule(bottom, "")
    yield svg.text(svg.across(0.5), (top + bottom) / 2, words, "middle")
