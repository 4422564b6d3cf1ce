"""Any community model file, through spandrel: Real-ESRGAN, SwinIR, HAT, DAT, DDColor and more.

These networks are deterministic, so their samples are the symmetry group's: the image is
turned, mirrored, its channels exchanged, its intensities inverted; the network runs; the change
is undone. Which change is `seed % 96`, as in the gateway's own embedded upscaler.

spandrel recognises the architecture by the names of the weights. Files are read by our own
safe readers and never by spandrel's, so the same rules hold for every model: no code in a
file is ever executed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import spandrel
import torch
from numpy.typing import NDArray

from app.upscalers import symmetry
from app.upscalers.seeds import GROUP_ORDER
from workers import weights
from workers.errors import Cancelled, ConfigError, OutOfMemory, WeightsError
from workers.models.device import device_memory, parse_device, parse_dtype
from workers.models.engine import DeviceMemory, Engine, Job, fingerprint_of
from workers.models.sinsr.batching import is_out_of_memory
from workers.models.sinsr.tiling import Box, boxes

__all__ = ["CommunityEngine"]

# Raised whenever this module changes a pixel for the same weights and seed.
REVISION = 1

# Context that a tile sees beyond the part that is kept. Convolutional super-resolution rarely
# looks farther; attention over the whole image does, and such models are not tiled.
MARGIN = 32


class CommunityEngine(Engine):
    """A deterministic network, sampled through its symmetries."""

    def __init__(
        self,
        descriptor: Any,
        *,
        name: str,
        weights_digest: str,
        device: str = "cpu",
        dtype: str = "float32",
        tile: int = 512,
    ) -> None:
        """Take over a network that spandrel has built.

        Args:
            descriptor: spandrel's `ImageModelDescriptor`, RGB to RGB.
            name: what to call the model.
            weights_digest: identity of its weights.
            device: "cpu", "cuda" or "cuda:N".
            dtype: "float32", or "float16" or "bfloat16" where the architecture allows it.
            tile: larger images are worked on in parts of this many input pixels per side,
                if the architecture allows it.

        Raises:
            ConfigError: not an RGB-to-RGB model, or it does not run at that precision.
        """
        architecture = descriptor.architecture.id
        if not isinstance(descriptor, spandrel.ImageModelDescriptor):
            raise ConfigError(f"{architecture}: needs a mask besides the image; not supported")
        if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
            raise ConfigError(
                f"{architecture}: takes {descriptor.input_channels} and gives "
                f"{descriptor.output_channels} channels; only RGB to RGB is supported"
            )
        precision = parse_dtype(dtype)
        if (dtype == "float16" and not descriptor.supports_half) or (
            dtype == "bfloat16" and not descriptor.supports_bfloat16
        ):
            raise ConfigError(f"{architecture}: does not run in {dtype}")
        if tile <= 2 * MARGIN:
            raise ConfigError(f"tile {tile}: must be larger than {2 * MARGIN}")
        self._device = parse_device(device)
        self._dtype = precision
        self._network = descriptor.to(self._device, precision).eval()
        self._network.model.requires_grad_(requires_grad=False)
        self._tile = tile if descriptor.tiling is spandrel.ModelTiling.SUPPORTED else None
        self._name = name
        self._scale = int(descriptor.scale)
        self._fingerprint = fingerprint_of(
            {
                "engine": "spandrel",
                "revision": REVISION,
                "spandrel": spandrel.__version__,
                "architecture": str(architecture),
                "weights": weights_digest,
                "dtype": dtype,
                "tile": self._tile,
                "margin": MARGIN,
                "samples": f"symmetry of {GROUP_ORDER}",
            }
        )

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        tile: int = 512,
    ) -> Self:
        """Load a .pth or .safetensors file.

        Args:
            path: the file.
            name: what to call the model; by default the file's stem.
            device: as for the class; so are all that follow.
            dtype: precision.
            tile: size of the parts of large images.

        Raises:
            WeightsError: unreadable, unsafe, or of no architecture that spandrel knows.
            ConfigError: see the class.
        """
        path = Path(path)
        state = weights.read_state(path)
        named = weights.digest(state)
        try:
            loader = spandrel.ModelLoader("cpu", registry=_architectures())
            descriptor = loader.load_from_state_dict(spandrel.canonicalize_state_dict(state))
        except spandrel.UnsupportedModelError as error:
            raise WeightsError(f"{path}: of no architecture that spandrel knows") from error
        except Exception as error:  # architectures raise what they like on odd weights
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(f"{path}: cannot be loaded ({first})") from error
        return cls(
            descriptor,
            name=name or path.stem,
            weights_digest=named,
            device=device,
            dtype=dtype,
            tile=tile,
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def scale(self) -> int:
        return self._scale

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def distinct_samples(self) -> int | None:
        return GROUP_ORDER

    @property
    def together(self) -> int:
        return 1  # turned images differ in shape, and architectures take one at a time

    def samples(self, image: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """From uint8[h, w, 3] and int64[M] to uint8[M, k*h, k*w, 3]; see `Engine`."""
        [result] = self.samples_of([Job(image, seeds)])
        return result

    def samples_of(self, jobs: Sequence[Job]) -> list[NDArray[np.uint8]]:
        """See `Engine.samples_of`. Seeds with the same remainder cost one run."""
        results = [self._job(job) for job in jobs]
        if all(job.cancelled() for job in jobs):
            raise Cancelled("nobody waits for these samples any more")
        return results

    def memory(self) -> DeviceMemory:
        return device_memory(self._device)

    def _job(self, job: Job) -> NDArray[np.uint8]:
        height, width = job.image.shape[:2]
        k = self._scale
        result = np.empty((len(job.seeds), k * height, k * width, 3), np.uint8)
        made: dict[int, int] = {}
        for row, seed in enumerate(job.seeds):
            if job.cancelled():
                break
            element = int(seed) % GROUP_ORDER
            if element in made:
                result[row] = result[made[element]]
                continue
            changed = self._run(symmetry.apply(job.image, element))
            result[row] = symmetry.undo(changed, element)
            made[element] = row
        return result

    def _run(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's answer, uint8[h, w, 3] -> uint8[k*h, k*w, 3]."""
        height, width = image.shape[:2]
        k = self._scale
        result = np.empty((k * height, k * width, 3), np.uint8)
        for box in self._parts(height, width):
            top, left = max(0, box.top - MARGIN), max(0, box.left - MARGIN)
            seen = image[top : box.bottom + MARGIN, left : box.right + MARGIN]
            answer = self._evaluate(seen)[k * (box.top - top) :, k * (box.left - left) :]
            result[k * box.top : k * box.bottom, k * box.left : k * box.right] = answer[
                : k * box.height, : k * box.width
            ]
        return result

    def _parts(self, height: int, width: int) -> list[Box]:
        if self._tile is None or max(height, width) <= self._tile:
            return [Box(0, height, 0, width)]
        core = self._tile - 2 * MARGIN
        return list(boxes(height, width, core, core))

    @torch.inference_mode()
    def _evaluate(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        tensor = (pixels.permute(2, 0, 1)[None].float() / 255).to(self._dtype)
        try:
            answer = self._network(tensor)[0]
        except RuntimeError as error:
            if is_out_of_memory(error):
                # A smaller tile would be another model to the gateway, so it is not tried here.
                raise OutOfMemory("this image does not fit; start with a smaller --tile") from error
            raise
        rounded = answer.float().mul_(255).round_().to(torch.uint8)
        result: NDArray[np.uint8] = rounded.permute(1, 2, 0).contiguous().cpu().numpy()
        return result


def _architectures() -> spandrel.ArchRegistry:
    """Spandrel's architectures, and the extra ones where that package is installed."""
    registry = spandrel.ArchRegistry()
    registry.add(*spandrel.MAIN_REGISTRY)
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # noqa: PLC0415  an optional package
    except ImportError:
        return registry
    registry.add(*EXTRA_REGISTRY)
    return registry
