"""Any ONNX super-resolution model, through the gateway's embedded upscaler. Needs no torch.

The worker makes the very samples that the gateway makes itself with the same file, tile and
halo. So both have the same fingerprint, and a calibration of the one holds for the other: a
model can move out of the gateway, onto other machines, without being calibrated again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import ConfigError as Unfit
from app.errors import UpscalerFailed
from app.upscalers.embedded import (
    DEFAULT_HALO,
    DEFAULT_MODEL,
    DEFAULT_TILE,
    SPAN_HALO,
    EmbeddedUpscaler,
    symmetric_sample,
)
from app.upscalers.seeds import GROUP_ORDER
from app.upscalers.tiling import Stopped, TilePlan
from workers.errors import ClientGone, ConfigError, ModelFailed, WeightsError
from workers.models.engine import DeviceMemory, host_memory
from workers.models.one_by_one import OneByOneEngine

__all__ = ["OnnxEngine"]

# What each device is called in onnxruntime.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEngine(OneByOneEngine):
    """An ONNX network, sampled through its symmetries."""

    def __init__(self, upscaler: EmbeddedUpscaler, name: str, device: str = "cpu") -> None:
        """Take over a loaded network.

        Args:
            upscaler: the network with its tile plan.
            name: what to call the model in URLs.
            device: "cpu" or "cuda".

        Raises:
            ConfigError: another device, or not the one that onnxruntime uses here.
        """
        self._network = upscaler.model
        if self._network.provider != _provider(device):
            raise ConfigError(
                f"device {device}: the onnxruntime that is installed here runs this model in "
                f"{self._network.provider} (its package onnxruntime-gpu is for GPUs)"
            )
        super().__init__(name, upscaler.scale, upscaler.fingerprint, distinct_samples=GROUP_ORDER)
        self._plan = upscaler.plan
        self._device = device

    @classmethod
    def from_file(
        cls,
        path: str | Path | None,
        *,
        name: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        tile: int | None = None,
        halo: int | None = None,
        threads: int | None = None,
    ) -> Self:
        """Load an ONNX file: RGB in [0, 1], NCHW float32 with free sides, in and out.

        Args:
            path: the file; None: the model that is shipped.
            name: what to call the model; by default the file's stem.
            device: as for the class.
            dtype: "float32": the precision of an ONNX model is in its file.
            tile: larger images are worked on in parts of this many input pixels per side.
            halo: overlap of the parts, at least the radius of the network.
            threads: threads inside one operator; by default one per core.

        Raises:
            WeightsError: unreadable, or no such model.
            ConfigError: another precision or device, or a tile that is all halo.
        """
        if dtype != "float32":
            raise ConfigError(f"dtype {dtype}: onnx models run in the precision of their file")
        _provider(device)  # wrong settings first, then wrong files
        path = None if path is None else Path(path)
        name = name or Path(path or DEFAULT_MODEL).stem
        tile = DEFAULT_TILE if tile is None else tile
        if halo is None:
            halo = SPAN_HALO if path is None else DEFAULT_HALO
        try:
            TilePlan(tile, halo)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        try:
            upscaler = EmbeddedUpscaler(name, path, threads or 0, tile, halo)
        except Unfit as error:
            raise WeightsError(error.detail) from error
        return cls(upscaler, name, device)

    def memory(self) -> DeviceMemory:
        # onnxruntime does not tell a GPU's memory.
        return host_memory() if self._device == "cpu" else DeviceMemory(self._device, None, None)

    def _sample(
        self, image: NDArray[np.uint8], element: int, cancelled: Callable[[], bool]
    ) -> NDArray[np.uint8]:
        try:
            return symmetric_sample(self._network, image, element, self._plan, cancelled)
        except Stopped as error:
            raise ClientGone("nobody waits for this sample any more") from error
        except UpscalerFailed as error:
            raise ModelFailed(error.detail) from error


def _provider(device: str) -> str:
    """What the device is called in onnxruntime.

    Raises:
        ConfigError: onnxruntime cannot be told to use it.
    """
    if device not in PROVIDERS:
        raise ConfigError(
            f"device {device!r}: onnx models run on cpu or cuda; choose a GPU by the variable "
            "CUDA_VISIBLE_DEVICES"
        )
    return PROVIDERS[device]
