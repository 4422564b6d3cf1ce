"""The interface of every model to the service; all engines by kind, and finding their files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.embedded.tiles import SampleCancelled
from trustscale_worker.errors import ClientGone, WeightsError
from trustscale_worker.settings import EngineSpec

ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "diffusers": "trustscale_worker.models.diffusion.engine:DiffusionEngine",
        "sinsr": "trustscale_worker.models.sinsr.engine:SinSREngine",
        "spandrel": "trustscale_worker.models.community:CommunityEngine",
        "onnx": "trustscale_worker.models.onnx:OnnxEngine",
    }
)
"""Their classes, imported on demand."""

# Among files with one stem the first suffix, the safest, wins.
_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class SampleRequest:
    """One image and the seeds of the samples wanted.

    image: [h, w, 3] of 8 or 16 bits; samples are as deep.
    seeds: int64[M]; each alone decides its sample.
    cancelled: called between model evaluations; once true, the job is abandoned.
    """

    image: RGB
    seeds: NDArray[np.int64]
    cancelled: Callable[[], bool] = lambda: False


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

    One thread at a time calls it. Same image, seed and fingerprint: same sample, whatever else the
    call asks for.

    Attributes:
        scale: result side / input side, an integer of at least 1.
        fingerprint: of everything that decides its pixels: the engine and its code's revision, the
            weights, the precision, every parameter that affects the result. Not of what only
            changes rounding: device, batch, memory layout, compilation.
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
        """Make samples [M, k*h, k*w, 3], as deep as the image [h, w, 3], for seeds int64[M].

        Raises OutOfMemory.
        """
        [result] = self.samples_of([SampleRequest(image, seeds)])
        return result

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """Load the engine that `spec` describes.

        Raises:
            ConfigError: unusable settings.
            WeightsError: a weight file is missing, damaged, unsafe or of another network.
        """
        raise NotImplementedError

    @abstractmethod
    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[RGB]:
        """Make samples of several images of one size; a cancelled job's pixels are undefined.

        Raises:
            ClientGone: all jobs were cancelled.
            OutOfMemory: not even one sample fits.
        """

    @abstractmethod
    def memory(self) -> DeviceMemory: ...


class OneByOneEngine(Engine):
    """Makes its samples one at a time; of seeds equal modulo `distinct_samples` only one runs.

    A deterministic model is sampled through its symmetries (`upscalers/base.py`); one that
    sees no colour has only the 8 geometric ones. A model that draws at random takes the seed as it
    is.
    """

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[RGB]:
        results = [self._job(job) for job in jobs]
        stop_if_alone(jobs)
        return results

    @abstractmethod
    def _sample(self, image: RGB, seed: int, cancelled: Callable[[], bool]) -> RGB:
        """The sample of one seed below `distinct_samples`, [h, w, 3] -> [k*h, k*w, 3] as deep.

        Raises:
            SampleCancelled: `cancelled` returned true between two evaluations.
        """

    def _job(self, job: SampleRequest) -> RGB:
        height, width = job.image.shape[:2]
        k, order = self.scale, self.distinct_samples
        result = np.empty((len(job.seeds), k * height, k * width, 3), job.image.dtype)
        rows: dict[int, int] = {}
        for row, job_seed in enumerate(job.seeds):
            seed = int(job_seed) if order is None else int(job_seed) % order
            if seed in rows:
                result[row] = result[rows[seed]]
                continue
            try:
                result[row] = self._sample(job.image, seed, job.cancelled)
            except SampleCancelled:
                break
            rows[seed] = row
        return result


def host_memory() -> DeviceMemory:
    """Return the used and total memory of the machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    return DeviceMemory("cpu", total - page * os.sysconf("SC_AVPHYS_PAGES"), total)


def load_engine(spec: EngineSpec) -> Engine:
    """Load the engine that `spec` describes; errors as of `Engine.load`."""
    if not spec.model:
        raise ConfigError(f"give --model or WORKER_MODEL: one of {', '.join(ENGINES)}")
    if spec.model not in ENGINES:
        raise ConfigError(f"model {spec.model!r}: expected one of {', '.join(ENGINES)}")
    if spec.weights is not None and spec.weights.is_dir():
        weights, autoencoder = locate(spec.model, spec.weights)
        spec = replace(spec, weights=weights, autoencoder=spec.autoencoder or autoencoder)
    kind: type[Engine] = resolve_name(ENGINES[spec.model])
    return kind.load(spec)


def locate(model: str, folder: Path) -> tuple[Path, Path | None]:
    """Find the weights of a kind of engine in a folder, and SinSR's autoencoder.

    Raises:
        WeightsError: nothing fits, or more than one thing does.
    """
    if model == "diffusers":
        return _pipeline(folder), None
    if model == "onnx":
        return _only(_files(folder, (".onnx",)), folder, "model file (.onnx)"), None
    checkpoints = _files(folder, _CHECKPOINTS)
    if model == "spandrel":
        return _only(checkpoints, folder, "model file (.safetensors or .pth)"), None
    codecs = [path for path in checkpoints if path.stem.startswith(("autoencoder", "vq"))]
    networks = [path for path in checkpoints if path not in codecs]
    return (
        _only(networks, folder, "network of SinSR (SinSR_v2.pth)"),
        _only(codecs, folder, "autoencoder of SinSR (autoencoder_vq_f4.pth)"),
    )


def _pipeline(folder: Path) -> Path:
    if (folder / "model_index.json").is_file():
        return folder
    inner = sorted(path.parent for path in folder.glob("*/model_index.json"))
    return _only(inner, folder, "pipeline (a folder with model_index.json)")


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The folder's files with one of the suffixes; of those with one stem the first suffix's."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix in suffixes]
    except OSError as error:
        raise WeightsError(f"{folder}: {error.strerror or error}") from error
    paths.sort(key=lambda path: (path.stem, suffixes.index(path.suffix)))
    return list({path.stem: path for path in reversed(paths)}.values())[::-1]


def _only(paths: Sequence[Path], folder: Path, kind: str) -> Path:
    if not paths:
        raise WeightsError(
            f"{folder} holds no {kind}; `trustscale models list` names the files of each model "
            "and where they are from"
        )
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise WeightsError(f"{folder} holds more than one {kind}: {names}; name one of them")
    return paths[0]
