"""`python -m benchmarks.load.fake PORT`: the gateway with an upscaler that costs nothing.

It has the name and fingerprint of the embedded one, so that the shipped calibration serves: curve
and loss curves are as large as in earnest, only the masks mean nothing. `LOAD_SLEEP_S` is what a
sample sleeps.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import numpy as np
import uvicorn
from PIL import Image

from trustscale_server.api.server import KEEP_ALIVE_S
from trustscale_server.main import create_app
from trustscale_server.settings import load_settings
from trustscale_server.telemetry.logs import configure_logs
from trustscale_server.upscalers.base import RGB, Capabilities, Source
from trustscale_server.upscalers.embedded import EmbeddedUpscaler

SCALE = 4
VARIANTS = 16


def variants(rgb: RGB) -> list[RGB]:
    """Samples as a generative model might give them: bicubic, and noise that grows at edges."""
    height, width, _ = rgb.shape
    large = Image.fromarray(rgb).resize((SCALE * width, SCALE * height), Image.Resampling.BICUBIC)
    base = np.asarray(large, np.float32)
    slope = np.abs(np.gradient(base.mean(axis=2))[0])[..., None]
    random = np.random.default_rng(0)
    return [
        np.clip(base + random.normal(0, 1, base.shape) * (0.5 + 0.1 * slope), 0, 255).astype(
            np.uint8
        )
        for _ in range(VARIANTS)
    ]


class InstantUpscaler:
    """Answers with samples that were made when the image came for the first time."""

    name, kind, scale = "span-x4", "embedded", SCALE

    def __init__(self, fingerprint: str, seconds: float) -> None:
        self.fingerprint = fingerprint
        self.capabilities = Capabilities(concurrency=64)
        self._seconds = seconds
        self._made: dict[tuple[int, int], list[RGB]] = {}

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: object = None
    ) -> list[RGB]:
        del turn
        if self._seconds:
            await asyncio.sleep(self._seconds)
        size = (source.height, source.width)  # a run sends one image of each size
        if size not in self._made:
            self._made[size] = variants(source.rgb)
        return [self._made[size][seed % VARIANTS] for seed in seeds]

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def main(port: int) -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    fingerprint = EmbeddedUpscaler().fingerprint
    seconds = float(os.environ.get("LOAD_SLEEP_S", "0"))
    app = create_app(settings, build=lambda *_: InstantUpscaler(fingerprint, seconds))
    uvicorn.run(app, port=port, log_config=None, access_log=False, timeout_keep_alive=KEEP_ALIVE_S)


if __name__ == "__main__":
    main(int(sys.argv[1]))
