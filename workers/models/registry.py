"""All engines that a worker can start, by kind."""

from collections.abc import Mapping
from dataclasses import replace
from pkgutil import resolve_name
from types import MappingProxyType

from workers.errors import ConfigError
from workers.folder import locate
from workers.models.engine import Engine, EngineSpec

ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "diffusers": "workers.models.diffusion.engine:DiffusionEngine",
        "sinsr": "workers.models.sinsr.engine:SinSREngine",
        "spandrel": "workers.models.community:CommunityEngine",
        "onnx": "workers.models.onnx:OnnxEngine",
    }
)
"""Their classes, by name: each is imported when it is asked for, with its libraries."""


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
    kind: type[Engine] = resolve_name(ENGINES[spec.model])
    return kind.load(spec)
