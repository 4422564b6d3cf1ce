"""The samples of a job's work, kept as they arrive: no run after a kill pays for one again."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from trustscale_server.pixels.npy import read_array
from trustscale_server.platform.errors import UpscalerFailed
from trustscale_server.platform.tasks import to_its_end
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.upscalers.base import RGB, Source, Upscaler, Wrapped
from trustscale_server.upscalers.permit import MemoryPermit


def samples_named(task: str) -> str:
    """Return the beginning of the names of a task's samples, in the folder of its job."""
    return f"sample-{hashlib.sha256(task.encode()).hexdigest()[:20]}-"


class KeptSamples(Wrapped):
    """Wraps an upscaler that is paid by the call, and keeps its samples in `folder`.

    Models of this process are asked again: to store a sample would take as long.

    task: of the job, if it has several (`samples_named`).
    has_reused: whether samples of an earlier run came, which say nothing of the model's pace.
    """

    def __init__(self, inner: Upscaler, blobs: Blobs, folder: str, task: str = "") -> None:
        super().__init__(inner)
        self.blobs, self.folder = blobs, folder
        self._beginning = samples_named(task)
        self.has_reused = False

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate only the samples that are not kept; StoreUnavailable if they cannot be read."""
        permit = permit or MemoryPermit()
        if self.capabilities.by_tiles:
            return await self.inner.generate(source, seeds, permit)
        await asyncio.to_thread(getattr, source, "digest")  # for the names, in a thread
        missing = [seed for seed in seeds if not await self._has(source, seed)]
        by_seed: dict[int, RGB] = {}
        if missing:
            answer = await self.inner.generate(source, missing, permit)
            if len(answer) != len(missing):
                raise UpscalerFailed(f"Asked for {len(missing)} samples, got {len(answer)}.")
            by_seed.update(zip(missing, answer, strict=True))
        await permit.take()
        for seed, sample in by_seed.items():
            await to_its_end(self._keep(source, seed, sample))
        return [
            by_seed[seed] if seed in by_seed else await self._kept(source, seed) for seed in seeds
        ]

    def _name(self, source: Source, seed: int) -> str:
        content = f"{self.fingerprint} {source.digest} {seed}"
        return f"{self._beginning}{hashlib.sha256(content.encode()).hexdigest()[:32]}.npy"

    async def _has(self, source: Source, seed: int) -> bool:
        return await self.blobs.has(self.folder, self._name(source, seed))

    async def _kept(self, source: Source, seed: int) -> RGB:
        data = await self.blobs.get(self.folder, self._name(source, seed))
        self.has_reused = True
        return await asyncio.to_thread(read_array, data)

    async def _keep(self, source: Source, seed: int, sample: RGB) -> None:
        expected = (self.scale * source.height, self.scale * source.width, 3)
        if sample.shape != expected:
            return  # refused by whoever asked, and perhaps not the second time
        file = io.BytesIO()
        await asyncio.to_thread(np.save, file, sample, allow_pickle=False)
        with suppress(StoreUnavailable):  # the sample is there, and may not be needed again
            await self.blobs.put(self.folder, self._name(source, seed), file.getbuffer())
