"""The upscaler inside this process: any ONNX model from RGB to RGB, over overlapping tiles.

An output pixel of a convolutional network depends on the input within a *radius* only: the sum of
(kernel size − 1) / 2 over the convolutions of its longest path. So each tile reads a `halo` of at
least that radius beyond the pixels that it keeps, except at the border of the image, where the
network applies its border treatment. Tiled equals whole up to the order of floating-point sums.

All tiles of one image have the same shape: onnxruntime's memory arena keeps the blocks of every
shape, and other runtimes compile per shape.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import numpy as np

from trustscale_server.concurrency import usable_cores
from trustscale_server.errors import ConfigError, UpscalerUnavailable
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
from trustscale_server.upscalers.runtime import (
    SCALE,
    SHIPPED,
    OnnxModel,
    Precision,
    PrecisionSetting,
    ShippedName,
    foreseen,
)

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

    Raises Stopped once `cancelled` returns true, and ValueError as `tiled`.
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

    Raises Stopped once `cancelled`, called before every tile, returns true; UpscalerFailed.
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
