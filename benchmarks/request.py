"""One request of 512×512 → 2048×2048 over HTTP, embedded, by M and σ.

`python -m benchmarks.request [PHOTO [ROUNDS]]`. The whole service runs: decode, M samples, σ, mask,
PNGs, the stored result, and the answer. Only times count here, so M = 1 and 8 serve from the
staircases of the shipped calibration of M = 2. On a busy machine read the processor times.
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

from app.calibration.active import shipped_calibrations
from app.conformal.indecision import IndecisionSettings
from app.main import create_app
from app.sampling.pipeline import default_indecision
from app.settings import Settings
from benchmarks.table import print_table

WHOLE, PROCESSORS = "whole request", "the same in processor time"
EXAMPLE = Path(__file__).parent.parent / "examples" / "bridge.png"


async def main(photo: Path, rounds: int) -> None:
    out = io.BytesIO()
    Image.open(photo).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).save(out, "PNG")
    (shipped,) = shipped_calibrations()
    usual = shipped.pipeline
    kinds = {
        "M = 1, fitted": (1, default_indecision(usual.fingerprint, 1, usual.fidelity)),
        "M = 2, fitted (default)": (2, usual.indecision),
        "M = 8, smoothed_variance": (8, IndecisionSettings("smoothed_variance")),
    }
    medians: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), log_level="error"))
        async with app.router.lifespan_context(app) as state:
            transport = httpx.ASGITransport(_with_state(app, state))
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                for name, (samples, sigma) in kinds.items():
                    pipeline = usual.model_copy(update={"samples": samples, "indecision": sigma})
                    made = shipped.with_pairs(
                        shipped.measured_pairs(), created_by="benchmark", pipeline=pipeline
                    )
                    await state["trustscale"].calibrations.add(made, activate=True)
                    if not medians:
                        await one(client, out.getvalue())  # loads the model and the tables
                    rows = [await one(client, out.getvalue()) for _ in range(rounds)]
                    medians[name] = {
                        part: statistics.median(row[part] for row in rows) for part in rows[0]
                    }
    print(f"\nOne 512×512 → 2048×2048 request, ms, median of {rounds}\n")
    *_, most = medians.values()
    print_table(
        ("part", *medians),
        [
            *((part, *(f"{row[part]:.0f}" for row in medians.values())) for part in most),
            *(
                (f"{part}, ratio", *(f"{row[part] / most[part]:.2f}×" for row in medians.values()))
                for part in (WHOLE, PROCESSORS)
            ),
        ],
    )


def _with_state(app, state):
    async def with_state(scope, receive, send):
        await app({**scope, "state": dict(state)}, receive, send)

    return with_state


async def one(client: httpx.AsyncClient, data: bytes) -> dict[str, float]:
    started, used = time.perf_counter(), time.process_time()
    answer = await client.post("/v1/upscale", files={"image": ("photo.png", data)}, timeout=None)
    total = 1e3 * (time.perf_counter() - started)
    answer.raise_for_status()
    timings = answer.json()["timings_ms"]
    rest = total - timings["samples"]
    return {
        **timings,
        "decode, words, store, HTTP": rest - sum(v for k, v in timings.items() if k != "samples"),
        "all but the samples": rest,
        WHOLE: total,
        PROCESSORS: 1e3 * (time.process_time() - used),
    }


if __name__ == "__main__":
    photo, rounds, *_ = [*sys.argv[1:], *[EXAMPLE, 3][len(sys.argv) - 1 :]]
    asyncio.run(main(Path(photo), int(rounds)))
