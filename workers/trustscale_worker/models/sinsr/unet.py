"""SinSR's noise predictor: a UNet with Swin layers, named as in the published checkpoints.

The Swin layers differ from Liu et al. (2021) in three ways: normalisation is GroupNorm over the
whole map, a layer has no residual, and the mask of shifted blocks covers only the last *row* of
windows, where it separates tokens by *column*.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from trustscale_worker.models.sinsr.config import UNetConfig
from trustscale_worker.models.sinsr.layers import (
    GroupNorm,
    hold_compute_weights,
    named_layers,
    upsample,
)

_UNET_NORM_EPS = 1e-5


def relative_positions(window: int) -> torch.Tensor:
    """Return the bias table's row for every pair of tokens, int64[window², window²]."""
    side = torch.arange(window, device="cpu")  # a value even while weights are only planned
    row, column = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="ij"))
    rows = row[:, None] - row[None, :] + window - 1
    columns = column[:, None] - column[None, :] + window - 1
    return rows * (2 * window - 1) + columns


def last_row_mask(window: int, shift: int) -> torch.Tensor:
    """Return what a shifted block adds to the logits in its last row of windows.

    float32[window², window²]: 0 within the left `window - shift` columns and within the rest, -100
    between the two.
    """
    left = (torch.arange(window, device="cpu") < window - shift).repeat(window)
    return torch.where(left[:, None] == left[None, :], 0.0, -100.0)


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
        """Compute [B, window rows, windows per row, window², C] -> same shape."""
        table = self.relative_position_bias_table
        bias = table[self.index].permute(2, 0, 1).to(tokens.dtype)
        if not self.shift:
            return self.proj(self._attend(self.qkv(tokens), bias))
        # Splitting off the last row costs less than a mask per window.
        upper, last = self.qkv(tokens).split([tokens.shape[1] - 1, 1], dim=1)
        results = [self._attend(last, bias + self.mask.to(bias.dtype))]
        if upper.shape[1]:
            results.insert(0, self._attend(upper, bias))
        return self.proj(torch.cat(results, dim=1))

    def _attend(self, qkv: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        *windows, count, width = qkv.shape
        channels = width // 3
        heads = qkv.reshape(-1, count, 3, self.heads, channels // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
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
        self.norm1 = GroupNorm(channels, _UNET_NORM_EPS)
        self.attn = WindowAttention(
            channels, channels // config.num_head_channels, self.window, self.shift
        )
        self.norm2 = GroupNorm(channels, _UNET_NORM_EPS)
        hidden = int(channels * config.mlp_ratio)
        self.mlp = named_layers(
            fc1=nn.Conv2d(channels, hidden, 1),
            activation=nn.GELU(),
            fc2=nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute [B, C, H, W], sides divisible by the window -> same shape."""
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
    """Make Swin blocks between two 1×1 convolutions, [B, channels, H, W] -> same shape.

    `nominal` is the level's nominal resolution.
    """
    inner = config.swin_embed_dim
    blocks = (SwinBlock(config, nominal, shifted=bool(i % 2)) for i in range(config.swin_depth))
    return named_layers(
        patch_embed=named_layers(proj=nn.Conv2d(channels, inner, 1)),
        blocks=nn.Sequential(*blocks),
        patch_unembed=named_layers(proj=nn.Conv2d(inner, channels, 1)),
    )


def timestep_embedding(timesteps: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the sinusoidal embedding, cosine half first: int64[B] -> float32[B, channels]."""
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    frequency = torch.exp(-math.log(10000) * steps / half)
    angle = timesteps[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ResBlock(nn.Module):
    """Two convolutions; the time embedding scales and shifts between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm(inputs, _UNET_NORM_EPS),
            nn.SiLU(inplace=True),
            nn.Conv2d(inputs, outputs, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs))
        # The Identity replaces training's dropout: indices are part of the keys.
        self.out_layers = nn.Sequential(
            GroupNorm(outputs, _UNET_NORM_EPS),
            nn.SiLU(inplace=True),
            nn.Identity(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Compute [B, outputs, H, W] from x [B, inputs, H, W] and embedding [B, E]."""
        hidden = self.in_layers(x)
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        hidden = torch.addcmul(shift, norm(hidden), 1 + scale)
        for layer in rest:
            hidden = layer(hidden)
        return self.skip_connection(x) + hidden


class Stage(nn.Sequential):
    """Layers in a row; residual blocks get the time embedding."""

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Compute the last layer's output from x [B, C, H, W] and embedding [B, E]."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Predicts the clean latent from a noisy one and the low-resolution image."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        width = config.model_channels
        self._embedding = 4 * width
        self.time_embed = nn.Sequential(
            nn.Linear(width, self._embedding),
            nn.SiLU(),
            nn.Linear(self._embedding, self._embedding),
        )
        self.input_blocks, skips = self._encoder()
        deepest = len(config.channel_mult) - 1
        bottom = skips[-1]
        self.middle_block = Stage(
            self._res(bottom, bottom),
            swin_layer(config, bottom, config.image_size >> deepest),
            self._res(bottom, bottom),
        )
        self.output_blocks = self._decoder(skips)
        top = width * config.channel_mult[0]
        self.out = nn.Sequential(
            GroupNorm(top, _UNET_NORM_EPS),
            nn.SiLU(inplace=True),
            nn.Conv2d(top, config.out_channels, 3, padding=1),
        )

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Compute the blocks in `dtype`; time embedding and last layer stay float32."""
        for blocks in (self.input_blocks, self.middle_block, self.output_blocks):
            hold_compute_weights(blocks, dtype)
        self.compute_dtype = dtype

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the predicted clean latent float32[B, 3, H, W], not clamped.

        Args:
            x: float32[B, 6, H, W], the scaled noisy latent, then the low-resolution image in [-1,
                1]; sides divisible by `config.size_multiple`.
            timesteps: int64[B], or [1].
        """
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.model_channels))
        embedding = embedding.to(self.compute_dtype)
        hidden = x.to(self.compute_dtype)
        skips = []
        for stage in self.input_blocks:
            hidden = stage(hidden, embedding)
            skips.append(hidden)
        hidden = self.middle_block(hidden, embedding)
        for stage in self.output_blocks:
            hidden = stage(torch.cat([hidden, skips.pop()], dim=1), embedding)
        return self.out(hidden.float())

    def _res(self, inputs: int, outputs: int) -> ResBlock:
        return ResBlock(inputs, outputs, self._embedding)

    def _swin(self, channels: int, level: int, block: int) -> list[nn.Module]:
        # Only the first block of a level, in either direction, is followed by Swin.
        nominal = self.config.image_size >> level
        if block == 0 and nominal in self.config.attention_resolutions:
            return [swin_layer(self.config, channels, nominal)]
        return []

    def _encoder(self) -> tuple[nn.ModuleList, list[int]]:
        """The input path, and the width of every skip in order."""
        config = self.config
        width = config.model_channels
        stages = [Stage(nn.Conv2d(config.in_channels, width, 3, padding=1))]
        skips = [width]
        for level, factor in enumerate(config.channel_mult):
            if level:
                halving = nn.Conv2d(skips[-1], skips[-1], 3, stride=2, padding=1)
                stages.append(Stage(named_layers(op=halving)))
                skips.append(skips[-1])
            outputs = width * factor
            for block in range(config.num_res_blocks[level]):
                stages.append(
                    Stage(self._res(skips[-1], outputs), *self._swin(outputs, level, block))
                )
                skips.append(outputs)
        return nn.ModuleList(stages), skips

    def _decoder(self, skips: list[int]) -> nn.ModuleList:
        """The output path: one block more per level, each taking one skip."""
        config = self.config
        remaining = list(skips)
        channels = skips[-1]
        stages = []
        for level in reversed(range(len(config.channel_mult))):
            outputs = config.model_channels * config.channel_mult[level]
            for block in range(config.num_res_blocks[level] + 1):
                stage = Stage(
                    self._res(channels + remaining.pop(), outputs),
                    *self._swin(outputs, level, block),
                )
                channels = outputs
                if level and block == config.num_res_blocks[level]:
                    stage.append(upsample(outputs))
                stages.append(stage)
        return nn.ModuleList(stages)
