"""The vector-quantised autoencoder around SinSR's latent (VQ-f4, Rombach et al. 2022).

Names are those of the published checkpoint. Only decoding quantises (Wang et al. 2024).
"""

import itertools

import torch
from torch import nn
from torch.nn import functional

from trustscale_worker.models.sinsr.config import AutoencoderConfig, CodecConfig
from trustscale_worker.models.sinsr.layers import (
    GroupNorm,
    global_attention,
    hold_compute_weights,
    named_layers,
    upsample,
)

_VQ_NORM_EPS = 1e-6  # not the noise predictor's 1e-5

# Largest block of position-to-code distances.
_DISTANCE_BLOCK_BYTES = 64 * 2**20


class VQResBlock(nn.Module):
    """Two normalised convolutions, added to the (projected) input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(inputs, _VQ_NORM_EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = GroupNorm(outputs, _VQ_NORM_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute [B, inputs, H, W] -> [B, outputs, H, W]."""
        hidden = self.conv1(functional.silu(self.norm1(x), inplace=True))
        hidden = self.conv2(functional.silu(self.norm2(hidden), inplace=True))
        return hidden.add_(self.nin_shortcut(x))


class VQAttention(nn.Module):
    """Single-head attention over all positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, _VQ_NORM_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute [B, C, H, W] -> same shape."""
        hidden = self.norm(x)
        tokens = (layer(hidden).flatten(2).mT.contiguous() for layer in (self.q, self.k, self.v))
        attended = global_attention(*tokens).mT.reshape(x.shape)
        return x + self.proj_out(attended)


def _middle(channels: int) -> nn.Sequential:
    return named_layers(
        block_1=VQResBlock(channels, channels),
        attn_1=VQAttention(channels),
        block_2=VQResBlock(channels, channels),
    )


def _level(widths: list[int], **change: nn.Module) -> nn.Sequential:
    """Residual blocks of one resolution, then an optional change of resolution."""
    blocks = (VQResBlock(*pair) for pair in itertools.pairwise(widths))
    return named_layers(block=nn.Sequential(*blocks), **change)


def _halved(channels: int) -> nn.Sequential:
    """Halves both sides; pads only at the right and the bottom."""
    return named_layers(
        pad=nn.ZeroPad2d((0, 1, 0, 1)), conv=nn.Conv2d(channels, channels, 3, stride=2)
    )


def encoder(config: CodecConfig) -> nn.Sequential:
    """Make the network from image to latent: [B, 3, 4H, 4W] -> [B, z, H, W]."""
    widths = [config.ch, *(config.ch * factor for factor in config.ch_mult)]
    levels: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        is_last = len(levels) == len(config.ch_mult) - 1
        change = {} if is_last else {"downsample": _halved(outputs)}
        levels.append(_level([inputs] + [outputs] * config.num_res_blocks, **change))
    return named_layers(
        conv_in=nn.Conv2d(config.in_channels, config.ch, 3, padding=1),
        down=nn.Sequential(*levels),
        mid=_middle(widths[-1]),
        norm_out=GroupNorm(widths[-1], _VQ_NORM_EPS),
        activation=nn.SiLU(inplace=True),
        conv_out=nn.Conv2d(widths[-1], config.z_channels, 3, padding=1),
    )


def decoder(config: CodecConfig) -> nn.Sequential:
    """Make the network from latent to image: [B, z, H, W] -> [B, 3, 4H, 4W]."""
    deepest = channels = config.ch * config.ch_mult[-1]
    levels = {}
    for index in reversed(range(len(config.ch_mult))):
        outputs = config.ch * config.ch_mult[index]
        change = {"upsample": upsample(outputs)} if index else {}
        widths = [channels] + [outputs] * (config.num_res_blocks + 1)
        levels[str(index)] = _level(widths, **change)
        channels = outputs
    return named_layers(
        conv_in=nn.Conv2d(config.z_channels, deepest, 3, padding=1),
        mid=_middle(deepest),
        up=named_layers(**levels),
        norm_out=GroupNorm(channels, _VQ_NORM_EPS),
        activation=nn.SiLU(inplace=True),
        conv_out=nn.Conv2d(channels, config.out_ch, 3, padding=1),
    )


class _Codebook(nn.Module):
    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, channels)


class Autoencoder(nn.Module):
    """Encoder, codebook and decoder. Inputs and results are float32."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        codec = config.ddconfig
        self.compute_dtype = torch.float32
        self.encoder = encoder(codec)
        self.decoder = decoder(codec)
        self.quantize = _Codebook(config.n_embed, config.embed_dim)
        self.quant_conv = nn.Conv2d(codec.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, codec.z_channels, 1)

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Compute the convolutions in `dtype`; norms and the codebook stay float32."""
        hold_compute_weights(self, dtype)
        self.compute_dtype = dtype

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Encode float32[B, 3, 4H, 4W] to a latent float32[B, 3, H, W], not quantised."""
        return self.quant_conv(self.encoder(image.to(self.compute_dtype))).float()

    def quantise(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the nearest code of every pixel of a latent float32[B, 3, H, W].

        Returns:
            indices int64[B, H, W] (the first of equally near codes) and codes float32[B, 3, H, W].
        """
        codes = self.quantize.embedding.weight
        points = latent.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
        # |z - e|² without |z|², which is equal for all codes; half precision mixes codes up.
        squares = codes.square().sum(dim=1)
        block = max(1, _DISTANCE_BLOCK_BYTES // (4 * len(codes)))
        nearest = [
            torch.addmm(squares, chunk, codes.mT, alpha=-2.0).argmin(dim=1)
            for chunk in points.split(block)  # type: ignore[no-untyped-call]
        ]
        indices = torch.cat(nearest).reshape(latent.shape[0], *latent.shape[2:])
        return indices, codes[indices].permute(0, 3, 1, 2).contiguous()

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode codes, or any latent, float32[B, 3, H, W] to float32[B, 3, 4H, 4W]."""
        return self.decoder(self.post_quant_conv(codes.to(self.compute_dtype))).float()
