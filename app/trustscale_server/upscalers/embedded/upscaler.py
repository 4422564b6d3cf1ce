"""The upscaler that runs a network in this process: any ONNX model from RGB to RGB."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Final, Literal
from weakref import WeakValueDictionary

from pydantic import Field, PositiveInt

from trustscale_server.platform.errors import ConfigError, UpscalerUnavailable
from trustscale_server.upscalers.base import RGB, Capabilities, Picture, Source, fingerprint_of
from trustscale_server.upscalers.config import Character, EntryConfig
from trustscale_server.upscalers.embedded.onnx_model import OnnxModel
from trustscale_server.upscalers.embedded.runtime import Precision, PrecisionSetting, foreseen
from trustscale_server.upscalers.embedded.shipped import SCALE, SHIPPED_MODELS, ShippedName
from trustscale_server.upscalers.embedded.threads import Closed, FairThreads
from trustscale_server.upscalers.embedded.tiles import TilePlan, run_tiled, tiled
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.symmetries import GROUP_ORDER, apply, undo

DEFAULT_TILE = 288
"""The largest side of a tile of models that are not shipped."""


class EmbeddedConfig(EntryConfig):
    """An ONNX model inside this process."""

    kind: Literal["embedded"] = "embedded"
    model: ShippedName | Path = Field(
        "span-x4",
        description="The model: the shipped `span-x4`, `realesr-x4` or `realesr-x4-safe`, or the "
        "path of an ONNX file.",
    )
    threads: int = Field(
        0, ge=0, description="How many threads compute. 0 takes one for each core."
    )
    tile: PositiveInt | None = Field(
        None, description="The largest side of a tile, in input pixels."
    )
    halo: int | None = Field(None, ge=0, description="How far tiles overlap, in input pixels.")
    concurrency: PositiveInt = Field(
        1, description="How many samples are made at the same time. They share the threads."
    )

    @property
    def title_and_character(self) -> tuple[str, Character | None]:
        if isinstance(self.model, Path):
            return super().title_and_character
        shipped = SHIPPED_MODELS[self.model]
        return shipped.title, shipped.character


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
        plan: its tiles; None: `tile_plan`.
        threads: inside one operator; 0: the usable cores divided by `concurrency`.
        concurrency: tiles that are made at once; a GPU makes one.
        align_colours: whether samples may be given the colours of the input.

    Raises ConfigError: an unreadable file, or not such a model.
    """

    kind = "embedded"

    def __init__(
        self,
        name: str = "span-x4",
        model: ShippedName | Path = "span-x4",
        plan: TilePlan | None = None,
        *,
        threads: int = 0,
        concurrency: int = 1,
        precision: PrecisionSetting = "f32",
        align_colours: bool = True,
    ) -> None:
        if threads < 0:
            raise ConfigError(f"{name}: threads must be 0 (all cores) or more, got {threads}")
        self.name, self._align_colours = name, align_colours
        weights = _weights(model)
        self.plan = plan or tile_plan(model)
        self._load = partial(
            _loaded,
            weights,
            model.name if isinstance(model, Path) else SHIPPED_MODELS[model].file,
            threads,
            concurrency,
            precision,
        )
        self._precision: Precision | None = None
        self._picture: Picture = "model"
        if not isinstance(model, Path):
            self._precision = foreseen(precision)
            self._picture = SHIPPED_MODELS[model].picture
        self.scale, self._concurrency = SCALE, concurrency
        if self._precision is None:
            self._precision = self.model.precision
            self.scale = self.model.scale
            self._concurrency = concurrency if self.model.on_cpu else 1
        self.settings = {
            "adapter": "embedded/1",  # of the rules that change pixels and have no name below
            "weights": hashlib.sha256(weights).hexdigest(),
            "tile": self.plan.tile,
            "halo": self.plan.halo,
            "symmetry": f"seed % {GROUP_ORDER}, on tiles",
            "rounding": "half up",
        }
        if self._picture != "model":
            self.settings["picture"] = self._picture
        self.exact_fingerprint = fingerprint_of(self.settings)
        if self._precision != "f32":
            self.settings["precision"] = self._precision
        self.fingerprint = fingerprint_of(self.settings)
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
            concurrency=self._concurrency,
            max_samples=GROUP_ORDER,
            by_tiles=True,
            takes_16_bit=True,
            align_colours=self._align_colours,
            picture=self._picture,
        )

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate samples; cancelling returns at once, but the tile in progress ends."""
        await self.probe()
        model = await asyncio.to_thread(lambda: self.model)
        samples: list[RGB] = []
        tasks: list[Callable[[], object]] = []
        for seed in seeds:
            sample, tiles = tiled(_under_symmetry(model, seed), source.rgb, self.scale, self.plan)
            if permit is not None and not samples:
                tasks += permit.reporting_tiles(sample, tiles)
            else:
                tasks += tiles
            samples.append(sample)
        if permit is not None:
            tasks = permit.reporting_progress(tasks)
        tile = self.plan.side(source.height) * self.plan.side(source.width)
        try:
            await self._threads.run(source, tasks, tile)
        except Closed as error:
            raise UpscalerUnavailable(f"upscaler {self.name} is shutting down") from error
        return samples

    async def probe(self) -> None:
        if self._is_closed:
            raise UpscalerUnavailable(f"upscaler {self.name} is shutting down")

    async def close(self) -> None:
        self._is_closed = True
        self._threads.close()


_in_use: Final = WeakValueDictionary[tuple[object, ...], OnnxModel]()
_loading: Final = Lock()


def _loaded(
    weights: bytes, name: str, threads: int, streams: int, precision: PrecisionSetting
) -> OnnxModel:
    """The network, which all upscalers of this process share."""
    key = hashlib.sha256(weights).digest(), name, threads, streams, precision
    with _loading:
        model = _in_use.get(key)
        if model is None:
            model = _in_use[key] = OnnxModel(
                weights, name=name, threads=threads, streams=streams, precision=precision
            )
        return model


def tile_plan(
    model: ShippedName | Path, tile: int | None = None, halo: int | None = None
) -> TilePlan:
    """Return the tiles of a model.

    Args:
        model: a shipped one, or an ONNX file.
        tile: largest side in input pixels; memory grows with its square; None: what suits it.
        halo: overlap in input pixels, at least the radius of the network; None: what suits it.

    Raises ConfigError: too small a tile.
    """
    if isinstance(model, Path):
        usual_tile, usual_halo = DEFAULT_TILE, 32  # influence fades with distance
    else:
        usual_tile, usual_halo = SHIPPED_MODELS[model].tile, SHIPPED_MODELS[model].halo
    try:
        return TilePlan(tile or usual_tile, usual_halo if halo is None else halo)
    except ValueError as error:
        raise ConfigError(f"{model}: {error}") from error


def _weights(model: ShippedName | Path) -> bytes:
    if not isinstance(model, Path):
        return SHIPPED_MODELS[model].read()
    try:
        return model.read_bytes()
    except OSError as error:
        shipped = "" if model.suffix else f"; shipped are {' and '.join(SHIPPED_MODELS)}"
        raise ConfigError(f"cannot read the model {model}: {error.strerror}{shipped}") from error
