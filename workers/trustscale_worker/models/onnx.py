"""Any ONNX super-resolution model, through the gateway's embedded upscaler, without torch.

With the same file, tile and halo, worker and gateway make the same samples and have the same
fingerprint, so a model can move to other machines without a new calibration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from trustscale_server.platform.errors import ConfigError, UpscalerFailed
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.embedded.runtime import Precision
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS, ShippedName
from trustscale_server.upscalers.embedded.upscaler import (
    EmbeddedUpscaler,
    symmetric_sample,
    tile_plan,
)
from trustscale_server.upscalers.symmetries import GROUP_ORDER
from trustscale_worker.errors import ModelFailed, WeightsError
from trustscale_worker.models.engine import DeviceMemory, OneByOneEngine, host_memory
from trustscale_worker.settings import EngineSpec

_PRECISIONS: dict[str, Precision] = {"float32": "f32", "bfloat16": "bf16"}


class OnnxEngine(OneByOneEngine):
    """An ONNX network, sampled through its symmetries."""

    def __init__(self, upscaler: EmbeddedUpscaler, name: str, device: str = "cpu") -> None:
        """Take over a network and its tile plan; ConfigError if it runs on another device."""
        self._network = upscaler.model
        _check_device(device)
        if self._network.on_cpu != (device == "cpu"):
            raise ConfigError(
                f"device {device}: the onnxruntime that is installed here runs this model in "
                f"{self._network.provider} (its package onnxruntime-gpu is for GPUs)"
            )
        super().__init__(name, upscaler.scale, upscaler.fingerprint, distinct_samples=GROUP_ORDER)
        self._plan = upscaler.plan
        self._device = device

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """Load a file that maps RGB in [0, 1] to the same, NCHW float32, with free sides."""
        if spec.dtype not in _PRECISIONS:
            raise ConfigError(f"dtype {spec.dtype}: onnx models run in {' or '.join(_PRECISIONS)}")
        _check_device(spec.device)
        model: ShippedName | Path = spec.weights or "span-x4"
        name = spec.name or Path(spec.weights or SHIPPED_MODELS["span-x4"].file).stem
        plan, precision = tile_plan(model, spec.tile, spec.halo), _PRECISIONS[spec.dtype]
        try:
            upscaler = EmbeddedUpscaler(
                name, model, plan, threads=spec.threads or 0, precision=precision
            )
        except ConfigError as error:
            raise WeightsError(error.detail) from error
        return cls(upscaler, name, spec.device)

    def memory(self) -> DeviceMemory:
        return host_memory() if self._device == "cpu" else DeviceMemory(self._device, None, None)

    def _sample(self, image: RGB, element: int, cancelled: Callable[[], bool]) -> RGB:
        try:
            return symmetric_sample(self._network, image, element, self._plan, cancelled)
        except UpscalerFailed as error:
            raise ModelFailed(error.detail) from error


def _check_device(device: str) -> None:
    if device not in {"cpu", "cuda"}:
        raise ConfigError(
            f"device {device!r}: onnx models run on cpu or cuda; choose a GPU by the variable "
            "CUDA_VISIBLE_DEVICES"
        )
