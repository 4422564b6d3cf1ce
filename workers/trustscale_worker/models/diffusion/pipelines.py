"""Pipelines, read from folders; and what differs between them: encoding, first latents, steps.

Each class repeats the computation of one of the library's pipelines (Rombach et al. 2022; "Stable
Diffusion ×4 upscaler" and "latent upscaler", the same group), split into what all samples of an
image share and what depends on a seed. Numbers are drawn in the library's order, so a sample equals
that of the library's call with a generator of that seed.

Images are float32[1, 3, h, w] in [-1, 1], latents float32[1, C, H, W].
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from trustscale_server.platform.errors import ConfigError
from trustscale_worker import weights
from trustscale_worker.errors import WeightsError
from trustscale_worker.files import read_json
from trustscale_worker.models.noise import Noise

# Components that judge or mark finished pictures.
_LEFT_OUT = ("safety_checker", "feature_extractor", "watermarker", "image_encoder")


class DiffusionSettings(BaseModel):
    """An operator's settings, all of them in the fingerprint; None is the library's default.

    steps: network evaluations per sample.
    eta: noise added in every step, DDIM only; 0: all noise is in the start.
    guidance: weight of the prompt; 1 or less: no guidance.
    noise_level: noise on the condition of the ×4 upscaler; more invents more.
    strength: share of the steps that are taken, from a noisy input on (image to image, scale 1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, le=1000)
    eta: float = Field(0.0, ge=0, le=1)
    guidance: float | None = Field(None, ge=0, le=100)
    noise_level: int | None = Field(None, ge=0, le=1000)
    strength: float | None = Field(None, gt=0, le=1)
    prompt: str = Field("", max_length=2000)
    negative_prompt: str = Field("", max_length=2000)


# Settings of all pipelines with a prompt.
_TEXT = {"prompt": "", "negative_prompt": ""}


class DiffusionPipeline(ABC):
    """One kind of pipeline with its networks.

    Attributes:
        scale: result side / input side.
        cell: input pixels per latent position and side.
        tile: default side of a tile, in input pixels: about the training size.
        encodes: whether samples begin with an encoding of the image.
        defaults: its settings beside `eta`, with the library's values.
        multiple: of padded input sides.
        networks: `denoiser` and `codec`.
        settings: those in use.
    """

    scale: int
    cell = 1
    tile = 128
    encodes = False
    defaults: Mapping[str, Any]
    codec = "vae"

    def __init__(self, pipe: Any, settings: DiffusionSettings) -> None:
        odd = settings.model_dump(exclude_defaults=True).keys() - {*self.defaults, "eta"}
        if odd:
            raise ConfigError(f"{type(pipe).__name__} has no setting {', '.join(sorted(odd))}")
        self.settings = {**self.defaults, **settings.model_dump(exclude_none=True)}
        self.networks = {"denoiser": pipe.unet, "codec": getattr(pipe, self.codec)}
        self.scheduler = pipe.scheduler
        self.codec_factor = 2 ** (len(self.networks["codec"].config.block_out_channels) - 1)
        self.scale = self.codec_factor
        # Norms need more than one value, so the smallest grid has two positions a side.
        self.levels = 2 ** len(pipe.unet.config.block_out_channels)
        self.multiple = self.levels
        self.channels = int(self.networks["codec"].config.latent_channels)

    def timesteps(self, scheduler: Any) -> Tensor:
        """Return the timesteps used, for a scheduler of one sample."""
        scheduler.set_timesteps(self.settings["steps"])
        return torch.as_tensor(scheduler.timesteps)

    def encode(self, image: Tensor) -> Tensor:
        """Return the mean and log variance of an image's latents, concatenated."""
        return self.networks["codec"].encode(image).latent_dist.parameters

    @abstractmethod
    def start(self, shared: Tensor, noise: Noise, scheduler: Any) -> tuple[Tensor, Tensor]:
        """Return the first latents of a sample, and its condition on the latent grid.

        `shared` is the result of `encode`, or else the image; noise and scheduler are the sample's.
        """

    def network_input(
        self, latents: Tensor, condition: Tensor, scheduler: Any, t: Tensor
    ) -> Tensor:
        """Return the denoiser's input, float32[1, C', H, W]."""
        return torch.cat([scheduler.scale_model_input(latents, t), condition], dim=1)

    def moment(self, scheduler: Any, t: Tensor) -> Tensor:
        """Return the denoiser's time input."""
        del scheduler
        return t

    @abstractmethod
    def predict(self, noisy: Tensor, moment: Tensor) -> Tensor: ...

    def output(self, predicted: Tensor, latents: Tensor, scheduler: Any, t: Tensor) -> Tensor:
        """Return the prediction as the scheduler takes it."""
        del latents, scheduler, t
        return predicted

    def decode(self, latents: Tensor) -> Tensor:
        """Return the image of latents, about [-1, 1]."""
        codec = self.networks["codec"]
        return codec.decode(latents / codec.config.scaling_factor).sample

    def _start_noise(self, noise: Noise, scheduler: Any, height: int, width: int) -> Tensor:
        drawn = noise.draw(1, self.channels, height, width)
        return drawn * torch.as_tensor(scheduler.init_noise_sigma, dtype=drawn.dtype)

    def _draw_encoded(self, moments: Tensor, noise: Noise) -> Tensor:
        law = DiagonalGaussianDistribution(moments)
        encoded = law.mean + law.std * noise.draw(*law.mean.shape)
        return encoded * self.networks["codec"].config.scaling_factor

    def _encode_prompt(self, pipe: Any) -> tuple[Tensor, ...]:
        prompt, negative = self.settings["prompt"], self.settings["negative_prompt"]
        self.guided = self.settings["guidance"] > 1 and prompt != negative
        with torch.inference_mode():
            return self._library_prompt(pipe, prompt, negative)

    def _library_prompt(self, pipe: Any, prompt: str, negative: str) -> tuple[Tensor, ...]:
        embeddings = pipe.encode_prompt(prompt, "cpu", 1, self.guided, negative_prompt=negative)
        return (torch.cat([embeddings[1], embeddings[0]]) if self.guided else embeddings[0],)

    def _guide(self, noisy: Tensor, moment: Tensor, **conditions: Any) -> Tensor:
        """The conditioned prediction; with guidance both in one batch."""
        batch_conditions = {
            name: (
                value.to(noisy) if value.is_floating_point() else value.to(noisy.device)
            ).repeat_interleave(len(noisy), dim=0)
            for name, value in conditions.items()
        }
        batch = torch.cat([noisy, noisy]) if self.guided else noisy
        answer = self.networks["denoiser"](batch, moment, **batch_conditions).sample
        if not self.guided:
            return answer
        without, with_prompt = answer.chunk(2)
        return without + self.settings["guidance"] * (with_prompt - without)


class LatentDiffusion(DiffusionPipeline):
    """`LDMSuperResolutionPipeline`: the small image itself is the condition. No text."""

    codec = "vqvae"
    defaults = MappingProxyType({"steps": 100})

    def start(self, shared: Tensor, noise: Noise, scheduler: Any) -> tuple[Tensor, Tensor]:
        return self._start_noise(noise, scheduler, *shared.shape[-2:]), shared

    def network_input(
        self, latents: Tensor, condition: Tensor, scheduler: Any, t: Tensor
    ) -> Tensor:
        return scheduler.scale_model_input(torch.cat([latents, condition], dim=1), t)

    def predict(self, noisy: Tensor, moment: Tensor) -> Tensor:
        return self.networks["denoiser"](noisy, moment).sample

    def decode(self, latents: Tensor) -> Tensor:
        return self.networks["codec"].decode(latents).sample


class StableUpscale(DiffusionPipeline):
    """`StableDiffusionUpscalePipeline`: the condition is the small image with a little noise."""

    defaults = MappingProxyType({"steps": 75, "guidance": 9.0, "noise_level": 20, **_TEXT})

    def __init__(self, pipe: Any, settings: DiffusionSettings) -> None:
        super().__init__(pipe, settings)
        if self.settings["noise_level"] > pipe.config.max_noise_level:
            raise ConfigError(f"noise_level: at most {pipe.config.max_noise_level}")
        self._low_res = pipe.low_res_scheduler
        (self._text,) = self._encode_prompt(pipe)

    def start(self, shared: Tensor, noise: Noise, scheduler: Any) -> tuple[Tensor, Tensor]:
        level = torch.tensor([self.settings["noise_level"]])
        condition = self._low_res.add_noise(shared, noise.draw(*shared.shape), level)
        return self._start_noise(noise, scheduler, *shared.shape[-2:]), condition

    def predict(self, noisy: Tensor, moment: Tensor) -> Tensor:
        level = torch.full((len(self._text),), self.settings["noise_level"])
        return self._guide(noisy, moment, encoder_hidden_states=self._text, class_labels=level)


class StableLatentUpscale(DiffusionPipeline):
    """`StableDiffusionLatentUpscalePipeline`: encoded, enlarged in the latent grid, denoised ×2."""

    encodes = True
    tile = 512
    defaults = MappingProxyType({"steps": 75, "guidance": 9.0, **_TEXT})

    def __init__(self, pipe: Any, settings: DiffusionSettings) -> None:
        super().__init__(pipe, settings)
        self.scale, self.cell = 2, self.codec_factor // 2
        self.multiple = self.cell * self.levels
        self._text, self._pooled = self._encode_prompt(pipe)

    def start(self, shared: Tensor, noise: Noise, scheduler: Any) -> tuple[Tensor, Tensor]:
        encoded = self._draw_encoded(shared, noise)
        condition = functional.interpolate(encoded, scale_factor=2, mode="nearest")
        return self._start_noise(noise, scheduler, *condition.shape[-2:]), condition

    def moment(self, scheduler: Any, t: Tensor) -> Tensor:
        del t
        return torch.log(scheduler.sigmas[scheduler.step_index]) * 0.25

    def predict(self, noisy: Tensor, moment: Tensor) -> Tensor:
        answer = self._guide(
            noisy, moment, encoder_hidden_states=self._text, timestep_cond=self._pooled
        )
        return answer[:, :-1]  # the last channel is an unused variance

    def output(self, predicted: Tensor, latents: Tensor, scheduler: Any, t: Tensor) -> Tensor:
        sigma = scheduler.sigmas[scheduler.step_index]
        return latents / (sigma**2 + 1) + scheduler.scale_model_input(sigma, t) * predicted

    def _library_prompt(self, pipe: Any, prompt: str, negative: str) -> tuple[Tensor, ...]:
        text, without, pooled, pooled_without = pipe.encode_prompt(
            prompt, "cpu", self.guided, negative_prompt=negative
        )
        if self.guided:
            text, pooled = torch.cat([without, text]), torch.cat([pooled_without, pooled])
        level = torch.cat([torch.ones(len(pooled), 64), torch.zeros(len(pooled), 64)], dim=1)
        return text, torch.cat([level, pooled], dim=1)


class StableImageToImage(DiffusionPipeline):
    """`StableDiffusionImg2ImgPipeline`: restoration at scale 1, from a noisy encoding."""

    encodes = True
    tile = 512
    defaults = MappingProxyType({"steps": 50, "guidance": 7.5, "strength": 0.8, **_TEXT})

    def __init__(self, pipe: Any, settings: DiffusionSettings) -> None:
        super().__init__(pipe, settings)
        self.scale, self.cell = 1, self.codec_factor
        self.multiple = self.cell * self.levels
        (self._text,) = self._encode_prompt(pipe)
        if int(self.settings["steps"] * self.settings["strength"]) < 1:
            raise ConfigError("steps · strength: no step would be taken")

    def timesteps(self, scheduler: Any) -> Tensor:
        steps = super().timesteps(scheduler)
        skipped = self.settings["steps"] - int(self.settings["steps"] * self.settings["strength"])
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skipped * scheduler.order)
        return steps[skipped * scheduler.order :]

    def start(self, shared: Tensor, noise: Noise, scheduler: Any) -> tuple[Tensor, Tensor]:
        encoded = self._draw_encoded(shared, noise)
        drawn = noise.draw(*encoded.shape)
        first = self.timesteps(scheduler)[:1]
        return scheduler.add_noise(encoded, drawn, first), encoded[:, :0]  # no condition

    def predict(self, noisy: Tensor, moment: Tensor) -> Tensor:
        return self._guide(noisy, moment, encoder_hidden_states=self._text)


PIPELINES: Mapping[str, type[DiffusionPipeline]] = MappingProxyType(
    {
        "LDMSuperResolutionPipeline": LatentDiffusion,
        "StableDiffusionUpscalePipeline": StableUpscale,
        "StableDiffusionLatentUpscalePipeline": StableLatentUpscale,
        "StableDiffusionImg2ImgPipeline": StableImageToImage,
    }
)
"""By the library's class name, as in `model_index.json`."""


def load_pipeline(folder: Path) -> Any:
    """Return the library's pipeline, in the precision of its files, on the CPU.

    Raises:
        WeightsError: no pipeline, another kind, pickled weights, or damaged files.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise WeightsError(f"{folder}: {name} is not one of {', '.join(PIPELINES)}")
    libraries = {
        component: origin[0] if origin else None
        for component, origin in index.items()
        if isinstance(origin, list) and component not in _LEFT_OUT
    }
    foreign = [
        component
        for component, library in libraries.items()
        if library not in {"diffusers", "transformers"}
    ]
    if foreign:
        raise WeightsError(
            f"{folder}: {', '.join(foreign)}: code of neither diffusers nor transformers"
        )
    pickled = [component for component in libraries if _only_pickled(folder / component)]
    if pickled:
        raise WeightsError(
            f"{folder}: {', '.join(pickled)}: pickled weights only; `trustscale models convert "
            f"{folder}` makes safetensors of them"
        )
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    try:
        return getattr(diffusers, name).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            **{component: None for component in index if component in _LEFT_OUT},
        )
    except ModuleNotFoundError:
        raise
    except Exception as error:  # the library's readers may raise anything
        message = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise WeightsError(f"{folder}: cannot be loaded ({message[0]})") from error


def pipeline_digest(pipe: Any) -> dict[str, object]:
    """Return a digest of all that decides a pipeline's pixels beside the settings."""
    digests: dict[str, object] = {"class": type(pipe).__name__}
    for name, component in sorted(pipe.components.items()):
        if component is None:
            continue
        config = getattr(component, "config", {})
        plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        values = {key: str(value) for key, value in plain.items() if not key.startswith("_")}
        values.pop("transformers_version", None)
        if isinstance(component, torch.nn.Module):
            values["weights"] = weights.digest(component.state_dict())
        digests[name] = values
    return digests


def _only_pickled(folder: Path) -> bool:
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))
