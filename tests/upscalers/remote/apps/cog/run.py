"""A Cog runner whose behaviour the input chooses."""

import asyncio
import tempfile

import numpy as np
from cog import BaseRunner, Input, Path
from model import upscale
from PIL import Image


class Upscaler(BaseRunner):
    async def run(
        self,
        image: Path = Input(description="input image"),  # noqa: B008 - Cog wants it so
        seed: int | None = Input(default=None),
        scale: int = Input(default=2, ge=1, le=8),
        sleep: float = Input(default=0.0),
        fail: bool = Input(default=False),
        message: str = Input(default="CUDA out of memory"),
    ) -> Path:
        await asyncio.sleep(sleep)
        if fail:
            raise RuntimeError(message)
        rgb = np.asarray(Image.open(str(image)).convert("RGB"))
        out = tempfile.mkdtemp() + "/out.png"
        Image.fromarray(upscale(rgb, seed, scale)).save(out)
        return Path(out)
