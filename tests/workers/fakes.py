"""Stand-ins for a model, so that the service can be judged without one."""

import os
import threading
import time

import numpy as np

from tests.upscalers.remote.apps.model import textured
from trustscale_worker.errors import ClientGone
from trustscale_worker.models.engine import DeviceMemory, Engine, load_engine
from trustscale_worker.settings import EngineSpec


def load(model, weights=None, **options):
    return load_engine(EngineSpec(model, weights, **options))


def noise(height, width, seed=0):
    """A picture in which every pixel counts: uint8[height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def tiny_sinsr(data, **changes):
    """Options of the command that serves the tiny SinSR; None leaves one out."""
    given = {
        "--model": "sinsr",
        "--weights": data / "unet_tiny.pth",
        "--autoencoder": data / "vq_tiny.pth",
        "--config": data / "tiny.json",
        **changes,
    }
    return [str(word) for option in given.items() if option[1] is not None for word in option]


class Bomb:
    """Pickled, it makes a folder as soon as somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class SleepingEngine(Engine):
    """Sleeps instead of computing, and remembers the sizes of its calls.

    With `shut` a call lasts until the test sets `open`.
    """

    def __init__(self, seconds=0.0, scale=2, together=1, *, shut=False):
        super().__init__("sleeper", scale, "sha256:sleeper", distinct_samples=7, together=together)
        self._seconds = seconds
        self.calls: list[list[int]] = []
        self.cancelled = threading.Event()
        self.open = threading.Event()
        if not shut:
            self.open.set()
        self.error: Exception | None = None

    def samples_of(self, jobs):
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
            np.stack([textured(job.image, int(seed), self.scale) for seed in job.seeds])
            for job in jobs
        ]

    def memory(self):
        return DeviceMemory("fake:0", 10, 100)
