"""All engines by kind, and finding their files in a folder of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType

from workers.errors import ConfigError, WeightsError
from workers.models.engine import Engine, EngineSpec

ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "diffusers": "workers.models.diffusion.engine:DiffusionEngine",
        "sinsr": "workers.models.sinsr.engine:SinSREngine",
        "spandrel": "workers.models.community:CommunityEngine",
        "onnx": "workers.models.onnx:OnnxEngine",
    }
)
"""Their classes, imported on demand."""

# Among files with one stem the first suffix, the safest, wins.
CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt")


def load_engine(spec: EngineSpec) -> Engine:
    """The engine that `spec` describes; errors as of `Engine.load`."""
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
    """The weights of a kind of engine in a folder, and SinSR's autoencoder.

    Raises:
        WeightsError: nothing fits, or more than one thing does.
    """
    if model == "diffusers":
        return _pipeline(folder), None
    if model == "onnx":
        return _only(_files(folder, (".onnx",)), folder, "model file (.onnx)"), None
    found = _files(folder, CHECKPOINTS)
    if model == "spandrel":
        return _only(found, folder, "model file (.safetensors or .pth)"), None
    codecs = [path for path in found if path.stem.startswith(("autoencoder", "vq"))]
    networks = [path for path in found if path not in codecs]
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
        found = [path for path in folder.iterdir() if path.suffix in suffixes]
    except OSError as error:
        raise WeightsError(f"{folder}: {error.strerror or error}") from error
    found.sort(key=lambda path: (path.stem, suffixes.index(path.suffix)))
    return list({path.stem: path for path in reversed(found)}.values())[::-1]


def _only(found: Sequence[Path], folder: Path, what: str) -> Path:
    if not found:
        raise WeightsError(
            f"{folder} holds no {what}; `trustscale models list` names the files of each model "
            "and where they are from"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise WeightsError(f"{folder} holds more than one {what}: {names}; name one of them")
    return found[0]
