"""Hyper-parameters of SinSR (Wang et al. 2024) as four checked sections.

Sections and fields are those of the published training configuration. Fields that select a variant
accept only the implemented one; unknown fields are errors.
"""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Both networks normalise in 32 groups, so every width that reaches a GroupNorm is a multiple of it.
GROUPS = 32


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UNetConfig(_Section):
    """The noise predictor: a UNet with Swin layers. Defaults are the official model's."""

    image_size: int = Field(64, ge=1)
    in_channels: Literal[6] = 6
    model_channels: int = Field(160, ge=GROUPS, multiple_of=GROUPS)
    out_channels: Literal[3] = 3
    attention_resolutions: tuple[int, ...] = (64, 32, 16, 8)
    channel_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: tuple[int, ...] = (2, 2, 2, 2)
    num_head_channels: int = Field(32, ge=1)
    swin_depth: int = Field(2, ge=1)
    swin_embed_dim: int = Field(192, ge=GROUPS, multiple_of=GROUPS)
    window_size: int = Field(8, ge=2)
    mlp_ratio: float = Field(4, gt=0)
    dropout: float = 0.0  # training only
    use_fp16: bool = False  # the worker's own dtype decides
    cond_lq: Literal[True] = True
    conv_resample: Literal[True] = True
    dims: Literal[2] = 2
    use_scale_shift_norm: Literal[True] = True
    resblock_updown: Literal[False] = False
    patch_norm: Literal[False] = False
    qkv_bias: Literal[True] = True

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        levels = len(self.channel_mult)
        if levels == 0 or len(self.num_res_blocks) != levels:
            raise ValueError("channel_mult and num_res_blocks need one entry per level")
        if min(self.channel_mult) < 1 or min(self.num_res_blocks) < 1:
            raise ValueError("channel_mult and num_res_blocks must be positive")
        if self.image_size % 2 ** (levels - 1):
            raise ValueError("image_size must be divisible by 2**(levels-1)")
        if self.swin_embed_dim % self.num_head_channels:
            raise ValueError("swin_embed_dim must be a multiple of num_head_channels")
        return self

    @property
    def size_multiple(self) -> int:
        """The latent's sides must be multiples of this, for the windows to fit."""
        deepest = len(self.channel_mult) - 1
        nominal = self.image_size >> deepest
        return int(2**deepest * min(self.window_size, nominal))


class _ScheduleShape(_Section):
    power: float = Field(0.3, gt=0)


class DiffusionConfig(_Section):
    """The noise schedule and what the network predicts.

    The network is evaluated once, at the last step, where the square root of the schedule's eta is
    `etas_end`; other steps' numbers reach no pixel.
    """

    sf: Literal[4] = 4
    schedule_name: Literal["exponential"] = "exponential"
    schedule_kwargs: _ScheduleShape = _ScheduleShape()
    etas_end: float = Field(0.99, gt=0, lt=1)
    steps: int = Field(15, ge=2)
    min_noise_level: float = Field(0.04, gt=0)
    kappa: float = Field(2.0, gt=0)
    scale_factor: float = Field(1.0, gt=0)
    timestep_respacing: int | None = None
    weighted_mse: bool = False  # training only
    predict_type: Literal["xstart"] = "xstart"
    normalize_input: Literal[True] = True
    latent_flag: Literal[True] = True

    @model_validator(mode="after")
    def _all_steps_are_kept(self) -> Self:
        # Respacing to fewer would keep the first, nearly noise-free steps, not the last.
        if self.timestep_respacing not in (None, self.steps):
            raise ValueError("timestep_respacing must equal steps (one-step sampling keeps all)")
        return self

    @property
    def timestep(self) -> int:
        return self.steps - 1

    @property
    def noise_std(self) -> float:
        """Weight of the noise mixed into the encoded image: kappa * sqrt(eta)."""
        return self.kappa * self.etas_end

    @property
    def input_std(self) -> float:
        """Divisor for about unit variance of the noisy latent."""
        return math.sqrt(self.noise_std**2 + 1)


class CodecConfig(_Section):
    """Widths of the autoencoder's encoder and decoder (`ddconfig`)."""

    z_channels: Literal[3] = 3
    resolution: int = 256  # the training size; any size runs
    in_channels: Literal[3] = 3
    out_ch: Literal[3] = 3
    ch: int = Field(128, ge=GROUPS, multiple_of=GROUPS)
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = Field(2, ge=1)
    dropout: float = 0.0
    double_z: Literal[False] = False
    attn_resolutions: tuple[()] = ()
    padding_mode: Literal["zeros"] = "zeros"

    @model_validator(mode="after")
    def _shrinks_by_four(self) -> Self:
        # The latent is concatenated with the low-resolution image.
        if len(self.ch_mult) != 3 or min(self.ch_mult) < 1:
            raise ValueError("ch_mult needs three positive entries (the codec must shrink by 4)")
        return self


class AutoencoderConfig(_Section):
    """The vector-quantised autoencoder around the codec."""

    embed_dim: Literal[3] = 3
    n_embed: int = Field(8192, ge=1)
    ddconfig: CodecConfig = CodecConfig()


class SamplerConfig(_Section):
    """Padding and tiling, all in low-resolution pixels."""

    desired_min_size: int = Field(64, ge=1)
    chop_size: int = Field(512, ge=1)
    chop_stride: int = Field(448, ge=1)

    @model_validator(mode="after")
    def _tiles_overlap(self) -> Self:
        if self.chop_stride > self.chop_size:
            raise ValueError("chop_stride must not exceed chop_size: pixels would be left out")
        return self


class SinSRConfig(_Section):
    """All hyper-parameters; by default those of the official model."""

    name: str | None = None  # a label without effect
    model: UNetConfig = UNetConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    sampler: SamplerConfig = SamplerConfig()

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, data: dict[str, Any]) -> dict[str, Any]:
        inner = data.get("config")
        return inner if isinstance(inner, dict) else data

    @model_validator(mode="after")
    def _padding_fits_the_windows(self) -> Self:
        if self.sampler.desired_min_size % self.model.size_multiple:
            raise ValueError(
                f"sampler.desired_min_size must be a multiple of {self.model.size_multiple} "
                "(2**(levels-1) * window) for this network"
            )
        return self

    @property
    def scale(self) -> int:
        return self.diffusion.sf
