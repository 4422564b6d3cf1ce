"""One request of 512×512 → 2048×2048 over HTTP, by embedded upscaler and precision.

`python -m benchmarks.request [PHOTO [ROUNDS]] [--kept]`. The whole service runs under the shipped
calibrations. The last rows compare it with one pass of SPAN through onnxruntime in float32, in turn
with the requests, and its card with it, in processor time, which other programs hardly change.
`--kept`: each upscaler makes its sample once, so processor times, which a busy
machine hardly changes, are those of all else.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.table import print_table
from benchmarks.timing import timed
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.platform.cores import usable_cores
from trustscale_server.upscalers.embedded.runtime import CPU, has_bf16, load_session
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler, symmetric_sample

WHOLE, PROCESSORS = "whole request", "the same in processor time"
CARD = "its card, in processor time"
PASS, PASS_PROCESSORS = "one float32 pass of SPAN", "the same pass in processor time"
EXAMPLE = Path(__file__).parent.parent / "examples" / "bridge.png"


async def main(photo: Path, rounds: int, *, kept: bool) -> None:
    if kept:
        keep_samples()
    picture = Image.open(photo).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "PNG")
    plain = EmbeddedUpscaler()
    plain.model.session = load_session(
        SHIPPED_MODELS["span-x4"].read(), name="span-x4", threads=usable_cores(), among=[CPU]
    )
    pixels = np.asarray(picture)
    medians: dict[str, dict[str, float]] = {}
    for precision in ("f32", "bf16") if has_bf16() else ("f32",):
        with tempfile.TemporaryDirectory() as folder:
            app = create_app(
                Settings(data_dir=Path(folder), precision=precision, log_level="error")
            )
            async with app.router.lifespan_context(app) as state:
                transport = httpx.ASGITransport(with_state(app, state))
                async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                    for name in SHIPPED_MODELS:
                        rows = []
                        for _ in range(rounds + 1):
                            rows.append(await one(client, out.getvalue(), name))
                            if kept:
                                continue
                            _, wall, used = timed(
                                lambda: symmetric_sample(plain.model, pixels, 0, plain.plan)
                            )
                            rows[-1] |= {PASS: 1e3 * wall, PASS_PROCESSORS: 1e3 * used}
                        medians[f"{name}, {precision}"] = {
                            # The first one loads the model and the tables.
                            part: statistics.median(row[part] for row in rows[1:])
                            for part in rows[0]
                        }
    print(f"\nOne 512×512 → 2048×2048 request, ms, median of {rounds}\n")
    parts = next(iter(medians.values()))
    print_table(
        ("part", *medians),
        [
            *((part, *(f"{row[part]:.0f}" for row in medians.values())) for part in parts),
            *(
                (
                    f"{part} / {other}",
                    *(f"{row[part] / row[other]:.2f}" for row in medians.values()),
                )
                for part, other in (
                    (WHOLE, PASS),
                    (PROCESSORS, PASS_PROCESSORS),
                    (CARD, PROCESSORS),
                )
                if other in parts
            ),
        ],
    )


def keep_samples() -> None:
    """Have an embedded upscaler give its sample of a seed again."""
    generate, made = EmbeddedUpscaler.generate, {}

    async def kept(self, source, seeds, permit=None):
        key = self.fingerprint, *seeds
        if key not in made:
            made[key] = await generate(self, source, seeds, permit)
        return [sample.copy() for sample in made[key]]

    EmbeddedUpscaler.generate = kept


def with_state(app, state):
    async def with_state(scope, receive, send):
        await app({**scope, "state": dict(state)}, receive, send)

    return with_state


async def one(client: httpx.AsyncClient, data: bytes, upscaler: str) -> dict[str, float]:
    started, used = time.perf_counter(), time.process_time()
    answer = await client.post(
        "/v1/upscale",
        files={"image": ("photo.png", data)},
        data={"upscaler": upscaler, "seed": "1"},
        timeout=None,
    )
    total = 1e3 * (time.perf_counter() - started)
    whole_used = 1e3 * (time.process_time() - used)
    answer.raise_for_status()
    timings = answer.json()["timings_ms"]
    used = time.process_time()
    card = await client.get(f"{answer.json()['links']['self']}/card.png")
    card.raise_for_status()
    rest = total - timings["samples"]
    return {
        **timings,
        "decode, words, store, HTTP": rest - sum(v for k, v in timings.items() if k != "samples"),
        "all but the samples": rest,
        WHOLE: total,
        PROCESSORS: whole_used,
        CARD: 1e3 * (time.process_time() - used),
    }


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--kept"]
    photo, rounds = [*given, *[EXAMPLE, 3][len(given) :]]
    asyncio.run(main(Path(photo), int(rounds), kept="--kept" in sys.argv))
