"""What the service adds to the plain work: `python -m benchmarks.parity [PHOTO [ROUNDS]]`.

A plain FastAPI handler decodes the same upload and writes the same three files with Pillow. The
service does everything but generation, with the score and without it. Both in this process, in
turn, 512×512 → 2048×2048; wanted without the score: 1.6 at most.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image

from benchmarks.request import EXAMPLE, with_state
from benchmarks.table import print_table
from trustscale_server.main import create_app
from trustscale_server.settings import Settings

FILES = ("image.png", "mask.png", "trust.png")
_FAST = {"compress_level": 1, "compress_type": 3}  # the quickest of Pillow


def plain(made: dict[str, Image.Image], options: dict[str, int]) -> FastAPI:
    app = FastAPI()
    folder = Path(tempfile.mkdtemp())

    @app.post("/v1/upscale")
    def upscale(image: Annotated[UploadFile, "the upload"]) -> dict[str, int]:
        np.asarray(Image.open(image.file).convert("RGB"))
        sizes = {}
        for name, picture in made.items():
            out = io.BytesIO()
            picture.save(out, "PNG", **options)
            (folder / name).write_bytes(out.getvalue())
            sizes[name] = out.tell()
        return sizes

    return app


async def main(photo: Path, rounds: int) -> None:
    out = io.BytesIO()
    Image.open(photo).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).save(out, "PNG")
    files = {"image": ("photo.png", out.getvalue())}
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), log_level="error"))
        async with app.router.lifespan_context(app) as state:
            service = httpx.ASGITransport(with_state(app, state))
            async with httpx.AsyncClient(transport=service, base_url="http://a") as client:
                options = {"timeout": None, "data": {"upscaler": "span-x4"}}
                answer = await client.post("/v1/upscale", files=files, **options)
                links = answer.raise_for_status().json()["links"]
                made = {}
                for name, key in zip(FILES, ("image", "mask", "trust"), strict=True):
                    data = (await client.get(links[key])).content
                    made[name] = Image.open(io.BytesIO(data))
                    made[name].load()
                times = await _compare(client, files, options, made, rounds)
    print(f"\n512×512 → 2048×2048, ms, median of {rounds}\n")
    base = {name: times[name] for name in times if name.startswith("plain")}
    print_table(
        ("what", "ms", *(f"× {name}" for name in base)),
        [
            (name, f"{value:.0f}", *(f"{value / other:.2f}" for other in base.values()))
            for name, value in times.items()
        ],
    )


async def _compare(client, files, options, made, rounds) -> dict[str, float]:
    handlers = {
        "plain, Pillow's quickest PNG": plain(made, _FAST),
        "plain, Pillow's usual PNG": plain(made, {}),
    }
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        started = time.perf_counter()
        answer = await client.post("/v1/upscale", files=files, **options)
        whole = 1e3 * (time.perf_counter() - started)
        parts = answer.raise_for_status().json()["timings_ms"]
        took.setdefault("all but the samples", []).append(whole - parts["samples"])
        rest = whole - parts["samples"] - parts["indecision"]
        took.setdefault("all but samples and score", []).append(rest)
        for name, handler in handlers.items():
            transport = httpx.ASGITransport(handler)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as other:
                started = time.perf_counter()
                (await other.post("/v1/upscale", files=files, timeout=None)).raise_for_status()
                took.setdefault(name, []).append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in took.items()}


if __name__ == "__main__":
    photo, rounds, *_ = [*sys.argv[1:], *[EXAMPLE, 5][len(sys.argv) - 1 :]]
    asyncio.run(main(Path(photo), int(rounds)))
