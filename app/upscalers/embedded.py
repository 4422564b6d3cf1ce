"""Networks in this process: their runtimes, and their tiles.

ONNX networks, also the shipped ones, run on the fastest library of this machine. OpenVINO runs them
on x86 processors, in bfloat16 where the processor has it; onnxruntime on the accelerators of its
installed build and on all other processors. Both give the same float32 output up to the order of
sums (1e-5 of 1 on photographs), so they share a fingerprint; bfloat16 changes pixels, so the
fingerprint covers the precision.

The upscaler takes any ONNX model from RGB to RGB, over overlapping tiles. An output pixel of a
convolutional network depends on the input within a *radius* only: the sum of (kernel size − 1) / 2
over the convolutions of its longest path. So each tile reads a `halo` of at least that radius
beyond the pixels that it keeps, except at the border of the image, where the network applies its
border treatment. Tiled equals whole up to the order of floating-point sums.

All tiles of one image have the same shape: onnxruntime's memory arena keeps the blocks of every
shape, and other runtimes compile per shape.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib import resources
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from trustscale_server.concurrency import usable_cores
from trustscale_server.errors import ConfigError, UpscalerFailed, UpscalerUnavailable, reason_of
from trustscale_server.upscalers.base import (
    GROUP_ORDER,
    RGB,
    Capabilities,
    MemoryPermit,
    Source,
    apply,
    fingerprint_of,
    undo,
)

# --- ONNX networks, also the shipped ones, each on the fastest library of this machine.

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

log = structlog.get_logger(__name__)


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


# --- The upscaler inside this process: any ONNX model from RGB to RGB, over overlapping tiles.

# Of models that are not shipped; influence fades with distance.
DEFAULT_TILE, DEFAULT_HALO = 288, 32

# Version of the rules that change pixels and have no name below.
_ADAPTER = "embedded/1"

_STEP = 4  # sides of tiles are multiples of it, for speed

Part = Callable[[], None]


class SampleCancelled(Exception):
    """The caller asked to stop; no output exists."""


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in input pixels: reads [start, stop), keeps [first, last)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles of at most `tile` pixels a side, each with a `halo`; else ValueError."""

    tile: int
    halo: int

    def __post_init__(self) -> None:
        if self.halo < 0 or self.tile <= 2 * self.halo:
            raise ValueError(
                f"a tile must be larger than its two halos, got tile {self.tile}, halo {self.halo}"
            )

    def side(self, length: int) -> int:
        first = self.spans(length)[0]
        return first.stop - first.start

    def spans(self, length: int) -> list[Span]:
        """Return the tiles along an axis of `length` >= 1 pixels, equally long, at most `tile`.

        Their kept parts partition [0, length); each kept pixel has `halo` pixels on both sides
        inside its tile, or reaches to the image's border.
        """
        if length <= self.tile:
            return [Span(0, length, 0, length)]
        inner = length - 2 * self.halo
        count = -(-inner // (self.tile - 2 * self.halo))
        # 300 pixels become two of about 170, not 288 and a sliver; bfloat16 is slow at odd lengths.
        extent = -(-inner // count) + 2 * self.halo
        extent = min(self.tile, extent + -extent % _STEP)
        step = extent - 2 * self.halo
        starts = [*(i * step for i in range(count - 1)), length - extent]
        seams = [0, *(start + self.halo for start in starts[1:]), length]
        return [
            Span(start, start + extent, first, last)
            for start, first, last in zip(starts, seams[:-1], seams[1:], strict=True)
        ]


def tiled(
    function: Callable[[RGB], RGB], image: RGB, scale: int, plan: TilePlan
) -> tuple[RGB, list[Callable[[], None]]]:
    """Compute `function(image)` tile by tile, in any order or side by side.

    Args:
        function: maps a C-contiguous [h, w, 3] to [scale·h, scale·w, 3] of its type.
        image: [h, w, 3], at least 1 x 1.
        scale: the factor of `function`, >= 1.
        plan: no seam if the halo is at least the radius of `function`.

    Returns:
        The output, complete once every part has been called, and the parts, one a tile, which raise
        ValueError if `function` returned another shape.
    """
    height, width, channels = image.shape
    output = np.empty((scale * height, scale * width, channels), image.dtype)

    def fill(y: Span, x: Span) -> None:
        window = np.ascontiguousarray(image[y.start : y.stop, x.start : x.stop])
        tile = function(window)
        expected = (scale * window.shape[0], scale * window.shape[1], channels)
        if tile.shape != expected:
            raise ValueError(f"expected a tile of {expected}, got {tile.shape}")
        output[scale * y.first : scale * y.last, scale * x.first : scale * x.last] = tile[
            scale * (y.first - y.start) : scale * (y.last - y.start),
            scale * (x.first - x.start) : scale * (x.last - x.start),
        ]

    spans = product(plan.spans(height), plan.spans(width))
    return output, [partial(fill, y, x) for y, x in spans]


def run_tiled(
    function: Callable[[RGB], RGB],
    image: RGB,
    scale: int,
    plan: TilePlan,
    cancelled: Callable[[], bool] = lambda: False,
) -> RGB:
    """Return the complete output of `tiled`; `cancelled` is called before every tile.

    Raises SampleCancelled once `cancelled` returns true, and ValueError as `tiled`.
    """
    output, tiles = tiled(function, image, scale, plan)
    for compute in tiles:
        if cancelled():
            raise SampleCancelled
        compute()
    return output


class Closed(Exception):
    """The pool is closed."""


@dataclass(eq=False, slots=True)
class _Work:
    """Parts of one request. cost: of each. left: how many have not ended."""

    request: Hashable
    cost: int
    waiting: deque[Part]
    left: int = field(init=False)
    end: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.left = len(self.waiting)


class FairThreads:
    """Runs the parts of all requests in `count` threads, each part in one thread.

    A small picture of one tile should not wait for the hundreds of a large one. So the request that
    has had the least is next, among equals the smallest: start-time fair queueing (Goyal, Vin and
    Cheng, SIGCOMM 1996) with the pixels of a tile as its length.
    """

    def __init__(self, count: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._works: list[_Work] = []
        self._had: dict[Hashable, int] = {}  # cost so far, with a handicap

    async def run(self, request: Hashable, tasks: Iterable[Part], cost: int) -> None:
        """Call every part in a thread, starting them in order.

        When the call is cancelled or a part raises, parts that have begun end, others do not begin.

        `cost` is the thread time of a part, in any unit. Raises Closed after `close`.
        """
        work = _Work(request, cost, deque(tasks))
        with self._lock:
            self._had.setdefault(request, min(self._had.values(), default=0))
            self._works.append(work)
        try:
            for _ in range(work.left):
                self._threads.submit(self._do_next)
        except RuntimeError as error:  # the threads were shut down
            raise Closed from error
        await asyncio.wrap_future(work.end)

    def close(self) -> None:
        """Start no further part, and end waiting calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for work in self._works:
                _end(work, Closed())

    def _do_next(self) -> None:
        with self._lock:
            self._works = [work for work in self._works if not work.end.done()]
            present = {work.request for work in self._works}
            self._had = {request: had for request, had in self._had.items() if request in present}
            waiting = [work for work in self._works if work.waiting]
            if not waiting:
                return
            work = min(
                waiting, key=lambda queued: (self._had[queued.request], queued.left * queued.cost)
            )
            self._had[work.request] += work.cost
            task = work.waiting.popleft()
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            _end(work, error)
            return
        with self._lock:
            work.left -= 1
        if not work.left:
            _end(work)


def _end(work: _Work, error: BaseException | None = None) -> None:
    with suppress(InvalidStateError):
        if error is None:
            work.end.set_result(None)
        else:
            work.end.set_exception(error)


def symmetric_sample(
    model: OnnxModel,
    rgb: RGB,
    seed: int,
    plan: TilePlan,
    cancelled: Callable[[], bool] = lambda: False,
) -> RGB:
    """Upscale under the symmetry `seed % 96` and undo it: one sample.

    Each tile is transformed, which saves a copy of the output; the result is the same while the
    halo covers the model's radius.

    From [h, w, 3] of 8 or 16 bits, at least 1 x 1, to [k·h, k·w, 3], as deep.

    Raises UpscalerFailed, and SampleCancelled once `cancelled`, called before every tile, is true.
    """
    return run_tiled(_under_symmetry(model, seed), rgb, model.scale, plan, cancelled)


def _under_symmetry(model: OnnxModel, seed: int) -> Callable[[RGB], RGB]:
    element = seed % GROUP_ORDER

    def sample(window: RGB) -> RGB:
        return undo(model(apply(window, element)), element)

    return sample


class EmbeddedUpscaler:
    """`Upscaler` over an `OnnxModel`, sampled through its symmetries.

    One tile at a time uses all cores, unless `concurrency` says otherwise: two at once are 3 to 5 %
    faster on two cores, with twice the memory (`benchmarks/embedded.py`).

    The fingerprint covers the weights and every rule that changes pixels. It leaves out threads,
    device and library version, which change the order of sums: at most one step of 255 in a rare
    pixel. `exact_fingerprint` is that of the same upscaler in float32: a σ fitted to one precision
    suits the other.

    Args:
        model: a shipped one, or an ONNX file.
        threads: inside one operator; 0: the usable cores divided by `concurrency`.
        tile: largest side in input pixels; memory grows with its square; None: see `tile_and_halo`.
        halo: overlap in input pixels, at least the radius of the network; None: the same.
        concurrency: tiles that are made at once; a GPU makes one.

    Raises ConfigError: an unreadable file, not such a model, or too small a tile.
    """

    kind = "embedded"

    def __init__(
        self,
        name: str = "span-x4",
        model: ShippedName | Path = "span-x4",
        threads: int = 0,
        tile: int | None = None,
        halo: int | None = None,
        concurrency: int = 1,
        precision: PrecisionSetting = "f32",
    ) -> None:
        if threads < 0:
            raise ConfigError(f"{name}: threads must be 0 (all cores) or more, got {threads}")
        self.name = name
        weights = _weights(model)
        tile, halo = tile_and_halo(model, tile, halo)
        try:
            self.plan = TilePlan(tile, halo)
        except ValueError as error:
            raise ConfigError(f"upscaler {name}: {error}") from error
        self._load = partial(
            OnnxModel,
            weights,
            name=model.name if isinstance(model, Path) else model,
            threads=threads or max(1, usable_cores() // concurrency),
            streams=concurrency,
            precision=precision,
        )
        self._precision: Precision | None = None
        if not isinstance(model, Path):
            self._precision = foreseen(precision)
        self.scale, self._concurrency = SCALE, concurrency
        if self._precision is None:
            self._precision = self.model.precision
            self.scale = self.model.scale
            self._concurrency = concurrency if self.model.on_cpu else 1
        self.facts = {
            "adapter": _ADAPTER,
            "weights": hashlib.sha256(weights).hexdigest(),
            "tile": tile,
            "halo": halo,
            "symmetry": f"seed % {GROUP_ORDER}, on tiles",
            "rounding": "half up",
        }
        self.exact_fingerprint = fingerprint_of(self.facts)
        if self._precision != "f32":
            self.facts["precision"] = self._precision
        self.fingerprint = fingerprint_of(self.facts)
        self._is_closed = False
        self._threads = FairThreads(self._concurrency, f"embedded-{name}")

    @cached_property
    def model(self) -> OnnxModel:
        """The network, loaded at first use if it is shipped.

        Raises UpscalerUnavailable: it computes in another precision than foreseen.
        """
        model = self._load()
        if self._precision not in {None, model.precision}:
            raise UpscalerUnavailable(
                f"upscaler {self.name} computes in {model.precision} on this machine, not in "
                f'{self._precision}: set precision = "{model.precision}"'
            )
        return model

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            concurrency=self._concurrency, max_samples=GROUP_ORDER, by_tiles=True, takes_16_bit=True
        )

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate samples; cancelling returns at once, but the tile in progress ends."""
        await self.check()
        model = await asyncio.to_thread(lambda: self.model)
        samples, tasks = [], []
        for seed in seeds:
            sample, its_parts = tiled(
                _under_symmetry(model, seed), source.rgb, self.scale, self.plan
            )
            samples.append(sample)
            tasks += its_parts
        if turn is not None:
            tasks = turn.counted(tasks)
        tile = self.plan.side(source.height) * self.plan.side(source.width)
        try:
            await self._threads.run(source, tasks, tile)
        except Closed as error:
            raise UpscalerUnavailable(f"upscaler {self.name} is shutting down") from error
        return samples

    async def check(self) -> None:
        if self._is_closed:
            raise UpscalerUnavailable(f"upscaler {self.name} is shutting down")

    async def close(self) -> None:
        self._is_closed = True
        self._threads.close()


def tile_and_halo(model: ShippedName | Path, tile: int | None, halo: int | None) -> tuple[int, int]:
    """Return the largest side of a tile and the halo of a model, in input pixels."""
    if isinstance(model, Path):
        return tile or DEFAULT_TILE, DEFAULT_HALO if halo is None else halo
    shipped = SHIPPED[model]
    return tile or shipped.tile, shipped.halo if halo is None else halo


def _weights(model: ShippedName | Path) -> bytes:
    if not isinstance(model, Path):
        return SHIPPED[model].read()
    try:
        return model.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the model {model}: {error.strerror}") from error
