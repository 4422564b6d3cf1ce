"""An ONNX super-resolution network, checked when it is loaded."""

from __future__ import annotations

import numpy as np

from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import ConfigError, UpscalerFailed, reason_of
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.embedded.runtime import (
    CPU,
    OPENVINO,
    Precision,
    PrecisionSetting,
    load_session,
    trial,
)

_STRIP = 32  # rows converted together: they stay in the cache


class OnnxModel:
    """An ONNX super-resolution network on one window of pixels; thread-safe.

    Input and output are one NCHW float32 RGB tensor in [0, 1] with free height and width; a trial
    run finds `scale`.

    0 threads: the usable cores divided by the `streams`, which are the windows that are computed at
    once. Raises ConfigError: not an ONNX file, or not such a network.
    """

    def __init__(
        self,
        weights: bytes,
        *,
        name: str,
        threads: int = 0,
        streams: int = 1,
        precision: PrecisionSetting = "f32",
    ) -> None:
        self.name = name
        # By default the libraries pin a thread to each core, also to those that a container lacks.
        self.threads = threads or max(1, usable_cores() // streams)
        self.session = load_session(
            weights, name=name, threads=self.threads, streams=streams, precision=precision
        )
        self.scale = self._probe()

    @property
    def provider(self) -> str:
        return self.session.provider

    @property
    def on_cpu(self) -> bool:
        return self.provider in {CPU, OPENVINO}

    @property
    def precision(self) -> Precision:
        return self.session.precision

    def __call__(self, rgb: RGB) -> RGB:
        """The upscaled window [k·h, k·w, 3], as deep as the input, clipped and rounded half up.

        The window is not padded: SPAN was trained with zeros beyond its borders (on 30 photographs
        the outermost 4 input pixels lose 1.8 dB with edge and 2.5 dB with reflect padding).

        Raises:
            UpscalerFailed: the network failed, or gave another shape or non-finite values.
        """
        height, width, _ = rgb.shape
        tensor = np.ascontiguousarray(rgb.transpose(2, 0, 1)[np.newaxis], np.float32)
        largest = np.iinfo(rgb.dtype).max
        tensor /= largest
        try:
            output = self.session.run(tensor)
        except Exception as error:  # the libraries' errors share no other base
            raise UpscalerFailed(f"{self.name} failed: {reason_of(error)}") from error
        if output.shape != (1, 3, self.scale * height, self.scale * width):
            raise UpscalerFailed(
                f"{self.name} made {output.shape} of an input of {width} x {height}, "
                f"not {self.scale} times as large"
            )
        pixels = np.empty((*output.shape[2:], 3), rgb.dtype)
        for top in range(0, len(pixels), _STRIP):
            strip = output[0, :, top : top + _STRIP]
            if not np.isfinite([strip.min(), strip.max()]).all():
                raise UpscalerFailed(f"{self.name} gave values that are not finite")
            np.clip(strip, 0, 1, out=strip)
            strip *= largest
            strip += 0.5  # and truncation: rounding half up
            for channel, plane in enumerate(strip):
                pixels[top : top + _STRIP, :, channel] = plane
        return pixels

    def _probe(self) -> int:
        """Check that this is a super-resolution network, and return its scale."""
        inputs, outputs = self.session.inputs, self.session.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise self._unfit(
                f"it has {len(inputs)} inputs and {len(outputs)} outputs, not 1 and 1"
            )
        if any(port.type != "float32" for port in (*inputs, *outputs)):
            raise self._unfit(f"it maps {inputs[0].type} to {outputs[0].type}, not float32")
        shape = inputs[0].shape
        if len(shape) != 4 or shape[1] not in {3, None}:
            raise self._unfit(f"its input is {shape}, not [1, 3, height, width]")
        if any(shape[2:]):
            raise self._unfit(f"its input size is fixed to {shape[2:]}; export it with free sides")
        tensor = trial()
        height, width = tensor.shape[2:]
        try:
            output = self.session.run(tensor)
        except Exception as error:  # the libraries' errors share no other base
            raise self._unfit(f"a trial run failed: {reason_of(error)}") from error
        scale = output.shape[-1] // width if output.ndim == 4 else 0
        if scale < 1 or output.shape != (1, 3, scale * height, scale * width):
            raise self._unfit(f"it made {output.shape} of an input of {tensor.shape}")
        # A network for 0..255 or −1..1 does not keep the mean brightness.
        if not abs(float(output.mean()) - 0.5) < 0.25:
            raise self._unfit(f"its mean output for a grey ramp is {output.mean():.3g}, not 0.5")
        return int(scale)

    def _unfit(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.name} is not a model from RGB to RGB in [0, 1]: {reason}")
