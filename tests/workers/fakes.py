"""Stand-ins for a model, so that the service can be judged without one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.workers.apps.toy import expected
from workers.errors import ClientGone
from workers.models.engine import DeviceMemory, Engine, EngineSpec, SampleRequest
from workers.models.registry import load_engine


def load(model: str, weights: Path | None = None, **options: Any) -> Any:
    """An engine of that kind."""
    return load_engine(EngineSpec(model, weights, **options))


class Bomb:
    """Pickled, it makes a folder as soon as somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class SleepingEngine(Engine):
    """Sleeps instead of computing, and remembers the sizes of its calls.

    With `shut` a call lasts until the test sets `open`.
    """

    def __init__(
        self, seconds: float = 0.0, scale: int = 2, together: int = 1, *, shut: bool = False
    ) -> None:
        super().__init__("sleeper", scale, "sha256:sleeper", distinct_samples=7, together=together)
        self._seconds = seconds
        self.calls: list[list[int]] = []
        self.cancelled = threading.Event()
        self.open = threading.Event()
        if not shut:
            self.open.set()
        self.error: Exception | None = None

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[NDArray[np.uint8]]:
        self.calls.append([len(job.seeds) for job in jobs])
        if self.error is not None and any(13 in job.seeds for job in jobs):
            raise self.error
        end = time.monotonic() + self._seconds
        while time.monotonic() < end or not self.open.is_set():
            if all(job.cancelled() for job in jobs):
                self.cancelled.set()
                raise ClientGone("nobody waits")
            time.sleep(0.005)
        return [
            np.stack([expected(job.image, int(seed), self.scale) for seed in job.seeds])
            for job in jobs
        ]

    def memory(self) -> DeviceMemory:
        return DeviceMemory("fake:0", 10, 100)
