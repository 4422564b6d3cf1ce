"""Whether a picture looks like a card."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.proof.themes import THEMES


def resembles_card(pixels: NDArray[np.uint8]) -> bool:
    """Return whether uint8 [H, W, 3 or 4] ends in a strip with a bar, as a card does.

    Anybody can draw one, so it proves nothing.
    """
    tallest = min(pixels.shape[:2])  # of a strip with many lines
    foot = Image.fromarray(np.ascontiguousarray(pixels[-tallest:, :, :3]))
    lightness = np.asarray(foot.convert("L")).astype(np.int16)
    return any(_has_strip(lightness, sum(colours.paper) / 3) for colours in THEMES.values())


def _has_strip(lightness: NDArray[np.int16], blank: float) -> bool:
    """Whether int16 [H, W] ends in rows on paper, and the first of them are a bar in margins."""
    width = lightness.shape[1]
    # A compression at quality 60 changes lightness by up to 30 steps.
    is_drawn = np.abs(lightness - np.int16(blank)) > 30
    margin = max(2, width // 100)
    beside = is_drawn[:, :margin].any(axis=1) | is_drawn[:, -margin:].any(axis=1)
    # It carries the lower edge of the picture into the nine rows below.
    begin = int(np.flatnonzero(beside)[-1]) + 10 if beside.any() else 0
    strip = is_drawn[begin:]
    rows = np.flatnonzero(strip.any(axis=1))
    ends = np.flatnonzero(np.diff(rows) > 1)
    if not len(ends) or rows[0] == 0:
        return False
    bar = strip[rows[0] : rows[ends[0]] + 1]
    columns = np.flatnonzero(bar.any(axis=0))
    left, right = int(columns[0]), width - 1 - int(columns[-1])
    most = max(8, width // 60)
    return bool(
        len(bar) <= most
        and width // 100 <= left <= width // 12
        and abs(left - right) <= most
        and int(np.diff(columns).max(initial=0)) <= most
    )
