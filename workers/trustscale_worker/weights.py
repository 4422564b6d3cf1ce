"""Reads and writes weight files; nothing in them is executed.

They are PyTorch checkpoints (through the weights-only reader) or safetensors, which cannot hold
code. The bytes decide, not the suffix.
"""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from trustscale_worker.errors import WeightsError

# Entries in which training scripts put the weights.
_WRAPPERS = ("state_dict", "params_ema", "params", "params-ema", "model")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint by name, on the CPU, without their wrapper.

    Raises:
        WeightsError: unreadable, of neither format, damaged, or holding more than tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _read_safetensors(path)
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise WeightsError(f"{path}: neither a PyTorch checkpoint nor a safetensors file")
    return _read_checkpoint(path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged safetensors file ({error})") from error


def _read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, because it holds more than tensors or is damaged; "
            "nothing in it was executed"
        ) from error
    except Exception as error:  # torch's readers may raise anything on broken bytes
        raise WeightsError(f"{path}: damaged or truncated checkpoint") from error
    return _unwrapped(content, path)


def _unwrapped(content: object, path: Path) -> dict[str, torch.Tensor]:
    for _ in _WRAPPERS:  # nested, but bounded: an entry may contain the whole again
        if isinstance(content, Mapping):
            inner = (content.get(wrapper) for wrapper in _WRAPPERS)
            content = next((mapping for mapping in inner if isinstance(mapping, Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: no tensors in it")
    tensors = {str(key): value for key, value in content.items()}
    unusable = sorted(key for key, value in tensors.items() if not _is_plain(value))
    if unusable:
        raise WeightsError(f"{path}: entries that are no plain tensors: {', '.join(unusable)}")
    return tensors


def _is_plain(value: object) -> bool:
    """Whether it is a dense tensor that stores each of its numbers."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_nested or value.is_quantized)
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a file, which is replaced only when all is written. Raises WeightsError."""
    # The format does not allow shared memory.
    separate = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    try:
        safetensors.torch.save_file(separate, partial, {"format": "pt"})  # some readers ask
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values, in order of names."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha256.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()
