"""The speed of each upscaler here: seconds per megapixel of input and sample, measured and kept."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.stores.folders import replace_file
from app.upscalers.base import Source, Upscaler

MEGA: Final = 1e6

# Side of the first measurement in pixels: one tile.
_TRIAL_SIDE: Final = 256
# The fastest of so many counts: others shared the machine, or were too small for fixed costs.
_RECENT: Final = 16
# Network calls have fixed costs, so small pictures say nothing of pictures so many times as large.
_MUCH_LARGER: Final = 4


@dataclass(slots=True)
class _Pace:
    """Recent seconds per megapixel of one model, and the most megapixels."""

    fingerprint: str
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    largest: float = 0.0


class Throughput:
    """The throughput of upscalers; a new fingerprint is a new model.

    path: keeps it for the next process; None: nothing does.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept = _read(path)
        self._paces: dict[str, _Pace] = {}

    def seconds_per_megapixel(self, upscaler: Upscaler) -> float | None:
        """Of input and sample; None: not known yet."""
        return min(self._of(upscaler).recent, default=None)

    def estimate(self, upscaler: Upscaler, pixels: int, samples: int) -> float | None:
        """Seconds that so many samples of an input take; None: nothing is known."""
        pace = self._of(upscaler)
        megapixels = pixels / MEGA
        is_known = upscaler.capabilities.by_tiles or megapixels <= _MUCH_LARGER * pace.largest
        if not (pace.recent and is_known):
            return None
        return min(pace.recent) * megapixels * samples

    def note(self, upscaler: Upscaler, pixels: int, samples: int, seconds: float) -> None:
        """Record how long it took to draw so many samples of an input."""
        pace, before = self._of(upscaler), self.seconds_per_megapixel(upscaler)
        pace.recent.append(seconds / (pixels / MEGA * samples))
        pace.largest = max(pace.largest, pixels / MEGA)
        now = min(pace.recent)
        if before is None or not 0.8 < now / before < 1.25:
            self._keep(upscaler.name, pace)

    async def measure(self, upscaler: Upscaler) -> None:
        """Time one tile, and replace earlier values. Raises UpscalerError."""
        ramp = np.linspace(0, 255, _TRIAL_SIDE, dtype=np.uint8)
        pixels = np.stack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]), axis=2)
        started = time.perf_counter()
        await upscaler.generate(Source(pixels), [0])
        seconds = time.perf_counter() - started
        self._of(upscaler).recent.clear()
        self.note(upscaler, _TRIAL_SIDE**2, 1, seconds)

    def _of(self, upscaler: Upscaler) -> _Pace:
        pace = self._paces.get(upscaler.name)
        if pace is None or pace.fingerprint != upscaler.fingerprint:
            pace = _Pace(upscaler.fingerprint)
            kept = self._kept.get(upscaler.name, {})
            if kept.get("fingerprint") == pace.fingerprint:
                pace.recent.append(kept["seconds_per_megapixel"])
                pace.largest = kept["megapixels"]
            self._paces[upscaler.name] = pace
        return pace

    def _keep(self, name: str, pace: _Pace) -> None:
        self._kept[name] = {
            "fingerprint": pace.fingerprint,
            "seconds_per_megapixel": min(pace.recent),
            "megapixels": pace.largest,
        }
        if self._path is not None:
            with suppress(OSError):  # a full disk costs the next start a measurement
                replace_file(self._path, json.dumps(self._kept).encode())


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    """The stored values; empty if they cannot be read."""
    try:
        found = json.loads(path.read_bytes()) if path is not None else {}
        return {
            str(name): {
                "fingerprint": str(pace["fingerprint"]),
                "seconds_per_megapixel": float(pace["seconds_per_megapixel"]),
                "megapixels": float(pace["megapixels"]),
            }
            for name, pace in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
