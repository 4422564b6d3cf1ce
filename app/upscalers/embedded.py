"""The upscaler inside this process: any ONNX model from RGB to RGB through onnxruntime.

Three layers, each usable without the next: `OnnxModel` runs the network on one window,
`symmetric_sample` turns any deterministic model into a seeded sampler of any image size, and
`EmbeddedUpscaler` puts both behind the asynchronous `Upscaler` protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from app.errors import ConfigError, UpscalerFailed, UpscalerUnavailable, reason_of
from app.system import usable_cores
from app.upscalers.base import RGB, Capabilities, Source, fingerprint_of
from app.upscalers.fair import Closed, FairThreads
from app.upscalers.seeds import GROUP_ORDER
from app.upscalers.symmetry import apply, undo
from app.upscalers.tiling import TilePlan, run_tiled, tiled
from app.upscalers.turns import Turn

DEFAULT_MODEL = "spanx4_ch52.onnx"

# The largest tile side, in input pixels. 288 keeps the process near 520 MB with SPAN, takes 256 x
# 256 in one piece and 512 x 512 in four that read 17 % more than the image; at 256 it would be
# nine that read 36 % more.
DEFAULT_TILE = 288

# The longest path of SPAN has 21 convolutions of 3 x 3 (and one of 1 x 1): no output pixel sees
# farther than 21 input pixels, so this halo is exact.
SPAN_HALO = 21

# For models whose radius this program does not know. Deep networks reach farther in principle, but
# their influence fades with the distance. Whoever needs certainty sets `halo` to the radius.
DEFAULT_HALO = 32

# Counts the versions of this module's rules that change pixels and have no name below.
_ADAPTER = "embedded/1"


def symmetric_sample(
    model: OnnxModel,
    rgb: RGB,
    seed: int,
    plan: TilePlan,
    cancelled: Callable[[], bool] = lambda: False,
) -> RGB:
    """One sample of a deterministic model: upscale under the symmetry `seed % 96`, then undo it.

    The symmetry is applied to each tile, not to the image: the result is the same as long as the
    halo covers the model's radius, seams lie at the same place in every sample, and no second
    copy of the output is needed.

    Args:
        model: the network; the same window always gives the same output.
        rgb: uint8 [h, w, 3], at least 1 x 1.
        seed: a sample seed, >= 0; see `app/upscalers/seeds.py`.
        plan: tile size and halo.
        cancelled: asked before every tile.

    Returns:
        uint8 [k·h, k·w, 3]; the same seed gives the same bytes.

    Raises:
        Stopped: `cancelled` answered true.
        UpscalerFailed: the model failed.
    """
    return run_tiled(_under_symmetry(model, seed), rgb, model.scale, plan, cancelled)


def _under_symmetry(model: OnnxModel, seed: int) -> Callable[[RGB], RGB]:
    element = seed % GROUP_ORDER

    def sample(window: RGB) -> RGB:
        return undo(model(apply(window, element)), element)

    return sample


class OnnxModel:
    """An ONNX super-resolution network on one window; thread-safe.

    The network takes and gives one NCHW float32 RGB tensor in [0, 1] with free height and width;
    `scale` is found by a probe. CUDA is used when this build of onnxruntime has it, with TF32
    switched off, so that the device changes pixels no more than the order of sums does.

    Args:
        weights: the bytes of the ONNX file, without external data.
        name: what to call the model in errors.
        threads: threads inside one operator; 0: one per core that this process may use.

    Raises:
        ConfigError: not an ONNX file, or not such a network.
    """

    def __init__(self, weights: bytes, *, name: str, threads: int = 0) -> None:
        if threads < 0:
            raise ConfigError(f"{name}: threads must be 0 (all cores) or more, got {threads}")
        self.name = name
        # Not onnxruntime's own default: it counts the machine's cores and pins a thread to each,
        # which fails or crowds in a container that was given only some of them.
        self.threads = threads or usable_cores()
        try:
            self._session = onnxruntime.InferenceSession(
                weights, _session_options(self.threads), providers=_providers()
            )
        except Exception as error:  # onnxruntime's errors share no other base
            raise ConfigError(
                f"{name} is not an ONNX model that onnxruntime can load: {reason_of(error)}"
            ) from error
        self.scale = self._probe()

    @property
    def provider(self) -> str:
        """The execution provider in use, such as "CPUExecutionProvider"."""
        return str(self._session.get_providers()[0])

    def __call__(self, rgb: RGB) -> RGB:
        """The upscaled window.

        The output is clipped to [0, 1] and rounded half up. The window is not padded: SPAN treats
        the borders best by its own zeros, which it was trained with (on 30 photographs the
        outermost 4 input pixels lose 1.8 dB with edge and 2.5 dB with reflect padding).

        Args:
            rgb: uint8 [h, w, 3], at least 1 x 1.

        Returns:
            uint8 [k·h, k·w, 3].

        Raises:
            UpscalerFailed: onnxruntime failed, or gave another shape or values that are no number.
        """
        height, width, _ = rgb.shape
        tensor = np.ascontiguousarray(rgb.transpose(2, 0, 1)[np.newaxis], np.float32)
        tensor /= 255
        try:
            output = self._run(tensor)
        except Exception as error:  # onnxruntime's errors share no other base
            raise UpscalerFailed(f"{self.name} failed: {reason_of(error)}") from error
        if output.shape != (1, 3, self.scale * height, self.scale * width):
            raise UpscalerFailed(
                f"{self.name} made {output.shape} of an input of {width} x {height}, "
                f"not {self.scale} times as large"
            )
        if not np.isfinite(output).all():
            raise UpscalerFailed(f"{self.name} gave values that are not finite")
        np.clip(output, 0, 1, out=output)
        output *= 255
        output += 0.5  # the conversion to uint8 truncates: together, rounding half up
        return np.ascontiguousarray(output[0].astype(np.uint8).transpose(1, 2, 0))

    def _run(self, tensor: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        """The network's output, float32 [1, 3, H, W] if it keeps its promise."""
        name = self._session.get_inputs()[0].name
        return self._session.run(None, {name: tensor})[0]

    def _probe(self) -> int:
        """The scale, after checking that this is a super-resolution network."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise self._unfit(
                f"it has {len(inputs)} inputs and {len(outputs)} outputs, not 1 and 1"
            )
        if any(tensor.type != "tensor(float)" for tensor in (*inputs, *outputs)):
            raise self._unfit(f"it maps {inputs[0].type} to {outputs[0].type}, not float32")
        shape = inputs[0].shape
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise self._unfit(f"its input is {shape}, not [1, 3, height, width]")
        if any(isinstance(side, int) for side in shape[2:]):
            raise self._unfit(f"its input size is fixed to {shape[2:]}; export it with free sides")
        # Not square, so that a swap of the sides shows; smooth, because noise is no photograph and
        # a network may answer it with anything.
        height, width = 16, 24
        ramp = np.linspace(0.2, 0.8, height * width, dtype=np.float32).reshape(height, width)
        trial = np.broadcast_to(ramp, (1, 3, height, width)).copy()
        try:
            output = self._run(trial)
        except Exception as error:  # onnxruntime's errors share no other base
            raise self._unfit(f"a trial run failed: {reason_of(error)}") from error
        scale = output.shape[-1] // width if output.ndim == 4 else 0
        if scale < 1 or output.shape != (1, 3, scale * height, scale * width):
            raise self._unfit(f"it made {output.shape} of an input of {trial.shape}")
        # Upscaling keeps the mean brightness; a network for 0..255 or −1..1 does not.
        if not abs(float(output.mean()) - 0.5) < 0.25:
            raise self._unfit(f"its mean output for a grey ramp is {output.mean():.3g}, not 0.5")
        return int(scale)

    def _unfit(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.name} is not a model from RGB to RGB in [0, 1]: {reason}")


class EmbeddedUpscaler:
    """`Upscaler` over an `OnnxModel`, sampled through its symmetries.

    One tile at a time uses all cores, unless `concurrency` says otherwise. On two cores, eight
    samples of 128 x 128 take 3 to 5 % less time as two concurrent calls of one thread each
    (`benchmarks/embedded.py`). For one request that does not pay for twice the memory and twice
    the wait for the first sample; for hundreds of images it does.

    The fingerprint covers the bytes of the weights and every rule that changes pixels beyond
    rounding noise: adapter version, tile plan, symmetries, rounding. Threads, device and the
    version of onnxruntime change the order of sums, about 1e-6 of the range: at most one step of
    255 in a rare pixel, far below what a calibration can tell. Were they in the fingerprint, every
    update of a library would throw away a calibration that still holds.

    Args:
        name: the upscaler's name in the configuration.
        model: the ONNX file; None: the SPAN x4 that ships with this package.
        threads: threads inside one operator; 0: one per core that this process may use, divided by
            `concurrency`.
        concurrency: tiles that are made at once; a GPU makes one.
        tile: the largest side of a tile in input pixels; memory grows with its square; None: 288.
        halo: overlap in input pixels, at least the radius of the network; None: exact for the
            shipped model, 32 for any other.

    Raises:
        ConfigError: a file that cannot be read or is not such a model, or a tile that is too
            small.
    """

    kind = "embedded"

    def __init__(
        self,
        name: str = "span-x4",
        model: Path | None = None,
        threads: int = 0,
        tile: int | None = None,
        halo: int | None = None,
        concurrency: int = 1,
    ) -> None:
        self.name = name
        weights = _weights(model)
        tile = tile or DEFAULT_TILE
        if halo is None:
            halo = SPAN_HALO if model is None else DEFAULT_HALO
        try:
            self.plan = TilePlan(tile, halo)
        except ValueError as error:
            raise ConfigError(f"upscaler {name}: {error}") from error
        self.model = OnnxModel(
            weights,
            name=DEFAULT_MODEL if model is None else model.name,
            threads=threads or max(1, usable_cores() // concurrency),
        )
        self.scale = self.model.scale
        self._concurrency = concurrency if self.model.provider == "CPUExecutionProvider" else 1
        self.facts = {
            "adapter": _ADAPTER,
            "weights": hashlib.sha256(weights).hexdigest(),
            "tile": tile,
            "halo": halo,
            "symmetry": f"seed % {GROUP_ORDER}, on tiles",
            "rounding": "half up",
        }
        self.fingerprint = fingerprint_of(self.facts)
        self._is_closed = False
        # Of its own: however many requests there are, and however many were cancelled while a
        # network runs, no more networks than these run at once.
        self._threads = FairThreads(self._concurrency, f"embedded-{name}")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(concurrency=self._concurrency, max_samples=GROUP_ORDER)

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: Turn | None = None
    ) -> list[RGB]:
        """One sample per seed; see `Upscaler.generate`. The work runs in threads.

        The tiles of all requests are made in turn. Cancelling returns at once, and none but the
        tile that is being made then ends. Once closed, the upscaler is unavailable.
        """
        await self.check()
        samples, parts = [], []
        for seed in seeds:
            sample, its_parts = tiled(
                _under_symmetry(self.model, seed), source.rgb, self.scale, self.plan
            )
            samples.append(sample)
            parts += its_parts
        if turn is not None:
            parts = turn.counted(parts)
        tile = self.plan.side(source.height) * self.plan.side(source.width)
        try:
            await self._threads.run(source, parts, tile)
        except Closed as error:
            raise UpscalerUnavailable(f"upscaler {self.name} is shutting down") from error
        return samples

    async def check(self) -> None:
        """See `Upscaler.check`: the constructor has already loaded and tried the model."""
        if self._is_closed:
            raise UpscalerUnavailable(f"upscaler {self.name} is shutting down")

    async def close(self) -> None:
        """Stop all calls before their next tile."""
        self._is_closed = True
        self._threads.close()


def _weights(model: Path | None) -> bytes:
    if model is None:
        return resources.files("app.upscalers").joinpath("models", DEFAULT_MODEL).read_bytes()
    try:
        return model.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the model {model}: {error.strerror}") from error


def _session_options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads that spin gain 2 to 5 % on idle cores and cost 20 % on busy ones, where they
    # take time from decoding, the trust layer and other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory pattern is planned and kept for every shape ever seen; with free sizes that grows
    # without end (256 x 256: 412 MB with patterns, 260 MB without, at equal speed).
    options.enable_mem_pattern = False
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors; warnings about the graph help no user
    return options


def _providers() -> list[Any]:
    cuda = "CUDAExecutionProvider"
    providers: list[Any] = ["CPUExecutionProvider"]
    if cuda in onnxruntime.get_available_providers():
        # TF32 keeps 10 bits of mantissa: outputs would differ from the CPU's by more than 1/255.
        # The default search tries every algorithm anew for each new shape.
        providers.insert(0, (cuda, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}))
    return providers
