"""A figure of the report, as a file and as a part of its page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from trustscale_evaluation.records import Record

INK, FAINT = "#1f2328", "#c8ced6"  # of print; an SVG takes the page's

_THEME = f"""
  :root {{ --ink: {INK}; --faint: {FAINT}; color-scheme: light dark; }}
  @media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6edf3; --faint: #454c55; }} }}
  @media print {{ :root {{ --ink: #000000; --faint: {FAINT}; }} }}
"""
"""The colours of a picture outside of the page."""


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
