"""All engines that a worker can start, by kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from workers.errors import ConfigError
from workers.files import read_json, validated
from workers.folder import locate
from workers.models.engine import Engine

__all__ = ["ENGINES", "EngineSpec", "load_engine"]


@dataclass(frozen=True)
class EngineSpec:
    """What to load, and how; each engine reads the fields that concern it."""

    model: str
    """Kind of engine: a key of `ENGINES`."""

    weights: Path | None = None
    """The model's weight file, or a folder with it; onnx: by default the one that is shipped."""

    autoencoder: Path | None = None
    """SinSR: the autoencoder's weight file; found when `weights` is a folder."""

    config: str | Path | dict[str, Any] = "official"
    """SinSR: "official", or hyper-parameters; diffusers: settings. JSON, or a file of it."""

    name: str | None = None
    """What to call the model in URLs; by default the engine's own choice."""

    device: str = "cpu"
    dtype: str = "float32"

    compiled: bool = False
    """SinSR: compile the networks."""

    batch: int | None = None
    """SinSR, diffusers: most samples at a time; by default as free memory allows."""

    tile: int | None = None
    """diffusers, spandrel, onnx: side of the parts that larger images are worked on in."""

    halo: int | None = None
    """onnx: how far the parts overlap."""

    threads: int | None = None
    """Threads on a CPU; by default one per core."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "EngineSpec":
        """From what another server's files say: some of our options, and `model` and `weights`."""
        return cls(**{**settings, "weights": Path(settings["weights"])})  # type: ignore[arg-type]


def _sinsr(spec: EngineSpec) -> Engine:
    from workers.models.sinsr import SinSR  # noqa: PLC0415  loads torch only when needed
    from workers.models.sinsr.engine import SinSREngine  # noqa: PLC0415

    if spec.weights is None or spec.autoencoder is None:
        raise ConfigError(
            "sinsr needs two weight files: give --weights and --autoencoder, or a folder"
        )
    _use_threads(spec)
    model = SinSR.from_files(
        spec.config,
        spec.weights,
        spec.autoencoder,
        spec.device,
        spec.dtype,
        compiled=spec.compiled,
        batch=spec.batch,
    )
    return SinSREngine(model, spec.name or "sinsr")


def _spandrel(spec: EngineSpec) -> Engine:
    from workers.models.community import TILE, CommunityEngine  # noqa: PLC0415  loads torch

    if spec.weights is None:
        raise ConfigError("spandrel needs a weight file: give --weights")
    _use_threads(spec)
    return CommunityEngine.from_file(
        spec.weights,
        name=spec.name,
        device=spec.device,
        dtype=spec.dtype,
        tile=TILE if spec.tile is None else spec.tile,
    )


def _diffusers(spec: EngineSpec) -> Engine:
    from workers.models.diffusion.engine import DiffusionEngine  # noqa: PLC0415  loads torch
    from workers.models.diffusion.settings import DiffusionSettings  # noqa: PLC0415

    if spec.weights is None:
        raise ConfigError("diffusers needs the folder of a pipeline: give --weights")
    settings = {} if spec.config == "official" else spec.config
    return DiffusionEngine.from_folder(
        spec.weights,
        validated(
            DiffusionSettings, settings if isinstance(settings, dict) else read_json(settings)
        ),
        name=spec.name,
        device=spec.device,
        dtype=spec.dtype,
        tile=spec.tile,
        batch=spec.batch,
        threads=spec.threads,
    )


def _onnx(spec: EngineSpec) -> Engine:
    from workers.models.onnx import OnnxEngine  # noqa: PLC0415  loads onnxruntime

    return OnnxEngine.from_file(
        spec.weights,
        name=spec.name,
        device=spec.device,
        dtype=spec.dtype,
        tile=spec.tile,
        halo=spec.halo,
        threads=spec.threads,
    )


def _use_threads(spec: EngineSpec) -> None:
    import torch  # noqa: PLC0415

    if spec.threads is not None:
        torch.set_num_threads(spec.threads)


ENGINES: Mapping[str, Callable[[EngineSpec], Engine]] = MappingProxyType(
    {"diffusers": _diffusers, "sinsr": _sinsr, "spandrel": _spandrel, "onnx": _onnx}
)


def load_engine(spec: EngineSpec) -> Engine:
    """The engine that `spec` describes, ready to run.

    Raises:
        ConfigError: unknown kind, or settings that the engine cannot work with.
        WeightsError: a weight file is missing, damaged, unsafe or of another network.
    """
    if not spec.model:
        raise ConfigError(f"give --model or WORKER_MODEL: one of {', '.join(ENGINES)}")
    if spec.model not in ENGINES:
        raise ConfigError(f"model {spec.model!r}: expected one of {', '.join(ENGINES)}")
    if spec.weights is not None and spec.weights.is_dir():
        weights, autoencoder = locate(spec.model, spec.weights)
        spec = replace(spec, weights=weights, autoencoder=spec.autoencoder or autoencoder)
    return ENGINES[spec.model](spec)
