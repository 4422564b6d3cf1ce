"""The one face that every model shows to the service."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["DeviceMemory", "Engine", "Job", "fingerprint_of"]


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Job:
    """One image and the seeds of the samples wanted of it."""

    image: NDArray[np.uint8]
    """uint8[h, w, 3], RGB."""

    seeds: NDArray[np.int64]
    """int64[M]; each seed decides its sample alone."""

    cancelled: Callable[[], bool] = _never
    """Asked between model evaluations; once true, the job is given up."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of the device that a model runs on, in bytes; None where nobody tells it."""

    device: str
    used: int | None
    total: int | None


class Engine(Protocol):
    """A loaded model that gives samples of an image.

    Engines are called from one thread at a time. Same image, same seed, same fingerprint:
    same sample, whatever else is asked for in the same call.
    """

    @property
    def name(self) -> str:
        """What the model is called in URLs."""
        ...

    @property
    def scale(self) -> int:
        """Result side / input side, an integer of at least 1."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of what decides the pixels; see `fingerprint_of`."""
        ...

    @property
    def distinct_samples(self) -> int | None:
        """How many different samples there can be; None: no limit."""
        ...

    @property
    def together(self) -> int:
        """Up to how many samples are cheaper in one call than in several."""
        ...

    def samples(self, image: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """From uint8[h, w, 3] and int64[M] to uint8[M, k*h, k*w, 3].

        Raises:
            OutOfMemory: not even one sample fits.
        """
        ...

    def samples_of(self, jobs: Sequence[Job]) -> list[NDArray[np.uint8]]:
        """As `samples`, for several images of one size.

        Cancelled jobs have undefined pixels in the result.

        Raises:
            Cancelled: all jobs were.
            OutOfMemory: not even one sample fits.
        """
        ...

    def memory(self) -> DeviceMemory:
        """The device's memory now."""
        ...


def fingerprint_of(facts: Mapping[str, object]) -> str:
    """Identity of a model: SHA-256 over everything that decides its pixels, in hexadecimal.

    Facts are the engine and its code's revision, a digest of the weights, the precision and
    every parameter that enters the result. What only moves rounding (device, batch, memory
    layout, compilation) is left out: it is the same function at the same precision.

    Args:
        facts: values that JSON can write.
    """
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
