"""Finds the files of a model in a folder of weights, or says in one line what is missing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from workers.errors import WeightsError

__all__ = ["CHECKPOINTS", "locate"]

# What weights are called, the safest format first: of two with one stem it is taken.
CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt")


def locate(model: str, folder: Path) -> tuple[Path, Path | None]:
    """The weights of a kind of model in a folder, and SinSR's autoencoder.

    Args:
        model: kind of engine.
        folder: what `--weights` names.

    Raises:
        WeightsError: nothing fits, or more than one thing does; the text says what to do.
    """
    return _FINDERS[model](folder) if model in _FINDERS else (folder, None)


def _sinsr(folder: Path) -> tuple[Path, Path]:
    found = _files(folder, CHECKPOINTS)
    codecs = [path for path in found if path.stem.startswith(("autoencoder", "vq"))]
    networks = [path for path in found if path not in codecs]
    return (
        _only(networks, folder, "network of SinSR (SinSR_v2.pth)"),
        _only(codecs, folder, "autoencoder of SinSR (autoencoder_vq_f4.pth)"),
    )


def _spandrel(folder: Path) -> tuple[Path, None]:
    return _only(_files(folder, CHECKPOINTS), folder, "model file (.safetensors or .pth)"), None


def _onnx(folder: Path) -> tuple[Path, None]:
    return _only(_files(folder, (".onnx",)), folder, "model file (.onnx)"), None


def _diffusers(folder: Path) -> tuple[Path, None]:
    if (folder / "model_index.json").is_file():
        return folder, None
    inner = sorted(path.parent for path in folder.glob("*/model_index.json"))
    return _only(inner, folder, "pipeline (a folder with model_index.json)"), None


_FINDERS: Mapping[str, Callable[[Path], tuple[Path, Path | None]]] = MappingProxyType(
    {"diffusers": _diffusers, "sinsr": _sinsr, "spandrel": _spandrel, "onnx": _onnx}
)


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The folder's files with one of the suffixes; of those with one stem the first suffix's."""
    try:
        there = [path for path in folder.iterdir() if path.suffix in suffixes]
    except OSError as error:
        raise WeightsError(f"{folder}: {error.strerror or error}") from error
    there.sort(key=lambda path: (path.stem, suffixes.index(path.suffix)))
    return list({path.stem: path for path in reversed(there)}.values())[::-1]


def _only(found: Sequence[Path], folder: Path, what: str) -> Path:
    if not found:
        raise WeightsError(
            f"{folder} holds no {what}; `trustscale models list` tells which files a model needs "
            "and where they are from"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise WeightsError(f"{folder} holds more than one {what}: {names}; name one of them")
    return found[0]
