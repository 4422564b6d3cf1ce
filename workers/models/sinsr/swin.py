"""Swin layers of SinSR's noise predictor (Wang et al. 2024).

Three differences from Liu et al. (2021): normalisation is GroupNorm over the whole map, a layer has
no residual, and the mask of shifted blocks covers only the last *row* of windows, where it
separates tokens by *column*.
"""

import torch
from torch import nn
from torch.nn import functional

from workers.models.sinsr.config import UNetConfig
from workers.models.sinsr.layers import GroupNorm, named

UNET_NORM_EPS = 1e-5

# Added to masked logits, as in training.
MASKED = -100.0


def relative_positions(window: int) -> torch.Tensor:
    """Row of the bias table for every pair of tokens, int64[window², window²]."""
    side = torch.arange(window, device="cpu")  # a value even while weights are only planned
    row, column = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="ij"))
    rows = row[:, None] - row[None, :] + window - 1
    columns = column[:, None] - column[None, :] + window - 1
    return rows * (2 * window - 1) + columns


def last_row_mask(window: int, shift: int) -> torch.Tensor:
    """What a shifted block adds to the logits in its last row of windows.

    float32[window², window²]: 0 within the left `window - shift` columns and within the rest, -100
    between the two.
    """
    left = (torch.arange(window, device="cpu") < window - shift).repeat(window)
    return torch.where(left[:, None] == left[None, :], 0.0, MASKED)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias per relative position."""

    index: torch.Tensor
    mask: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads = heads
        self.shift = shift
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("index", relative_positions(window), persistent=False)
        self.register_buffer("mask", last_row_mask(window, shift), persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, window rows, windows per row, window², C] -> same shape."""
        table = self.relative_position_bias_table
        bias = table[self.index].permute(2, 0, 1).to(tokens.dtype)
        if not self.shift:
            return self.proj(self._attend(self.qkv(tokens), bias))
        # Splitting off the last row costs less than a mask per window.
        upper, last = self.qkv(tokens).split([tokens.shape[1] - 1, 1], dim=1)
        parts = [self._attend(last, bias + self.mask.to(bias.dtype))]
        if upper.shape[1]:
            parts.insert(0, self._attend(upper, bias))
        return self.proj(torch.cat(parts, dim=1))

    def _attend(self, qkv: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        *windows, count, width = qkv.shape
        channels = width // 3
        parts = qkv.reshape(-1, count, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        merged = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return merged.transpose(1, 2).reshape(*windows, count, channels)


class SwinBlock(nn.Module):
    """Window attention, then an MLP, each normalised before and added to its input."""

    def __init__(self, config: UNetConfig, nominal: int, *, shifted: bool) -> None:
        super().__init__()
        channels = config.swin_embed_dim
        # By the nominal resolution: levels no larger than a window never shift.
        self.window = min(config.window_size, nominal)
        self.shift = self.window // 2 if shifted and nominal > config.window_size else 0
        self.norm1 = GroupNorm(channels, UNET_NORM_EPS)
        self.attn = WindowAttention(
            channels, channels // config.num_head_channels, self.window, self.shift
        )
        self.norm2 = GroupNorm(channels, UNET_NORM_EPS)
        hidden = int(channels * config.mlp_ratio)
        self.mlp = named(
            fc1=nn.Conv2d(channels, hidden, 1),
            activation=nn.GELU(),  # the exact one (erf)
            fc2=nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] with sides divisible by the window -> same shape."""
        x = x + self._attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        side = self.window
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(2, 3))
        grid = x.reshape(batch, channels, height // side, side, width // side, side)
        tokens = grid.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)
        tokens = self.attn(tokens)
        grid = tokens.unflatten(3, (side, side)).permute(0, 5, 1, 3, 2, 4)
        x = grid.reshape(batch, channels, height, width)
        return x.roll((self.shift, self.shift), dims=(2, 3)) if self.shift else x


def swin_layer(config: UNetConfig, channels: int, nominal: int) -> nn.Sequential:
    """Swin blocks between two 1×1 convolutions, [B, channels, H, W] -> same shape.

    `nominal` is the level's nominal resolution.
    """
    inner = config.swin_embed_dim
    blocks = (SwinBlock(config, nominal, shifted=bool(i % 2)) for i in range(config.swin_depth))
    return named(
        patch_embed=named(proj=nn.Conv2d(channels, inner, 1)),
        blocks=nn.Sequential(*blocks),
        patch_unembed=named(proj=nn.Conv2d(inner, channels, 1)),
    )
