"""SinSR: one-step diffusion super-resolution ×4 (Wang et al. 2024), for inference.

The image is enlarged, encoded to a latent of its size, mixed with noise, cleaned by one network
evaluation, quantised by a codebook and decoded. All before the noise is the same for all samples.

"SinSR: Diffusion-Based Image Super-Resolution in a Single Step", Wang, Yang, Chen, Wang, Guo, Chau,
Liu, Qiao, Kot, Wen; CVPR 2024.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from trustscale_worker import weights
from trustscale_worker.errors import WeightsError
from trustscale_worker.models.device import parse_device, parse_dtype
from trustscale_worker.models.pixels import TileBox, boxes, finite, pad_reflect
from trustscale_worker.models.sinsr.autoencoder import Autoencoder
from trustscale_worker.models.sinsr.config import SinSRConfig
from trustscale_worker.models.sinsr.unet import UNet

# Prefixes that wrappers add to every key, in any order and number.
_PREFIXES = ("module.", "_orig_mod.")

# Tables in the noise predictor's files, which training may have averaged; they are computed again.
_DERIVED = ("relative_position_index", "attn_mask")

_NAMED = 3  # of the keys with one fault


class SinSR:
    """The stages of the model on one device; one call at a time.

    Convolutions and linear layers compute in `dtype`, all else in float32. Memory is channels last,
    twice as fast on CPUs.
    """

    def __init__(
        self,
        config: SinSRConfig,
        unet: UNet,
        autoencoder: Autoencoder,
        device: str = "cpu",
        dtype: str = "float32",
        *,
        compiled: bool = False,
    ) -> None:
        self.config = config
        self.device = parse_device(device)
        self.dtype = parse_dtype(dtype)
        self.scale = config.scale
        self.weights_digest = networks_digest(unet, autoencoder)
        self.unet = unet
        self.autoencoder = autoencoder
        for network in (unet, autoencoder):
            network.requires_grad_(False).eval()
            network.use_dtype(self.dtype)
            network.to(self.device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]  # until torch 2.13

        def ready(evaluate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            # Code for any size takes several times as long to compile.
            return torch.compile(evaluate, dynamic=False) if compiled else evaluate

        self._predict = ready(unet)
        self._encode = ready(autoencoder.encode)
        self._decode = ready(autoencoder.decode_codes)

    @staticmethod
    def plan_networks(config: SinSRConfig) -> tuple[UNet, Autoencoder]:
        """Make both networks, without memory for weights."""
        with torch.device("meta"):
            return UNet(config.model), Autoencoder(config.autoencoder)

    def encode(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the latent z_y of a padded image in [-1, 1], both float32[B, 3, H, W]."""
        # Neither antialiased nor clamped, as the encoder was trained.
        enlarged = functional.interpolate(lr, scale_factor=float(self.scale), mode="bicubic")
        with self._precise():
            latent = self._encode(self._laid_out(enlarged))
        return latent * self.config.diffusion.scale_factor

    def denoise(self, x_in: torch.Tensor, lq: torch.Tensor) -> torch.Tensor:
        """Return the clean latent z_0, not clamped, by one network evaluation at the last step.

        Args:
            x_in: float32[B, 3, H, W], the noisy latent divided by its deviation.
            lq: float32[B, 3, H, W], the padded image in [-1, 1].
        """
        timestep = torch.tensor([self.config.diffusion.timestep], device=x_in.device)
        with self._precise():
            return self._predict(self._laid_out(torch.cat([x_in, lq], dim=1)), timestep)

    def quantise(self, z_0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.autoencoder.quantise(z_0 / self.config.diffusion.scale_factor)

    def decode(self, z_0: torch.Tensor) -> torch.Tensor:
        """Decode a quantised latent to float32[B, 3, 4H, 4W], about [-1, 1], unclamped."""
        _, codes = self.quantise(z_0)
        with self._precise():
            return self._decode(self._laid_out(codes))

    def tiles(self, height: int, width: int) -> list[TileBox]:
        sampler = self.config.sampler
        return list(boxes(height, width, sampler.chop_size, sampler.chop_stride))

    def prepare(self, lr: torch.Tensor, box: TileBox) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the padded tile in [-1, 1] and its latent, float32[B, 3, H, W] each.

        `lr` is float32[B, 3, h, w] in [0, 1], on the CPU.
        """
        tile = (box.cut(lr) - 0.5) / 0.5
        lq = pad_reflect(tile, self.config.sampler.desired_min_size).to(self.device)
        return lq, self.encode(lq)

    def predict(self, lq: torch.Tensor, latent: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the clean latent from noise and the results of `prepare`, float32[B, 3, H, W]."""
        diffusion = self.config.diffusion
        noisy = latent + diffusion.noise_std * noise.to(latent)
        return finite(self.denoise(noisy / diffusion.input_std, lq))

    def finish(self, z_0: torch.Tensor, box: TileBox) -> torch.Tensor:
        """Return the upscaled tile, cropped and clamped, float32[B, 3, 4h, 4w] in [-1, 1]."""
        k = self.scale
        image = finite(self.decode(z_0))
        return image[..., : k * box.height, : k * box.width].clamp(-1, 1)

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=self.device, memory_format=torch.channels_last)

    def _precise(self) -> contextlib.AbstractContextManager[None]:
        """Without TF32, and deterministic."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )


def networks_digest(unet: UNet, autoencoder: Autoencoder) -> str:
    """Return the SHA-256 over names, shapes and float32 values of all weights."""
    return weights.digest(
        {
            f"{prefix}.{name}": parameter
            for prefix, network in (("unet", unet), ("autoencoder", autoencoder))
            for name, parameter in network.named_parameters()
        }
    )


def load_weights(network: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Give `network`, which may be on the "meta" device, the tensors of `state`, in float32.

    Wrapper prefixes are removed, derived tables and loss terms skipped; the rest must match the
    network's parameters by name and shape.

    Raises:
        WeightsError: names the file `origin`, and the first keys that are missing, unexpected or
            misshaped.
    """
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        name = _bare(key)
        if name.rpartition(".")[2] in _DERIVED or name.startswith("loss."):
            continue  # the latter: of training, in the autoencoder's original files
        if name in tensors:
            raise WeightsError(f"{origin}: several entries for {name}")
        tensors[name] = tensor
    expected = dict(network.named_parameters())
    shared = [name for name in expected if name in tensors]
    faults = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} (is {_size(tensors[name])}, should be {_size(expected[name])})"
            for name in shared
            if tensors[name].shape != expected[name].shape
        ],
        "not floating point": [name for name in shared if not tensors[name].is_floating_point()],
    }
    if any(faults.values()):
        kind = type(network).__name__
        raise WeightsError(f"{origin} does not hold the weights of this {kind}: {_listed(faults)}")
    network.load_state_dict({name: tensors[name].float() for name in expected}, assign=True)


def load_networks(config: SinSRConfig, *paths: Path) -> tuple[UNet, Autoencoder]:
    """Load the noise predictor and the autoencoder from files. Raises WeightsError."""
    networks = SinSR.plan_networks(config)
    for network, path in zip(networks, paths, strict=True):
        load_weights(network, weights.read_state(path), str(path))
    return networks


def _bare(key: str) -> str:
    while key.startswith(_PREFIXES):
        for prefix in _PREFIXES:
            key = key.removeprefix(prefix)
    return key


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _listed(faults: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{len(names)} {fault}: {', '.join(names[:_NAMED])}"
        + (", …" if len(names) > _NAMED else "")
        for fault, names in faults.items()
        if names
    )
