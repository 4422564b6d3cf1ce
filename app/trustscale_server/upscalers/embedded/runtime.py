"""Loads ONNX networks, each into the fastest library of this machine.

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
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from trustscale_server.platform.errors import ConfigError, reason_of

log = structlog.get_logger(__name__)

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
_FIRST_USE = threading.Lock()


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

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output, which the caller may change until this thread's next run."""
        ...


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
    fastest = runtimes()[0]
    if fastest == OPENVINO and precision != "f32" and has_bf16():
        return "bf16"
    return "f32" if fastest in {OPENVINO, CPU} and precision != "bf16" else None


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


def agree(session: InferenceSession, reference: InferenceSession) -> bool:
    """Return whether two sessions differ by less than half a step of 255 on `trial()`."""
    try:
        return bool(np.abs(session.run(trial()) - reference.run(trial())).max() <= 0.5 / 255)
    except Exception:  # noqa: BLE001 - onnxruntime's errors share no other base
        return False


def trial() -> NDArray[np.float32]:
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
            [_port(port) for port in side]
            for side in (self._compiled.inputs, self._compiled.outputs)
        )
        # A request holds its tensors, so it serves one thread only.
        self._mine = threading.local()

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        request = getattr(self._mine, "request", None)
        if request is None:
            request = self._mine.request = self._compiled.create_infer_request()
        output: NDArray[np.float32] = request.infer(
            [tensor], share_inputs=True, share_outputs=True
        )[0]
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

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        name = self._session.get_inputs()[0].name
        output: NDArray[np.float32] = self._session.run(None, {name: tensor})[0]
        return output


def _ports(arguments: Iterable[Any]) -> list[Port]:
    return [
        Port(
            {"tensor(float)": "float32"}.get(argument.type, argument.type),
            tuple(side if isinstance(side, int) else None for side in argument.shape),
        )
        for argument in arguments
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
