"""What an operator may set of a diffusion pipeline. All of it is part of the fingerprint."""

from pydantic import BaseModel, ConfigDict, Field


class DiffusionSettings(BaseModel):
    """None: what the library's own pipeline takes when it is told nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, le=1000)
    """Network evaluations per sample."""

    eta: float = Field(0.0, ge=0, le=1)
    """Noise added in every step, DDIM only; 0: all noise is in the start."""

    guidance: float | None = Field(None, ge=0, le=100)
    """How much the prompt counts; 1 and less: not apart from the other conditions."""

    noise_level: int | None = Field(None, ge=0, le=1000)
    """Noise on the condition (the ×4 upscaler of Stable Diffusion): more invents more."""

    strength: float | None = Field(None, gt=0, le=1)
    """Share of the steps that are taken, from a noisy input on (image to image, scale 1)."""

    prompt: str = Field("", max_length=2000)
    negative_prompt: str = Field("", max_length=2000)
