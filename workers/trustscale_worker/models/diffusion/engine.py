"""A diffusion pipeline as an engine of the worker.

    image ──▶ shared (encoded once) ──▶ per seed: noise of the whole image ──▶ steps ──▶ decoded
                                                     each step: tiles ──▶ network ──▶ joined

Every step works on the latents of the whole image, and only the network sees tiles, so seams do not
show. On a CPU the network sees one tile of one sample per thread, so a sample's bytes do not depend
on other samples.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import diffusers
import numpy as np
import torch

from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import RGB, fingerprint_of
from trustscale_worker.files import read_settings
from trustscale_worker.models.device import (
    BatchSizes,
    device_memory,
    gainful_batch,
    parse_device,
    parse_dtype,
)
from trustscale_worker.models.diffusion.pipelines import (
    PIPELINES,
    DiffusionPipeline,
    DiffusionSettings,
    load_pipeline,
    pipeline_digest,
)
from trustscale_worker.models.engine import DeviceMemory, Engine, SampleRequest, stop_if_alone
from trustscale_worker.models.noise import Noise
from trustscale_worker.models.pixels import TiledGrid, finite, pad_reflect, to_pixels, to_tensor
from trustscale_worker.settings import EngineSpec

# Raised whenever a pixel changes for the same weights, settings and seed.
_REVISION = 1


@dataclass
class _Sample:
    """One sample in progress."""

    job: int
    row: int
    latents: torch.Tensor
    condition: torch.Tensor
    scheduler: Any
    extra: dict[str, Any] = field(default_factory=dict)


class DiffusionEngine(Engine):
    """A pipeline on one device. One call at a time."""

    layout = torch.channels_last
    """Of the networks in memory; twice as fast on CPUs as the default."""

    def __init__(
        self, pipeline: DiffusionPipeline, digests: dict[str, object], spec: EngineSpec
    ) -> None:
        """Take over a pipeline.

        `digests`: see `pipeline_digest`. `spec.dtype` is that of the denoiser; the codec, which
        overflows, stays in float32. Raises ConfigError: no such device or precision, or too small a
        tile.
        """
        self.pipeline = pipeline
        self._device = parse_device(spec.device)
        self._dtype = parse_dtype(spec.dtype)
        self._tile = spec.tile or pipeline.tile
        if self._tile < 4 * pipeline.multiple:
            raise ConfigError(f"tile {self._tile}: at least {4 * pipeline.multiple} for this model")
        self._tile -= self._tile % pipeline.multiple
        identity = fingerprint_of(
            {
                "engine": "diffusers",
                "revision": _REVISION,
                "diffusers": diffusers.__version__,
                "dtype": spec.dtype,
                "tile": self._tile,
                "settings": pipeline.settings,
                **digests,
            }
        )
        super().__init__(
            spec.name or "diffusers",
            pipeline.scale,
            identity,
            together=gainful_batch(self._device),
        )
        size = spec.batch
        if self._device.type == "cpu":
            torch.set_num_threads(1)
            threads = spec.threads or usable_cores()
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tile")
            size = min(threads, size or threads)
        self._batches = BatchSizes(self._device, size)
        self.networks = pipeline.networks
        for role, network in self.networks.items():
            network.requires_grad_(requires_grad=False).eval()
            network.to(self._device, self._dtype if role == "denoiser" else torch.float32)
            network.to(memory_format=self.layout)

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """Load the folder of a pipeline, as `save_pretrained` writes it."""
        if spec.weights is None:
            raise ConfigError("diffusers needs the folder of a pipeline: give --weights")
        settings = read_settings(DiffusionSettings, spec.config)
        pipe = load_pipeline(spec.weights)
        digests = pipeline_digest(pipe)
        pipe.to(torch.float32)  # texts are encoded once, at full precision
        pipeline = PIPELINES[type(pipe).__name__](pipe, settings)
        return cls(pipeline, digests, replace(spec, name=spec.name or spec.weights.resolve().name))

    def memory(self) -> DeviceMemory:
        return device_memory(self._device)

    @torch.inference_mode()
    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[RGB]:
        height, width = jobs[0].image.shape[:2]
        k = self.scale
        results = [
            np.empty((len(job.seeds), k * height, k * width, 3), job.image.dtype) for job in jobs
        ]
        raise_if_gone = partial(stop_if_alone, jobs)
        samples = []
        for number, job in enumerate(jobs):
            shared = self._shared(job.image, raise_if_gone)
            samples += [
                self._begin(number, row, int(seed), shared) for row, seed in enumerate(job.seeds)
            ]
        for t in self.pipeline.timesteps(copy.deepcopy(self.pipeline.scheduler)):
            raise_if_gone()
            self._step(
                [sample for sample in samples if not jobs[sample.job].cancelled()], t, raise_if_gone
            )
        for sample in samples:
            if not jobs[sample.job].cancelled():
                image = self._decode(sample.latents, raise_if_gone)[0, :, : k * height, : k * width]
                result = results[sample.job]
                result[sample.row] = to_pixels(image.div_(2).add_(0.5), result.dtype)
        raise_if_gone()
        return results

    def _shared(self, image: RGB, raise_if_gone: Callable[[], None]) -> torch.Tensor:
        raise_if_gone()
        padded = pad_reflect(to_tensor(image) * 2 - 1, self.pipeline.multiple)
        if not self.pipeline.encodes:
            return padded
        factor = self.pipeline.codec_factor
        height, width = padded.shape[-2:]
        layout = TiledGrid(height // factor, width // factor, self._tile // factor)
        encoded = self._evaluate(
            "encoder", layout.cut(padded, factor), self.pipeline.encode, raise_if_gone
        )
        return layout.join(encoded)

    def _begin(self, job: int, row: int, seed: int, shared: torch.Tensor) -> _Sample:
        noise = Noise(seed)
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        self.pipeline.timesteps(scheduler)
        latents, condition = self.pipeline.start(shared, noise, scheduler)
        return _Sample(job, row, latents, condition, scheduler, self._extra(scheduler, noise))

    def _extra(self, scheduler: Any, noise: Noise) -> dict[str, Any]:
        """What the scheduler's steps take beside the prediction, such as seeded noise."""
        parameters = scheduler.step.__code__.co_varnames
        offered = {"generator": noise.generator(), "eta": self.pipeline.settings.get("eta", 0.0)}
        return {name: value for name, value in offered.items() if name in parameters}

    def _step(
        self, samples: list[_Sample], t: torch.Tensor, raise_if_gone: Callable[[], None]
    ) -> None:
        if not samples:
            return
        pipeline = self.pipeline
        tiles = self._tiled(samples[0].latents)
        noisy = [
            tile
            for sample in samples
            for tile in tiles.cut(
                pipeline.network_input(sample.latents, sample.condition, sample.scheduler, t)
            )
        ]
        moment = pipeline.moment(samples[0].scheduler, t).to(self._device)
        predicted = self._evaluate(
            "denoiser",
            noisy,
            lambda batch: pipeline.predict(batch.to(self._dtype), moment),
            raise_if_gone,
        )
        count = len(tiles.boxes)
        for number, sample in enumerate(samples):
            joined = tiles.join(predicted[number * count : (number + 1) * count])
            answer = pipeline.output(joined, sample.latents, sample.scheduler, t)
            sample.latents = sample.scheduler.step(
                answer, t, sample.latents, **sample.extra
            ).prev_sample

    def _decode(self, latents: torch.Tensor, raise_if_gone: Callable[[], None]) -> torch.Tensor:
        pipeline = self.pipeline
        tiles = self._tiled(latents)
        decoded = self._evaluate(
            "codec", tiles.cut(finite(latents)), pipeline.decode, raise_if_gone
        )
        return tiles.join(decoded, pipeline.scale * pipeline.cell)

    def _tiled(self, latents: torch.Tensor) -> TiledGrid:
        height, width = latents.shape[-2:]
        return TiledGrid(height, width, self._tile // self.pipeline.cell)

    def _evaluate(
        self,
        role: str,
        tiles: Sequence[torch.Tensor],
        network: Callable[[torch.Tensor], torch.Tensor],
        raise_if_gone: Callable[[], None],
    ) -> list[torch.Tensor]:
        """The network's output for each tile, float32[1, C, …] on the CPU, in order."""
        results: list[torch.Tensor] = []

        def evaluated(tile: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():  # it applies per thread
                return network(tile.contiguous(memory_format=self.layout)).float()

        def step(first: int, last: int) -> None:
            raise_if_gone()
            if self._device.type == "cpu":
                results.extend(list(self._pool.map(evaluated, tiles[first:last])))
                return
            batch = torch.cat(list(tiles[first:last])).to(self._device)
            results.extend(torch.tensor_split(evaluated(batch).cpu(), last - first))

        batch = self._batches.of_kind(
            (role, tiles[0].shape), lambda: evaluated(tiles[0].to(self._device))
        )
        batch.run(len(tiles), step)
        return results
