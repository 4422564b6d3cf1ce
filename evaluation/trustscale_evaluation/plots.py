"""Line plots, and sheets of images under column heads.

A plot is an SVG for light and dark pages, a sheet a JPEG.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import ConfigError

_INK, _FAINT = "#1f2328", "#c8ced6"  # of print; an SVG takes the page's
_THEME = f"""
  :root {{ --ink: {_INK}; --faint: {_FAINT}; color-scheme: light dark; }}
  @media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6edf3; --faint: #454c55; }} }}
  @media print {{ :root {{ --ink: #000000; --faint: {_FAINT}; }} }}
"""
"""The colours of a picture outside of the page."""

_PANEL = (4.6, 3.6)  # inches

# Okabe and Ito and one more: distinct in all common forms of colour blindness, on black and white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00", "#7b4fb5")
GREY = "#7a7a7a"  # of bounds

Record = dict[str, object]
"""A row of a table by its columns."""

_GAP, _HEAD, _FOOT = 8, 26, 24
_TILE = 288  # longer side of an image on a sheet, pixels


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


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Images of one row, [H, W] or [H, W, 3], and the line below them."""

    images: Sequence[Pixels]
    caption: str


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """A finished figure: an SVG in the page's colours, or a JPEG.

    alt: a description. records: the numbers behind it.
    """

    upscaler: str
    figure: str
    title: str
    caption: str
    alt: str
    drawing: str | bytes
    records: Sequence[Record]

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.upscaler}-{self.figure}"

    @property
    def inline(self) -> str:
        """The figure as a part of a page."""
        if isinstance(self.drawing, str):
            return self.drawing
        data = base64.b64encode(self.drawing).decode()
        return f'<img alt="{escape(self.alt)}" src="data:image/jpeg;base64,{data}"/>'

    @property
    def file(self) -> tuple[str, bytes]:
        """The suffix and the bytes of its file."""
        if not isinstance(self.drawing, str):
            return "jpg", self.drawing
        head, _, body = self.drawing.partition(">")
        return "svg", f"{head}><style>{_THEME}</style>{body}".encode()


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
        **dict.fromkeys(inked, _INK),
        "grid.color": _FAINT,
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
    body = body.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
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


def sheet(
    upscaler: str,
    figure: str,
    title: str,
    caption: str,
    heads: Sequence[str],
    rows: Sequence[SheetRow],
    records: Sequence[Record],
) -> ReportPicture:
    """Lay out rows of images under column heads."""
    import matplotlib as mpl  # noqa: PLC0415 - as above

    tiles = [[_tile(image) for image in row.images] for row in rows]
    width = _GAP + sum(tile.width + _GAP for tile in tiles[0])
    height = _HEAD + sum(line[0].height + _FOOT for line in tiles)
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)

    font = ImageFont.truetype(mpl.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", 12)
    top = _HEAD
    for line, row in zip(tiles, rows, strict=True):
        left = _GAP
        for tile, head in zip(line, heads, strict=True):
            if line is tiles[0]:
                pen.text((left, _HEAD - 19), head, fill="black", font=font)
            canvas.paste(tile, (left, top))
            left += tile.width + _GAP
        words = _GAP, top + line[0].height + 4
        pen.text(words, row.caption, fill="#555555", font=font)
        top += line[0].height + _FOOT
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=86)
    alt = ". ".join((title, *(row.caption for row in rows)))
    return ReportPicture(upscaler, figure, title, caption, alt, file.getvalue(), records)


def heat(values: NDArray[np.floating], top: float) -> NDArray[np.uint8]:
    """Return a map as colours, uint8 [H, W, 4]: black at 0, light from `top` on."""
    import matplotlib as mpl  # noqa: PLC0415 - as above

    return np.asarray(mpl.colormaps["inferno"](np.clip(values / top, 0, 1), bytes=True))


def _tile(image: Pixels) -> Image.Image:
    picture = Image.fromarray(to_8_bit(image)).convert("RGB")
    is_small = max(picture.size) < _TILE
    filter_ = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
    return picture.resize(size_within(picture.size, _TILE), filter_)
