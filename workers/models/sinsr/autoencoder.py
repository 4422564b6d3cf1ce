"""The vector-quantised autoencoder around SinSR's latent (VQ-f4, Rombach et al. 2022).

Names follow the published checkpoint. The encoder's result is *not* quantised; only decoding
snaps latents to the codebook (Wang et al. 2024).
"""

import itertools

import torch
from torch import nn
from torch.nn import functional

from workers.models.sinsr.config import AutoencoderConfig, CodecConfig
from workers.models.sinsr.layers import GroupNorm, global_attention, hold_compute_weights
from workers.models.sinsr.unet import Upsample

VQ_NORM_EPS = 1e-6  # not the noise predictor's 1e-5

# Most that one block of position-to-code distances may take.
DISTANCE_BLOCK_BYTES = 64 * 2**20


class VQResBlock(nn.Module):
    """Two normalised convolutions, added to the (projected) input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(inputs, VQ_NORM_EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = GroupNorm(outputs, VQ_NORM_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)
        self._projects = inputs != outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]."""
        hidden = self.conv1(functional.silu(self.norm1(x), inplace=True))
        hidden = self.conv2(functional.silu(self.norm2(hidden), inplace=True))
        result: torch.Tensor = hidden.add_(self.nin_shortcut(x) if self._projects else x)
        return result


class VQAttention(nn.Module):
    """Single-head attention over all positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, VQ_NORM_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> same shape."""
        hidden = self.norm(x)
        tokens = (layer(hidden).flatten(2).mT.contiguous() for layer in (self.q, self.k, self.v))
        attended = global_attention(*tokens).mT.reshape(x.shape)
        result: torch.Tensor = x + self.proj_out(attended)
        return result


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = VQResBlock(channels, channels)
        self.attn_1 = VQAttention(channels)
        self.block_2 = VQResBlock(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return result


class VQDownsample(nn.Module):
    """Halves both sides; pads only at the right and the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        result: torch.Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return result


class _Level(nn.Module):
    """Residual blocks of one resolution, then a change of resolution except at the last."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.block = nn.Sequential(*(VQResBlock(*pair) for pair in itertools.pairwise(widths)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(x)
        for change in ("downsample", "upsample"):
            if hasattr(self, change):
                x = getattr(self, change)(x)
        return x


class Encoder(nn.Module):
    """Image to latent, four times smaller per side."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.ch
        self.conv_in = nn.Conv2d(config.in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList()
        for factor in config.ch_mult:
            outputs = config.ch * factor
            level = _Level([channels] + [outputs] * config.num_res_blocks)
            if len(self.down) < len(config.ch_mult) - 1:
                level.downsample = VQDownsample(outputs)
            self.down.append(level)
            channels = outputs
        self.mid = _Middle(channels)
        self.norm_out = GroupNorm(channels, VQ_NORM_EPS)
        self.conv_out = nn.Conv2d(channels, config.z_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, 4H, 4W] -> [B, z, H, W]."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        x = functional.silu(self.norm_out(self.mid(x)), inplace=True)
        result: torch.Tensor = self.conv_out(x)
        return result


class Decoder(nn.Module):
    """Latent to image, four times larger per side; the deepest level runs first."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.ch * config.ch_mult[-1]
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = _Middle(channels)
        levels: list[nn.Module] = []
        for index in reversed(range(len(config.ch_mult))):
            outputs = config.ch * config.ch_mult[index]
            level = _Level([channels] + [outputs] * (config.num_res_blocks + 1))
            if index:
                level.upsample = Upsample(outputs)
            levels.insert(0, level)
            channels = outputs
        self.up = nn.ModuleList(levels)
        self.norm_out = GroupNorm(channels, VQ_NORM_EPS)
        self.conv_out = nn.Conv2d(channels, config.out_ch, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[B, z, H, W] -> [B, 3, 4H, 4W]."""
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        x = functional.silu(self.norm_out(x), inplace=True)
        result: torch.Tensor = self.conv_out(x)
        return result


class _Codebook(nn.Module):
    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, channels)


class Autoencoder(nn.Module):
    """Encoder, codebook and decoder. Inputs and results are float32 at every door."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        codec = config.ddconfig
        self.compute_dtype = torch.float32
        self.encoder = Encoder(codec)
        self.decoder = Decoder(codec)
        self.quantize = _Codebook(config.n_embed, config.embed_dim)
        self.quant_conv = nn.Conv2d(codec.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, codec.z_channels, 1)

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Compute the convolutions in `dtype`; norms and the codebook stay float32."""
        hold_compute_weights(self, dtype)
        self.compute_dtype = dtype

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """float32[B, 3, 4H, 4W] -> latent float32[B, 3, H, W], not quantised."""
        latent: torch.Tensor = self.quant_conv(self.encoder(image.to(self.compute_dtype)))
        return latent.float()

    def quantise(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Snap every latent pixel to its nearest code.

        Args:
            latent: float32[B, 3, H, W].

        Returns:
            indices int64[B, H, W] (the first of equally near codes) and the codes
            float32[B, 3, H, W].
        """
        codes = self.quantize.embedding.weight
        points = latent.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
        # |z - e|² without |z|², which is the same for all codes. float32 always: in half
        # precision neighbouring codes could not be told apart.
        squares = codes.square().sum(dim=1)
        block = max(1, DISTANCE_BLOCK_BYTES // (4 * len(codes)))
        nearest = [
            torch.addmm(squares, part, codes.mT, alpha=-2.0).argmin(dim=1)
            for part in points.split(block)  # type: ignore[no-untyped-call]
        ]
        indices = torch.cat(nearest).reshape(latent.shape[0], *latent.shape[2:])
        return indices, codes[indices].permute(0, 3, 1, 2).contiguous()

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (or any latent, taken as it is) float32[B, 3, H, W] -> float32[B, 3, 4H, 4W]."""
        image: torch.Tensor = self.decoder(self.post_quant_conv(codes.to(self.compute_dtype)))
        return image.float()
