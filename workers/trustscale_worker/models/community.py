"""Community models, through spandrel: Real-ESRGAN, SwinIR, HAT, DAT, DDColor and more.

Most of these models are deterministic and sampled through their symmetries. A few draw at random
(`_DRAWING`): there the seed decides the draws, and one draw serves all tiles.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
import spandrel
import torch

from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import RGB, fingerprint_of
from trustscale_server.upscalers.embedded.tiles import TilePlan, TileSpan, run_tiled
from trustscale_server.upscalers.symmetries import DIHEDRAL, GROUP_ORDER, apply, undo
from trustscale_worker.errors import OutOfMemory
from trustscale_worker.models.community_file import read_network
from trustscale_worker.models.device import (
    device_memory,
    is_out_of_memory,
    parse_device,
    parse_dtype,
    use_threads,
)
from trustscale_worker.models.engine import DeviceMemory, OneByOneEngine
from trustscale_worker.models.noise import SeededDraws
from trustscale_worker.models.pixels import starts, to_pixels, to_tensor
from trustscale_worker.settings import EngineSpec

# Raised whenever a pixel changes for the same weights and seed.
_REVISION = 1

# Context of a tile beyond the kept part. Convolutions rarely look farther; models with attention
# over the whole image are not tiled.
MARGIN = 32

# Of red, green and blue in the grey that colourless models see (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)

# Architectures that draw at random: AuraSR a style, GFPGAN each layer's noise.
_DRAWING = frozenset({"AuraSR", "GFPGAN"})

# Input side of the trial at the start, and the grey levels by which two answers may differ: on GPUs
# in half precision, reordered sums do.
_TRIED, _ROUNDING = 32, 2

# Side of the tiles of larger images, in input pixels.
_TILE = 512


class _InSteps(TilePlan):
    """Tiles in steps of the kept part, the last moved back to fit."""

    def spans(self, length: int) -> list[TileSpan]:
        """See `TilePlan.spans`; tiles at the border are smaller by their halo."""
        step = self.tile - 2 * self.halo
        firsts = starts(length, step, step)
        spans = [(first, min(first + step, length)) for first in firsts]
        return [
            TileSpan(max(0, first - self.halo), min(last + self.halo, length), first, last)
            for first, last in spans
        ]


class CommunityEngine(OneByOneEngine):
    """A network that spandrel knows, sampled through its symmetries or its own draws."""

    def __init__(self, descriptor: Any, weights_digest: str, spec: EngineSpec) -> None:
        """Take over a network.

        `descriptor` is spandrel's, from RGB or grey to RGB or grey; `spec.tile` counts if the
        architecture can be tiled. Raises ConfigError for other channels, a mask, an unsupported
        precision, or samples that no seed can repeat.
        """
        architecture = str(descriptor.architecture.id)
        if not isinstance(descriptor, spandrel.ImageModelDescriptor):
            raise ConfigError(f"{architecture}: needs a mask besides the image; not supported")
        channels = descriptor.input_channels, descriptor.output_channels
        if not set(channels) <= {1, 3}:
            raise ConfigError(
                f"{architecture}: takes {channels[0]} and gives {channels[1]} channels; only RGB "
                "and grey are supported"
            )
        self._dtype = parse_dtype(spec.dtype)
        if (spec.dtype == "float16" and not descriptor.supports_half) or (
            spec.dtype == "bfloat16" and not descriptor.supports_bfloat16
        ):
            raise ConfigError(f"{architecture}: does not run in {spec.dtype}")
        try:
            plan = _InSteps(_TILE if spec.tile is None else spec.tile, MARGIN)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._device = parse_device(spec.device)
        self.network = descriptor.to(self._device, self._dtype).eval()
        self.network.model.requires_grad_(requires_grad=False)
        self._plan = plan if descriptor.tiling is spandrel.ModelTiling.SUPPORTED else None
        self._grey = channels[0] == 1
        # Undoing a colour symmetry would falsify the colours that a network without colour input
        # gives.
        order = DIHEDRAL if self._grey else GROUP_ORDER
        self._draws = architecture in _DRAWING
        identity = fingerprint_of(
            {
                "engine": "spandrel",
                "revision": _REVISION,
                "spandrel": spandrel.__version__,
                "architecture": architecture,
                "weights": weights_digest,
                "dtype": spec.dtype,
                "tile": self._plan and self._plan.tile,
                "margin": MARGIN,
                "samples": "seeded" if self._draws else f"symmetry of {order}",
            }
        )
        super().__init__(
            spec.name or "spandrel",
            int(descriptor.scale),
            identity,
            distinct_samples=None if self._draws else order,
        )
        self._try_twice(architecture)

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """Load a .pth or .safetensors file, as `Engine.load`."""
        path = spec.weights
        if path is None:
            raise ConfigError("spandrel needs a weight file: give --weights")
        use_threads(spec.threads)
        descriptor, digest = read_network(path)
        return cls(descriptor, digest, replace(spec, name=spec.name or path.stem))

    def memory(self) -> DeviceMemory:
        return device_memory(self._device)

    def _try_twice(self, architecture: str) -> None:
        """Raise ConfigError if the network answers the same input in two ways."""
        picture = np.random.default_rng(0).integers(0, 256, (_TRIED, _TRIED, 3), np.uint8)
        first, second = (self._evaluate(picture, 0).astype(np.int16) for _ in range(2))
        if np.abs(first - second).max() > _ROUNDING:
            raise ConfigError(
                f"{architecture}: two answers to the same image and seed differ, so it draws at "
                "random in a way that no seed decides; not supported"
            )

    def _sample(self, image: RGB, seed: int, cancelled: Callable[[], bool]) -> RGB:
        if self._draws:
            return self._run(image, seed, cancelled)
        return undo(self._run(apply(image, seed), seed, cancelled), seed)

    def _run(self, image: RGB, seed: int, cancelled: Callable[[], bool]) -> RGB:
        side = max(image.shape[:2])
        plan: TilePlan | None = self._plan
        if plan is None or side <= plan.tile:
            plan = TilePlan(side, 0)
        return run_tiled(
            lambda window: self._evaluate(window, seed), image, self.scale, plan, cancelled
        )

    @torch.inference_mode()
    def _evaluate(self, image: RGB, seed: int) -> RGB:
        """One evaluation, [h, w, 3] -> [k*h, k*w, 3]; the seed decides its draws."""
        tensor = to_tensor(image, self._device)
        if self._grey:
            luma = torch.tensor(_LUMA, device=self._device).view(1, 3, 1, 1)
            tensor = (tensor * luma).sum(1, keepdim=True)
        try:
            with SeededDraws(seed) if self._draws else nullcontext():
                answer = self.network(tensor.to(self._dtype))[0].expand(3, -1, -1)
        except RuntimeError as error:
            if is_out_of_memory(error):
                # A smaller tile would be another model to the gateway.
                raise OutOfMemory("this image does not fit; start with a smaller --tile") from error
            raise
        return to_pixels(answer.float(), image.dtype)
