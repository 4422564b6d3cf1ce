"""The interface of every model to the service."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from app.upscalers.base import RGB
from app.upscalers.tiling import Stopped
from workers.errors import ClientGone


@dataclass(frozen=True)
class EngineSpec:
    """What to load, and how; each engine reads the fields that concern it."""

    model: str
    """Kind of engine: a key of `ENGINES`."""

    weights: Path | None = None
    """The model's weight file, or its folder; onnx: by default the shipped one."""

    autoencoder: Path | None = None
    """SinSR: the autoencoder's weight file; found when `weights` is a folder."""

    config: str | Path | dict[str, Any] = "official"
    """SinSR: "official", or hyper-parameters; diffusers: settings. JSON, or a file of it."""

    name: str | None = None
    """The model's name in URLs; by default that of the file or folder."""

    device: str = "cpu"
    """ "cpu", "cuda" or "cuda:N"."""

    dtype: str = "float32"
    """Precision of the networks: "float32", "float16" or "bfloat16"."""

    compiled: bool = False
    """SinSR: compile the networks on first use of an image size."""

    batch: int | None = None
    """SinSR, diffusers: most samples at a time; by default as free memory allows."""

    tile: int | None = None
    """diffusers, spandrel, onnx: side of the tiles of larger images."""

    halo: int | None = None
    """onnx: how far tiles overlap, at least the radius of the network."""

    threads: int | None = None
    """Threads on a CPU; by default one per core."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """From another server's files: some of our options, and `model` and `weights`."""
        return cls(**{**settings, "weights": Path(settings["weights"])})  # type: ignore[arg-type]


@dataclass(frozen=True)
class SampleRequest:
    """One image and the seeds of the samples wanted."""

    image: RGB
    """[h, w, 3], RGB of 8 or 16 bits; samples are as deep."""

    seeds: NDArray[np.int64]
    """int64[M]; each seed decides its sample alone."""

    cancelled: Callable[[], bool] = lambda: False
    """Asked between model evaluations; once true, the job is abandoned."""


def stop_if_alone(jobs: Sequence[SampleRequest]) -> None:
    """Raise ClientGone if all jobs were cancelled."""
    if all(job.cancelled() for job in jobs):
        raise ClientGone("nobody waits for these samples any more")


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of the model's device, in bytes; None if unknown."""

    device: str
    used: int | None
    total: int | None


class Engine(ABC):
    """A loaded model that gives samples of an image.

    Engines are called from one thread at a time. Same image, seed and fingerprint: same sample,
    whatever else the call asks for.

    Attributes:
        name: the model's name in URLs.
        scale: result side / input side, an integer of at least 1.
        fingerprint: identity of what decides the pixels; see `fingerprint_of`.
        distinct_samples: the number of different samples; None: no limit.
        together: up to how many samples are cheaper in one call than in several.
    """

    def __init__(
        self,
        name: str,
        scale: int,
        fingerprint: str,
        *,
        distinct_samples: int | None = None,
        together: int = 1,
    ) -> None:
        self.name = name
        self.scale = scale
        self.fingerprint = fingerprint
        self.distinct_samples = distinct_samples
        self.together = together

    def samples(self, image: RGB, seeds: NDArray[np.int64]) -> RGB:
        """From [h, w, 3] and int64[M] to [M, k*h, k*w, 3] as deep.

        Raises:
            OutOfMemory: not even one sample fits.
        """
        [result] = self.samples_of([SampleRequest(image, seeds)])
        return result

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """The engine that `spec` describes.

        Raises:
            ConfigError: settings that it cannot work with.
            WeightsError: a weight file is missing, damaged, unsafe or of another network.
        """
        raise NotImplementedError

    @abstractmethod
    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[RGB]:
        """As `samples`, for several images of one size.

        Cancelled jobs have undefined pixels in the result.

        Raises:
            ClientGone: all jobs were cancelled.
            OutOfMemory: not even one sample fits.
        """

    @abstractmethod
    def memory(self) -> DeviceMemory:
        """The device's memory now."""


class OneByOneEngine(Engine):
    """Makes its samples one at a time.

    A deterministic model is sampled through its symmetries: turn or mirror the image, exchange its
    channels, invert its intensities; run the model; undo the change. The symmetry is `seed % 96`,
    as in the gateway's embedded upscaler; models that see no colour have only the 8 geometric ones.
    A model that draws at random takes the seed as it is. Of seeds that are equal modulo
    `distinct_samples`, only the first costs a run.
    """

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[RGB]:
        """See `Engine.samples_of`."""
        results = [self._job(job) for job in jobs]
        stop_if_alone(jobs)
        return results

    @abstractmethod
    def _sample(self, image: RGB, seed: int, cancelled: Callable[[], bool]) -> RGB:
        """The sample of one seed, [h, w, 3] -> [k*h, k*w, 3] as deep.

        Args:
            image: the input.
            seed: below `distinct_samples`, if that is a number.
            cancelled: see `SampleRequest`.

        Raises:
            Stopped: `cancelled` answered true between two evaluations.
        """

    def _job(self, job: SampleRequest) -> RGB:
        height, width = job.image.shape[:2]
        k, order = self.scale, self.distinct_samples
        result = np.empty((len(job.seeds), k * height, k * width, 3), job.image.dtype)
        made: dict[int, int] = {}
        for row, given in enumerate(job.seeds):
            seed = int(given) if order is None else int(given) % order
            if seed in made:
                result[row] = result[made[seed]]
                continue
            try:
                result[row] = self._sample(job.image, seed, job.cancelled)
            except Stopped:
                break
            made[seed] = row
        return result


def host_memory() -> DeviceMemory:
    """Used and total memory of the machine, for engines on its CPU."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    return DeviceMemory("cpu", total - page * os.sysconf("SC_AVPHYS_PAGES"), total)


def fingerprint_of(facts: Mapping[str, object]) -> str:
    """Identity of a model: SHA-256 over everything that decides its pixels, in hexadecimal.

    Facts are the engine and its code's revision, a digest of the weights, the precision and every
    parameter that affects the result. What only changes rounding (device, batch, memory layout,
    compilation) is left out: it is the same function at the same precision.

    Args:
        facts: values that JSON can write.
    """
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
