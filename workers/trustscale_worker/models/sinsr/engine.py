"""SinSR as an engine of the worker: M samples of images for less than M runs.

A tile is enlarged and encoded once; noise prediction and decoding run over as many samples as
memory allows, also of several images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import torch

from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import RGB, fingerprint_of
from trustscale_worker.files import read_settings
from trustscale_worker.models.device import (
    BatchSize,
    BatchSizes,
    device_memory,
    gainful_batch,
    use_threads,
)
from trustscale_worker.models.engine import DeviceMemory, Engine, SampleRequest, stop_if_alone
from trustscale_worker.models.noise import Noise
from trustscale_worker.models.pixels import Merger, TileBox, to_pixels, to_tensor
from trustscale_worker.models.sinsr.config import SinSRConfig
from trustscale_worker.models.sinsr.model import SinSR, load_networks
from trustscale_worker.settings import EngineSpec

# Raised whenever a pixel changes for the same weights and seed.
_REVISION = 1

# Host memory for the sums of overlapping tiles, by which fewer samples run at a time.
_MERGE_BYTES = 2 * 2**30

# A padded tile in [-1, 1] and its latent, float32[1, 3, H, W] each.
_Prepared: TypeAlias = tuple[torch.Tensor, torch.Tensor]


class SinSREngine(Engine):
    """Samples of a loaded `SinSR`.

    `batch` is the largest batch; None: on a GPU as free memory allows; on a CPU 1, since there 4
    predictions together take as long as 4 in turn.
    """

    def __init__(self, model: SinSR, name: str = "sinsr", batch: int | None = None) -> None:
        self.model = model
        size = 1 if batch is None and model.device.type == "cpu" else batch
        self._batches = BatchSizes(model.device, size)
        settings = {
            "engine": "sinsr",
            "revision": _REVISION,
            "weights": model.weights_digest,
            "dtype": str(model.dtype).removeprefix("torch."),
            "config": model.config.model_dump(mode="json", exclude={"name"}),
        }
        super().__init__(
            name,
            model.scale,
            fingerprint_of(settings),
            together=batch or gainful_batch(model.device),
        )

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """Load files (.pth or .safetensors) as published or converted."""
        if spec.weights is None or spec.autoencoder is None:
            raise ConfigError(
                "sinsr needs two weight files: give --weights and --autoencoder, or a folder"
            )
        use_threads(spec.threads)
        config = read_settings(SinSRConfig, spec.config)
        networks = load_networks(config, spec.weights, spec.autoencoder)
        model = SinSR(config, *networks, spec.device, spec.dtype, compiled=spec.compiled)
        return cls(model, spec.name or "sinsr", spec.batch)

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[RGB]:
        """Make samples of several images; images of several sizes raise ValueError."""
        if len({job.image.shape for job in jobs}) != 1 or jobs[0].image.shape[2:] != (3,):
            raise ValueError("images of one batch must all be [h, w, 3] of one size")
        with torch.inference_mode():
            return _Call(self.model, jobs, self._batches).run()

    def memory(self) -> DeviceMemory:
        return device_memory(self.model.device)


@dataclass(frozen=True)
class _Item:
    """One sample: a row of a job."""

    job: int
    row: int


class _Call:
    """The work of one call: all samples of all its jobs."""

    def __init__(self, model: SinSR, jobs: Sequence[SampleRequest], batches: BatchSizes) -> None:
        self._model = model
        self._jobs = jobs
        self._height, self._width = jobs[0].image.shape[:2]
        self._tiles = model.tiles(self._height, self._width)
        size = (model.scale * self._height, model.scale * self._width, 3)
        self._results = [np.empty((len(job.seeds), *size), job.image.dtype) for job in jobs]
        self._prepared = [self._prepare(job) for job in jobs]
        lq, latent = self._prepared[0][0]
        box = self._tiles[0]
        self._predicting = batches.of_kind(
            ("predict", lq.shape), lambda: model.predict(lq, latent, torch.zeros_like(latent))
        )
        self._decoding = batches.of_kind(("decode", lq.shape), lambda: model.finish(latent, box))
        self._max_together = self._predicting.size
        if len(self._tiles) > 1:
            sums = 4 * size[0] * size[1] * size[2]
            self._max_together = max(1, min(self._max_together, _MERGE_BYTES // sums))

    def run(self) -> list[RGB]:
        waiting = [
            _Item(number, row)
            for number, job in enumerate(self._jobs)
            for row in range(len(job.seeds))
        ]
        while waiting:
            stop_if_alone(self._jobs)
            waiting = [item for item in waiting if not self._jobs[item.job].cancelled()]
            if waiting:
                self._group(waiting[: self._max_together])
            waiting = waiting[self._max_together :]
        return self._results

    def _prepare(self, job: SampleRequest) -> list[_Prepared]:
        image = to_tensor(job.image)
        prepared: list[_Prepared] = []

        def step(index: int, _: int) -> None:
            stop_if_alone(self._jobs)
            prepared.append(self._model.prepare(image, self._tiles[index]))

        BatchSize(1).run(len(self._tiles), step)
        return prepared

    def _group(self, items: list[_Item]) -> None:
        streams = [Noise(int(self._jobs[item.job].seeds[item.row])) for item in items]
        merger = None
        if len(self._tiles) > 1:
            merger = Merger(len(items), 3, self._height, self._width, self._model.scale)
        for index, box in enumerate(self._tiles):
            stop_if_alone(self._jobs)
            clean = self._predict([self._prepared[item.job][index] for item in items], streams)
            self._decode(clean, box, items, merger)
        if merger is not None:
            self._keep(items, merger.result())

    def _predict(self, tiles: list[_Prepared], streams: list[Noise]) -> torch.Tensor:
        lq = torch.cat([lq for lq, _ in tiles])
        latent = torch.cat([latent for _, latent in tiles])
        noise = torch.stack([stream.draw(*latent.shape[1:]) for stream in streams])
        clean = torch.empty_like(latent)

        def step(first: int, last: int) -> None:
            rows = slice(first, last)
            clean[rows] = self._model.predict(lq[rows], latent[rows], noise[rows])

        self._predicting.run(len(tiles), step)
        return clean

    def _decode(
        self, clean: torch.Tensor, box: TileBox, items: list[_Item], merger: Merger | None
    ) -> None:
        def step(first: int, last: int) -> None:
            images = self._model.finish(clean[first:last], box)
            if merger is None:
                self._keep(items[first:last], images)
            else:
                merger.add(box, images, first)

        self._decoding.run(len(items), step)

    def _keep(self, items: list[_Item], images: torch.Tensor) -> None:
        """Round float32[b, 3, kH, kW] in [-1, 1] into the results; consumes them."""
        for item, image in zip(items, images, strict=True):
            result = self._results[item.job]
            result[item.row] = to_pixels(image.mul_(0.5).add_(0.5), result.dtype)
