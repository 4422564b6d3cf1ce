"""Layers that both networks share: normalisation, exact attention over many positions."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from trustscale_worker.models.sinsr.config import GROUPS

# Largest block of an attention matrix without a memory-efficient kernel.
_ATTENTION_BLOCK_BYTES = 64 * 2**20

# Bytes of a map normalised at a time, per sample: what fits a CPU's cache, or keeps a GPU busy.
_NORM_BLOCK_BYTES = {"cpu": 4 * 2**20, "gpu": 128 * 2**20}


def named_layers(**layers: nn.Module) -> nn.Sequential:
    """Put layers in a row, under their names in the published files."""
    return nn.Sequential(OrderedDict(layers))


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32, whatever the input's type and memory layout.

    PyTorch's channels-last kernel on the CPU computes the variance as a difference of large sums
    (errors of 3e-5 in maps of this size; the network is specified to 1e-4), and a float32 copy of a
    half precision map would need more memory than all else. So this takes rows in blocks.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(GROUPS, channels, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute [B, C, H, W] of any floating type -> same shape and type, in other memory."""
        batch, channels, height, width = x.shape
        grouped = (batch, self.num_groups, channels // self.num_groups)
        # Not by the batch, so that a sample's sums do not depend on the others.
        block = _NORM_BLOCK_BYTES["cpu" if x.device.type == "cpu" else "gpu"]
        rows = max(1, block // (4 * channels * width))
        means = x.mean(dim=(2, 3), dtype=torch.float32)
        squares = torch.zeros_like(means)
        for strip in x.split(rows, dim=2):  # type: ignore[no-untyped-call]
            squares += (strip - means[:, :, None, None]).square_().sum(dim=(2, 3))
        # Variance of a group: within its channels, plus that of its channels' means.
        means = means.view(grouped)
        center = means.mean(dim=2, keepdim=True)
        spread = squares.view(grouped) / (height * width) + (means - center).square()
        scale = (spread.mean(dim=2, keepdim=True) + self.eps).rsqrt() * self.weight.view(
            grouped[1:]
        )
        shift = (self.bias.view(grouped[1:]) - center * scale).view(batch, channels, 1, 1)
        scale = scale.view(batch, channels, 1, 1)
        result = torch.empty_like(x)
        blocks = zip(x.split(rows, dim=2), result.split(rows, dim=2), strict=True)  # type: ignore[no-untyped-call]
        for strip, target in blocks:
            target.copy_(torch.addcmul(shift, strip, scale))
        return result


def upsample(channels: int) -> nn.Sequential:
    """Double both sides by repetition, then convolve: [B, C, H, W] -> [B, C, 2H, 2W]."""
    return named_layers(
        repeat=nn.Upsample(scale_factor=2.0, mode="nearest"),
        conv=nn.Conv2d(channels, channels, 3, padding=1),
    )


def hold_compute_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights of convolutions and linear layers as `dtype`, others as float32."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(dtype)


def global_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Compute softmax(q kᵀ / sqrt(C)) v over N positions, one head, without an N×N matrix.

    All are [B, N, C]; C may be 512, more than flash kernels take.
    """
    if query.is_cuda and _has_efficient_kernel(query, key, value):
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            return functional.scaled_dot_product_attention(
                query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
            ).squeeze(1)
    # The dispatcher's fallback has the whole matrix: 137 GB for a 512×512 tile in half precision.
    positions = query.shape[1]
    block = max(1, _ATTENTION_BLOCK_BYTES // (positions * query.element_size()))
    scale = query.shape[2] ** -0.5
    result = torch.empty_like(query)
    for item in range(len(query)):
        transposed = key[item].mT * scale
        for first in range(0, positions, block):
            rows = slice(first, first + block)
            weights = (query[item, rows] @ transposed).softmax(dim=-1)
            torch.mm(weights, value[item], out=result[item, rows])
    return result


def _has_efficient_kernel(*tensors: torch.Tensor) -> bool:
    query, key, value = (tensor.unsqueeze(1) for tensor in tensors)
    params = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, False, False)
    return bool(torch.backends.cuda.can_use_efficient_attention(params))
