"""ONNX networks, also the shipped ones, each on the fastest library of this machine.

OpenVINO runs them on x86 processors, in bfloat16 where the processor has it; onnxruntime on the
accelerators of its installed build and on all other processors. Both give the same float32 output
up to the order of sums (1e-5 of 1 on photographs), so they share a fingerprint; bfloat16 changes
pixels, so the fingerprint covers the precision.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import (
    ConfigError,
    UpscalerFailed,
    reason_of,
)
from trustscale_server.upscalers.base import RGB

log = structlog.get_logger(__name__)


Tensor = NDArray[np.float32]
Precision = Literal["f32", "bf16"]
PrecisionSetting = Literal["auto", "f32", "bf16"]

CPU = "CPUExecutionProvider"
OPENVINO = "OpenVINO"

# In the order of trial. TF32 moves outputs by more than 1/255; cuDNN's default search tries every
# algorithm for each new shape.
_ACCELERATORS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    "DmlExecutionProvider": {},
    "CoreMLExecutionProvider": {"ModelFormat": "MLProgram"},
}
_TRIAL = (16, 24)  # not square, to detect swapped sides
_TOLERANCE = 0.5 / 255
_STRIP = 32  # rows converted together: they stay in the cache
_FIRST_USE = threading.Lock()


Character = Literal["faithful", "sharp"]
"""Faithful: hardly invents, soft. Sharp: repaints, crisp."""

ShippedName = Literal["span-x4", "realesr-x4"]

SCALE: Final = 4  # of every shipped model


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """One shipped model; `models/MODEL_CARD.md` describes it.

    file: in `models/`.
    title: for display.
    halo: its radius in input pixels: no output pixel depends on anything farther away.
    tile: the default largest side of a tile in input pixels.
    """

    file: str
    title: str
    character: Character
    halo: int
    tile: int

    def read(self) -> bytes:
        return resources.files(__package__).joinpath("models", self.file).read_bytes()


# 288 keeps a process near 520 MB.
SHIPPED = MappingProxyType(
    {
        # The longest path has 21 convolutions of 3 x 3 and one of 1 x 1.
        "span-x4": ShippedModel("spanx4_ch52.onnx", "SPAN ×4", "faithful", 21, 288),
        # 34 convolutions of 3 x 3.
        "realesr-x4": ShippedModel("realesr-general-x4v3.onnx", "Real-ESRGAN ×4", "sharp", 34, 296),
    }
)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network: its type, such as "float32", and sides, None if free."""

    type: str
    shape: tuple[int | None, ...]


class InferenceSession(Protocol):
    """A loaded network from one tensor to one; thread-safe.

    `provider`: `OPENVINO` or an execution provider of onnxruntime.
    """

    provider: str
    precision: Precision
    inputs: list[Port]
    outputs: list[Port]

    def run(self, tensor: Tensor) -> Tensor:
        """Return the output, which the caller may change until this thread's next run."""
        ...


class OnnxModel:
    """An ONNX super-resolution network on one window of pixels; thread-safe.

    Input and output are one NCHW float32 RGB tensor in [0, 1] with free height and width; a trial
    run finds `scale`.

    0 threads: one per usable core. Raises ConfigError: not an ONNX file, or not such a network.
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
        self.threads = threads or usable_cores()
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


def load_session(
    weights: bytes,
    *,
    name: str,
    threads: int,
    streams: int = 1,
    precision: PrecisionSetting = "f32",
    among: Sequence[str] | None = None,
) -> InferenceSession:
    """Load a network.

    The ONNX file has no external data. One run uses `threads`; `streams` threads call `run` at
    once. Precision "auto" is bfloat16 where OpenVINO runs the network on a processor that has it,
    else float32. `among` are candidates in order of trial; None: `runtimes()`. Raises ConfigError:
    not an ONNX file, or bfloat16 is required and missing.
    """
    if precision == "bf16" and not has_bf16():
        raise ConfigError(
            'precision = "bf16" needs OpenVINO and a processor that computes in bfloat16 '
            '(AVX512_BF16 or AMX); use "auto" or "f32"'
        )
    for runtime in runtimes() if among is None else among:
        if runtime == OPENVINO:
            half = precision != "f32" and has_bf16()
            try:
                return _OpenVino(weights, threads, streams, "bf16" if half else "f32")
            except RuntimeError:  # onnxruntime says why
                log.info("openvino_cannot_run", model=name)
        elif runtime != CPU and precision != "bf16":
            session = _OnnxRuntime(weights, name, threads, runtime)
            if agree(session, _OnnxRuntime(weights, name, threads)):
                return session
            log.warning("accelerator_not_used", model=name, provider=runtime)
    if precision == "bf16":
        raise ConfigError(f"{name}: OpenVINO cannot run this model in bf16")
    return _OnnxRuntime(weights, name, threads)


def foreseen(precision: PrecisionSetting) -> Precision | None:
    """Return the precision of a shipped network; None if an accelerator must be tried first."""
    first = runtimes()[0]
    if first == OPENVINO and precision != "f32" and has_bf16():
        return "bf16"
    return "f32" if first in {OPENVINO, CPU} and precision != "bf16" else None


@cache
def runtimes() -> tuple[str, ...]:
    """Return what can run networks here, fastest first. Accelerators, OpenVINO, onnxruntime."""
    return (*_accelerators(), *([OPENVINO] if _openvino() is not None else []), CPU)


def _accelerators() -> list[str]:
    spec = find_spec("onnxruntime")
    home = Path(spec.origin).parent if spec and spec.origin else Path()
    # Importing onnxruntime takes longer than a small picture.
    if sys.platform == "linux" and not any(home.glob("capi/*providers_cuda*")):
        return []
    import onnxruntime  # noqa: PLC0415

    offered = onnxruntime.get_available_providers()
    return [provider for provider in _ACCELERATORS if provider in offered]


@cache
def has_bf16() -> bool:
    """Return whether OpenVINO is installed and this processor computes in bfloat16."""
    openvino = _openvino()
    if openvino is None:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def bf16_unit(about: Path = Path("/proc/cpuinfo")) -> str:
    """Return what computes in bfloat16, as far as the system tells: AMX, AVX512_BF16 or "".

    With AVX512_BF16 a pass takes .49 (span-x4) and .51 (realesr-x4) of one in float32, so "auto"
    takes it without AMX, too.
    """
    with suppress(OSError):
        flags = set(about.read_text().split())
        return next((unit.upper() for unit in ("amx_bf16", "avx512_bf16") if unit in flags), "")
    return ""


def agree(session: InferenceSession, other: InferenceSession) -> bool:
    """Return whether two sessions differ by less than half a step of 255 on `trial()`."""
    try:
        return bool(np.abs(session.run(trial()) - other.run(trial())).max() <= _TOLERANCE)
    except Exception:  # noqa: BLE001 - onnxruntime's errors share no other base
        return False


def trial() -> Tensor:
    """Return the input for trials, float32 [1, 3, 16, 24] of mean 0.5; smooth, as pictures are."""
    ramp = np.linspace(0.2, 0.8, _TRIAL[0] * _TRIAL[1], dtype=np.float32).reshape(_TRIAL)
    return np.broadcast_to(ramp, (1, 3, *_TRIAL)).copy()


@cache
def _openvino() -> Any:
    try:
        import openvino  # noqa: PLC0415
    except ImportError:
        return None
    # Its tables of types are made at their first use, and that lets go of Python's lock halfway:
    # of two threads whose first use coincides, each would wait for the other without end.
    with _FIRST_USE:
        openvino.Type.f32.to_dtype()
        openvino.Tensor(np.zeros(1, np.float32))
    return openvino


class _OpenVino:
    """A session of OpenVINO on this processor."""

    def __init__(self, weights: bytes, threads: int, streams: int, precision: Precision) -> None:
        core = _openvino().Core()
        self.provider, self.precision = OPENVINO, precision
        self._compiled = core.compile_model(
            core.read_model(weights),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": threads * streams,
                "NUM_STREAMS": streams,
                "ENABLE_CPU_PINNING": False,  # as in `OnnxModel`
                # Of primitives, some 50 a network for each shape of a picture. The default of 5,000
                # took half a megabyte more for each new shape, and no time less.
                "CPU_RUNTIME_CACHE_CAPACITY": 64,
            },
        )
        self.inputs, self.outputs = (
            [_port(each) for each in side]
            for side in (self._compiled.inputs, self._compiled.outputs)
        )
        # A request holds its tensors, so it serves one thread only.
        self._mine = threading.local()

    def run(self, tensor: Tensor) -> Tensor:
        request = getattr(self._mine, "request", None)
        if request is None:
            request = self._mine.request = self._compiled.create_infer_request()
        output: Tensor = request.infer([tensor], share_inputs=True, share_outputs=True)[0]
        return output


def _port(port: Any) -> Port:
    shape, kind = port.get_partial_shape(), port.get_element_type().to_dtype().name
    sides = () if shape.rank.is_dynamic else shape
    return Port(kind, tuple(side.get_length() if side.is_static else None for side in sides))


class _OnnxRuntime:
    """A session of onnxruntime."""

    def __init__(self, weights: bytes, name: str, threads: int, accelerator: str = "") -> None:
        import onnxruntime  # noqa: PLC0415

        providers: list[Any] = [CPU]
        if accelerator:
            providers.insert(0, (accelerator, _ACCELERATORS[accelerator]))
        try:
            self._session = onnxruntime.InferenceSession(
                weights, _options(onnxruntime, threads), providers=providers
            )
        except Exception as error:  # onnxruntime's errors share no base
            raise ConfigError(
                f"{name} is not an ONNX model that onnxruntime can load: {reason_of(error)}"
            ) from error
        self.provider = str(self._session.get_providers()[0])
        self.precision: Precision = "f32"
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())

    def run(self, tensor: Tensor) -> Tensor:
        name = self._session.get_inputs()[0].name
        output: Tensor = self._session.run(None, {name: tensor})[0]
        return output


def _ports(arguments: Iterable[Any]) -> list[Port]:
    return [
        Port(
            {"tensor(float)": "float32"}.get(each.type, each.type),
            tuple(side if isinstance(side, int) else None for side in each.shape),
        )
        for each in arguments
    ]


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads gain 2 to 5 % on idle cores and cost 20 % on busy ones.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A pattern is kept for every shape (256 x 256: 412 MB with, 260 MB without, at equal speed).
    options.enable_mem_pattern = False
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors
    return options
