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
from app.upscalers.tiling import TilePlan
from workers.errors import ConfigError, ModelFailed, WeightsError
from workers.models.engine import DeviceMemory, EngineSpec, OneByOneEngine, host_memory

# What each device is called in onnxruntime.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEngine(OneByOneEngine):
    """An ONNX network, sampled through its symmetries."""

    def __init__(self, upscaler: EmbeddedUpscaler, name: str, device: str = "cpu") -> None:
        """Take over a loaded network and its tile plan.

        Raises:
            ConfigError: another device than onnxruntime uses here.
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
    def load(cls, spec: EngineSpec) -> Self:
        """See `Engine.load`; the file maps RGB in [0, 1] to the same, NCHW float32, free sides."""
        if spec.dtype != "float32":
            raise ConfigError(f"dtype {spec.dtype}: onnx models run in the precision of their file")
        _provider(spec.device)  # wrong settings first, then wrong files
        name = spec.name or Path(spec.weights or DEFAULT_MODEL).stem
        tile = DEFAULT_TILE if spec.tile is None else spec.tile
        halo = spec.halo
        if halo is None:
            halo = SPAN_HALO if spec.weights is None else DEFAULT_HALO
        try:
            TilePlan(tile, halo)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        try:
            upscaler = EmbeddedUpscaler(name, spec.weights, spec.threads or 0, tile, halo)
        except Unfit as error:
            raise WeightsError(error.detail) from error
        return cls(upscaler, name, spec.device)

    def memory(self) -> DeviceMemory:
        # onnxruntime does not tell a GPU's memory.
        return host_memory() if self._device == "cpu" else DeviceMemory(self._device, None, None)

    def _sample(
        self, image: NDArray[np.uint8], element: int, cancelled: Callable[[], bool]
    ) -> NDArray[np.uint8]:
        try:
            return symmetric_sample(self._network, image, element, self._plan, cancelled)
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
