"""Line plots, as an SVG for light and dark pages."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.records import Record
from trustscale_evaluation.report_picture import FAINT, INK, ReportPicture
from trustscale_server.platform.errors import ConfigError

_PANEL = (4.6, 3.6)  # inches

# Okabe and Ito and one more: distinct in all common forms of colour blindness, on black and white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00", "#7b4fb5")

GREY = "#7a7a7a"  # of bounds


@dataclass(frozen=True, slots=True)
class PlotLine:
    """A named curve, with a band where its uncertainty is known."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    dashed: bool = False
    color: str | None = None

    def one_minus(self) -> PlotLine:
        """Return the curve of 1 − y."""
        low, high = (None if end is None else 1 - end for end in (self.high, self.low))
        return replace(self, y=1 - self.y, low=low, high=high)


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[PlotLine]
    y_range: tuple[float, float] | None = None


def check_installed() -> None:
    """Raise ConfigError unless the extra is installed."""
    try:
        import jinja2  # noqa: F401, PLC0415
        import matplotlib.figure  # noqa: F401, PLC0415
        import zstandard  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigError(
            f"The report needs {error.name}: install trustscale-evaluation."
        ) from error


def plot(
    upscaler: str, figure: str, title: str, caption: str, panels: Sequence[Panel]
) -> ReportPicture:
    """Draw panels side by side."""
    import matplotlib as mpl  # noqa: PLC0415 - an optional dependency, imported where it is used
    from matplotlib.figure import Figure  # noqa: PLC0415

    name = f"{upscaler}-{figure}"
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: Any = {
        **dict.fromkeys(inked, INK),
        "grid.color": FAINT,
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "legend.frameon": False,
    }
    width, height = _PANEL[0] * len(panels), _PANEL[1]
    svg = io.StringIO()
    with mpl.rc_context(style):
        canvas = Figure(figsize=(width, height))
        # A tight layout would cost more than drawing.
        canvas.subplots_adjust(
            left=0.72 / width,
            right=1 - 0.15 / width,
            bottom=0.55 / height,
            top=1 - 0.35 / height,
            wspace=0.28,
        )
        for place, panel in enumerate(panels, start=1):
            _draw(canvas.add_subplot(1, len(panels), place), panel)
        metadata = {"Date": None, "Creator": None}
        with warnings.catch_warnings():
            # Any legend that takes a second warns of much data.
            warnings.filterwarnings("ignore", "Creating legend with loc", UserWarning)
            canvas.savefig(svg, format="svg", transparent=True, metadata=metadata)
    themed = _themed(svg.getvalue(), name, title)
    return ReportPicture(upscaler, figure, title, caption, title, themed, _records(panels))


def _draw(axes: Any, panel: Panel) -> None:
    for number, line in enumerate(panel.lines):
        color = line.color or COLORS[number % len(COLORS)]
        axes.plot(
            line.x,
            line.y,
            color=color,
            linestyle="--" if line.dashed else "-",
            linewidth=1.4 if line.dashed else 1.9,
            label=line.label,
        )
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    axes.legend(fontsize=8.5)


def _themed(svg: str, name: str, title: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = body.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    # Matplotlib gives all pictures of a page the same ids.
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    head, _, inside = body.partition(">")
    head = re.sub(r'\s(?:width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(title)}">{inside}'.strip()


def _records(panels: Sequence[Panel]) -> list[Record]:
    records: list[Record] = []
    for panel in panels:
        for line in panel.lines:
            unknown = np.full(len(line.x), np.nan)
            ends = [unknown if end is None else end for end in (line.low, line.high)]
            for x, y, low, high in np.stack([line.x, line.y, *ends], axis=1).tolist():
                numbers = {"x": x, "y": y, "low": low, "high": high}
                records.append({"panel": panel.title, "line": line.label, **numbers})
    return records
