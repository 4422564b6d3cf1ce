"""Fits SinSR's published weights into its networks, or names all that does not fit."""

from collections.abc import Mapping

import torch
from torch import nn

from workers.errors import WeightsError

# Prefixes that wrappers add to every key, in any order and number.
PREFIXES = ("module.", "_orig_mod.")

# Tables in the noise predictor's files, which training may have averaged; they are computed again.
DERIVED = ("relative_position_index", "attn_mask")

# The training loss, in the autoencoder's original files.
LOSS = "loss."


def fit(network: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Give `network`, which may be on the "meta" device, the tensors of `state`, in float32.

    Wrapper prefixes are removed, derived tables and loss terms skipped; the rest must match the
    network's parameters by name and shape.

    Raises:
        WeightsError: names the file `origin` and every missing, unexpected and misshaped key.
    """
    found: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        name = _bare(key)
        if name.rpartition(".")[2] in DERIVED or name.startswith(LOSS):
            continue
        if name in found:
            raise WeightsError(f"{origin}: several entries for {name}")
        found[name] = tensor
    expected = dict(network.named_parameters())
    shared = [name for name in expected if name in found]
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} (is {_size(found[name])}, should be {_size(expected[name])})"
            for name in shared
            if found[name].shape != expected[name].shape
        ],
        "not floating point": [name for name in shared if not found[name].is_floating_point()],
    }
    if any(faults.values()):
        kind = type(network).__name__
        raise WeightsError(
            f"{origin} does not hold the weights of this {kind}: {_listed(faults, None)}",
            f"{origin} does not hold the weights of this {kind}: {_listed(faults, 3)}",
        )
    network.load_state_dict({name: found[name].float() for name in expected}, assign=True)


def _bare(key: str) -> str:
    while key.startswith(PREFIXES):
        for prefix in PREFIXES:
            key = key.removeprefix(prefix)
    return key


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _listed(faults: Mapping[str, list[str]], most: int | None) -> str:
    return "; ".join(
        f"{len(names)} {fault}: {', '.join(names[:most])}"
        + (", …" if most is not None and len(names) > most else "")
        for fault, names in faults.items()
        if names
    )
