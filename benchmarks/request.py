"""One request of 512×512 → 2048×2048, embedded: what everything but the generation costs.

`python -m benchmarks.request [PHOTO]`. The whole service runs: decode, 8 samples, σ, mask, PNGs,
the stored result, and the answer over HTTP.
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
from PIL import Image

from app.main import create_app
from app.settings import Settings
from benchmarks.table import print_table

EXAMPLE = Path(__file__).parent.parent / "examples" / "bridge.png"
ROUNDS = 3


async def main(photo: Path) -> None:
    out = io.BytesIO()
    Image.open(photo).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).save(out, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), log_level="error"))
        async with app.router.lifespan_context(app) as state:
            transport = httpx.ASGITransport(_with_state(app, state))
            async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
                rows = [await one(client, out.getvalue()) for _ in range(ROUNDS)]
    columns = list(rows[0])
    print(f"\nOne 512×512 → 2048×2048 request, median of {ROUNDS}\n")
    print_table(
        ("part", "ms"),
        [(name, f"{statistics.median(row[name] for row in rows):.0f}") for name in columns],
    )
    share = statistics.median(row["all but the samples"] / row["samples"] for row in rows)
    print(f"\nEverything but the generation takes {share:.1%} of the 8 generations' time.")


def _with_state(app, state):
    async def with_state(scope, receive, send):
        await app({**scope, "state": dict(state)}, receive, send)

    return with_state


async def one(client: httpx.AsyncClient, data: bytes) -> dict[str, float]:
    started = time.perf_counter()
    answer = await client.post(
        "/v1/upscale",
        files={"image": ("photo.png", data)},
        headers={"Accept": "application/json"},
        timeout=None,
    )
    total = 1e3 * (time.perf_counter() - started)
    answer.raise_for_status()
    timings = answer.json()["timings_ms"]
    rest = total - timings["samples"]
    return {
        **timings,
        "decode, store, HTTP": rest - sum(v for k, v in timings.items() if k != "samples"),
        "all but the samples": rest,
        "whole request": total,
    }


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE))
