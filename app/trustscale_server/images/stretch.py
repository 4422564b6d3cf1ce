"""Values of data, and how a stretch makes X of them.

A *stretch* maps values to 0 … 65,535: a window `LOW,HIGH`, or percentiles of each band, `p1,p99`.
Values outside are cut. The answer and its files name the window: value = low + (high − low) · v /
65,535.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from trustscale_server.images.metadata import Metadata
from trustscale_server.platform.errors import BadImage

Values: TypeAlias = NDArray[np.uint8 | np.uint16 | np.float32]
"""[h, w, 1 or 3]."""

_NUMBER: Final = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_STRETCH: Final = re.compile(rf"(p?){_NUMBER},\1{_NUMBER}", re.IGNORECASE)
_LARGEST: Final = 1e30  # of a window, far from where floats of 32 bits overflow
_ROWS: Final = 64


def checked_stretch(text: str) -> str:
    """Return the normal form of a stretch, such as `p1,p99` or `100,4095`. Raises ValueError."""
    percentiles, low, high = _parsed(text)
    prefix = "p" if percentiles else ""
    plain = f"{prefix}{low:.10g},{prefix}{high:.10g}"
    _parsed(plain)  # rounded, both ends may be the same
    return plain


def checked_bands(text: str) -> str:
    """Return the numbers of one band or three, such as `4,3,2`. Raises ValueError."""
    numbers = text.replace(" ", "").split(",")
    if len(numbers) not in {1, 3} or not all(re.fullmatch("[1-9]\\d{0,4}", n) for n in numbers):
        raise ValueError("bands are the number of one or the numbers of three, such as 4,3,2")
    return ",".join(numbers)


Stretch = Annotated[str, AfterValidator(checked_stretch)]
Bands = Annotated[str, AfterValidator(checked_bands)]


def _parsed(text: str) -> tuple[bool, float, float]:
    """Whether a stretch names percentiles, and both ends."""
    match = _STRETCH.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError("a stretch is a window such as 0,4095 or percentiles such as p1,p99")
    percentiles, low, high = bool(match[1]), float(match[2]), float(match[3])
    if not -_LARGEST < low < high < _LARGEST or (percentiles and not 0 <= low < high <= 100):
        raise ValueError("a stretch begins with the lower end; percentiles are 0 to 100")
    return percentiles, low, high


@dataclass(frozen=True, slots=True)
class Raster:
    """What was read of a file, and how its values became X.

    page, pages: from 1. bands: their numbers; None: a picture. stretch: None: X has 8 bits.
    low, high: of each band, the values of 0 and 65,535.
    """

    page: int = 1
    pages: int = 1
    bands: tuple[int, ...] | None = None
    stretch: str | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    @property
    def has_one_band(self) -> bool:
        """Whether X and the output have one channel of 16 bits."""
        return self.low is not None and len(self.low) == 1


@dataclass(frozen=True, slots=True)
class RasterData:
    """What was read of a file; `valid` is where there are data, bool [h, w], None if everywhere."""

    values: Values
    valid: NDArray[np.bool_] | None
    format: str
    raster: Raster
    notes: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)


def windowed(read: RasterData, stretch: str) -> Raster:
    """Return the raster with the window of each band.

    Raises BadImage: too large for percentiles.
    """
    percentiles, low, high = _parsed(stretch)
    bands = np.moveaxis(read.values, 2, 0)
    ends = [(low, high)] * len(bands)
    if percentiles:
        valid = [band if read.valid is None else band[read.valid] for band in bands]
        ends = [
            tuple(np.percentile(band, [low, high]).tolist()) if band.size else (0.0, 1.0)
            for band in valid
        ]
    # All values of a flat band become 0.
    ends = [(first, last if last > first else first + 1) for first, last in ends]
    lows, highs = zip(*ends, strict=True)
    if not all(abs(end) < _LARGEST for end in (*lows, *highs)):  # NaN is not
        raise BadImage("The values are too large for percentiles: state a window by stretch.")
    return replace(read.raster, stretch=stretch, low=lows, high=highs)


def stretched(values: Values, raster: Raster) -> NDArray[np.uint16]:
    """Return the values in units of the window, uint16 [h, w, 3]; a single band is repeated."""
    height, width, count = values.shape
    out = np.empty((height, width, 3), np.uint16)
    for place, (low, high) in enumerate(zip(raster.low or (), raster.high or (), strict=True)):
        for top in range(0, height, _ROWS):  # floats of all would take many times the image
            share = (values[top : top + _ROWS, :, place].astype(np.float64) - low) / (high - low)
            levels = np.rint(np.clip(np.nan_to_num(share), 0, 1) * 65535)
            channels = slice(None) if count == 1 else slice(place, place + 1)
            out[top : top + _ROWS, :, channels] = levels[..., np.newaxis]
    return out
