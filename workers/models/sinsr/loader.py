"""Reads SinSR's weight files as they are published, and says exactly what does not fit.

Nothing in a file is ever executed: pickles go through PyTorch's weights-only reader, which
knows tensors and plain containers and refuses everything else.
"""

from collections.abc import Mapping

import torch
from torch import nn

from workers.errors import WeightsError

# What wrappers of a network put in front of every key, in any order and number.
PREFIXES = ("module.", "_orig_mod.")

# Derived tables, stored in the noise predictor's files. They may have been averaged during
# training, and are computed again from the configuration.
DERIVED = ("relative_position_index", "attn_mask")

# The training loss, stored in the autoencoder's original files.
LOSS = "loss."


def fit(network: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Give `network` the tensors of `state` as its parameters, in float32.

    The network may live on the "meta" device: tensors are taken over, not copied. Prefixes of
    wrappers are removed, derived tables and loss terms skipped; the rest must match the
    network's parameters exactly, name by name and shape by shape.

    Args:
        network: what to fill.
        state: the checkpoint's tensors, from `workers.weights.read_state`.
        origin: how to call the checkpoint in an error.

    Raises:
        WeightsError: names every missing, unexpected and misshaped key.
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
