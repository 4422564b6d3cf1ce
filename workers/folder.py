"""Finds the files of a model in a folder of weights, or says in one line what is missing."""

from collections.abc import Sequence
from pathlib import Path

from workers.errors import WeightsError

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
