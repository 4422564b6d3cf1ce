"""M samples of one or several images for less than the price of M runs (Wang et al. 2024).

Per tile, the enlargement and the encoding are computed once; noise prediction and decoding
run over as many samples together as memory allows, mixing the samples of several images when
several are asked for. A sample's noise depends on its seed alone, so how samples are grouped
does not change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from workers.models.batching import Batch
from workers.models.engine import SampleRequest, stop_if_alone
from workers.models.noise import Noise
from workers.models.sinsr.memory import plan
from workers.models.sinsr.model import SinSR
from workers.models.tiling import Box, Merger, padded

# Most host memory that the sums of overlapping tiles may take; beyond it fewer samples are
# worked on at a time.
MERGE_BYTES = 2 * 2**30


# A padded tile in [-1, 1] and its latent, float32[1, 3, H, W] each.
Prepared: TypeAlias = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class _Item:
    """One sample: the row-th of a job."""

    job: int
    row: int


class Sampling:
    """The work of one call: all samples of all its jobs. Use it once."""

    def __init__(
        self, model: SinSR, jobs: Sequence[SampleRequest], batch: int | None = None
    ) -> None:
        self._model = model
        self._batch = batch
        self._jobs = jobs
        self._height, self._width = jobs[0].image.shape[:2]
        self._tiles = model.tiles(self._height, self._width)
        size = (model.scale * self._height, model.scale * self._width, 3)
        self._results = [np.empty((len(job.seeds), *size), np.uint8) for job in jobs]
        self._predicting, self._decoding = self._batches()
        self._most = self._predicting.size
        if len(self._tiles) > 1:
            sums = 4 * size[0] * size[1] * size[2]
            self._most = max(1, min(self._most, MERGE_BYTES // sums))

    def _batches(self) -> tuple[Batch, Batch]:
        model = self._model
        if self._batch is not None:
            return Batch(self._batch), Batch(self._batch)
        multiple = model.config.sampler.desired_min_size
        tile = self._tiles[0]
        pixels = padded(tile.height, multiple) * padded(tile.width, multiple)
        return plan(model.config, pixels, model.dtype, model.device)

    def run(self) -> list[NDArray[np.uint8]]:
        """Work through all samples; see `Engine.samples_of`."""
        prepared = [self._prepare(job) for job in self._jobs]
        waiting = [
            _Item(number, row)
            for number, job in enumerate(self._jobs)
            for row in range(len(job.seeds))
        ]
        while waiting:
            stop_if_alone(self._jobs)
            waiting = [item for item in waiting if not self._jobs[item.job].cancelled()]
            if waiting:
                self._group(waiting[: self._most], prepared)
            waiting = waiting[self._most :]
        return self._results

    def _prepare(self, job: SampleRequest) -> list[Prepared]:
        """Per tile, what all of the job's samples share."""
        pixels = torch.from_numpy(np.ascontiguousarray(job.image))
        image = pixels.permute(2, 0, 1)[None].float() / 255
        prepared: list[Prepared] = []

        def step(index: int, _: int) -> None:
            stop_if_alone(self._jobs)
            prepared.append(self._model.prepare(image, self._tiles[index]))

        Batch(1).run(len(self._tiles), step)
        return prepared

    def _group(self, items: list[_Item], prepared: list[list[Prepared]]) -> None:
        """All tiles of a few samples, into the results."""
        streams = [Noise(int(self._jobs[item.job].seeds[item.row])) for item in items]
        merger = None
        if len(self._tiles) > 1:
            merger = Merger(len(items), self._height, self._width, self._model.scale)
        for index, box in enumerate(self._tiles):
            stop_if_alone(self._jobs)
            clean = self._predict([prepared[item.job][index] for item in items], streams)
            self._decode(clean, box, items, merger)
        if merger is not None:
            self._keep(items, merger.result())

    def _predict(self, tiles: list[Prepared], streams: list[Noise]) -> torch.Tensor:
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
        self, clean: torch.Tensor, box: Box, items: list[_Item], merger: Merger | None
    ) -> None:
        def step(first: int, last: int) -> None:
            images = self._model.finish(clean[first:last], box)
            if merger is None:
                self._keep(items[first:last], images)
            else:
                merger.add(box, first, images)

        self._decoding.run(len(items), step)

    def _keep(self, items: list[_Item], images: torch.Tensor) -> None:
        """Round float32[b, 3, kH, kW] in [-1, 1] to bytes, half to even, into the results."""
        for item, image in zip(items, images, strict=True):
            rounded = (image * 0.5 + 0.5).mul_(255).round_().to(torch.uint8)
            self._results[item.job][item.row] = rounded.permute(1, 2, 0).cpu().numpy()
