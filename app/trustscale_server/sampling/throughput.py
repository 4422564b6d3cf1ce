"""How long samples, answers and pairs take, estimated from earlier ones."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.stores.files import replace_file
from trustscale_server.upscalers.base import Source, Upscaler

_MEGA: Final = 1e6

# Side of the first measurement in pixels: one tile.
_TRIAL_SIDE: Final = 256
# The fastest of the newest counts: the others shared the machine, or were small beside fixed costs.
_RECENT: Final = 16
# Network calls have fixed costs: small pictures say nothing of those more than four times as large.
_MUCH_LARGER: Final = 4


@dataclass(slots=True)
class _Pace:
    """Recent seconds per megapixel of one model, and its largest input in megapixels."""

    fingerprint: str
    work: str
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    largest: float = 0.0

    @property
    def seconds(self) -> float:
        return min(self.recent) if self.work == _SAMPLES else median(self.recent)


_SAMPLES: Final = "samples"
"""Work whose pace is that of the fastest input: its samples alone."""

ANSWERS: Final = "answers"
"""Work whose pace is usual: a whole answer, with as many samples as it has."""

PAIRS: Final = "pairs"
"""Work whose pace is usual: all that a calibration does for a pair, while others are measured."""


class Throughput:
    """Measures seconds per megapixel of input and sample, by upscaler and fingerprint.

    path: keeps them for the next process. Each `work` has a pace of its own.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept = _read(path)
        self._paces: dict[str, _Pace] = {}

    def seconds_per_megapixel(self, upscaler: Upscaler, work: str = _SAMPLES) -> float | None:
        """Return the seconds per megapixel of input and sample, or None if not known yet."""
        pace = self._of(upscaler, work)
        return pace.seconds if pace.recent else None

    def estimate(
        self, upscaler: Upscaler, pixels: int, samples: int, work: str = _SAMPLES
    ) -> float | None:
        """Return the seconds that this number of samples of an input takes, or None."""
        pace = self._of(upscaler, work)
        megapixels = pixels / _MEGA
        is_known = upscaler.capabilities.by_tiles or megapixels <= _MUCH_LARGER * pace.largest
        if not (pace.recent and is_known):
            return None
        return pace.seconds * megapixels * samples

    def note(
        self, upscaler: Upscaler, pixels: int, samples: int, seconds: float, work: str = _SAMPLES
    ) -> None:
        """Record how long the samples of an input took, unless some were there before."""
        if isinstance(upscaler, KeptSamples) and upscaler.has_reused:
            return
        pace = self._of(upscaler, work)
        before = pace.seconds if pace.recent else None
        pace.recent.append(seconds / (pixels / _MEGA * samples))
        pace.largest = max(pace.largest, pixels / _MEGA)
        if before is None or not 0.8 < pace.seconds / before < 1.25:
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

    def _of(self, upscaler: Upscaler, work: str = _SAMPLES) -> _Pace:
        key = f"{upscaler.name}:{work}"  # no name of an upscaler holds a colon
        pace = self._paces.get(key)
        if pace is None or pace.fingerprint != upscaler.fingerprint:
            pace = _Pace(upscaler.fingerprint, work)
            stored = self._kept.get(key, {})
            if stored.get("fingerprint") == pace.fingerprint:
                pace.recent.append(stored["seconds_per_megapixel"])
                pace.largest = stored["megapixels"]
            self._paces[key] = pace
        return pace

    def _keep(self, name: str, pace: _Pace) -> None:
        self._kept[f"{name}:{pace.work}"] = {
            "fingerprint": pace.fingerprint,
            "seconds_per_megapixel": pace.seconds,
            "megapixels": pace.largest,
        }
        if self._path is not None:
            with suppress(OSError):  # a full disk costs the next start a measurement
                # In the event loop, which must not wait for the disk.
                replace_file(self._path, json.dumps(self._kept).encode(), durable=False)


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    """The stored values; empty where they cannot be read."""
    try:
        stored = json.loads(path.read_bytes()) if path is not None else {}
        return {
            str(name): {
                "fingerprint": str(pace["fingerprint"]),
                "seconds_per_megapixel": float(pace["seconds_per_megapixel"]),
                "megapixels": float(pace["megapixels"]),
            }
            for name, pace in stored.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
