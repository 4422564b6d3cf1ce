"""Mixed load on `trustscale serve` for a long time: does memory stay where it is?

Eight clients: upscalings of many sizes, answers as zip, other α of stored results, jobs, damaged
files and clients that hang up. Results expire after a minute, so that sweeping is part of it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from benchmarks.load.clients import photograph
from benchmarks.load.server import REAL, Memory, Server, serving
from benchmarks.table import print_table

CLIENTS = 8
SIDES = (16, 24, 32, 40, 48, 64, 80, 96)
SKIP = 0.25
PARTS = 8


class Mix:
    """What the clients do, and how often which status came."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.images = {side: photograph(side) for side in SIDES}
        self.count: Counter[str] = Counter()

    async def one(self, client: httpx.AsyncClient) -> None:
        kind = self.random.choices(
            ("json", "zip", "other α", "job", "damaged", "hangs up"), (40, 15, 20, 10, 10, 5)
        )[0]
        image = self.images[self.random.choice(SIDES)]
        if kind == "damaged":
            image = image[: len(image) // 2]
        headers = {"zip": {"Accept": "application/zip"}, "job": {"Prefer": "respond-async"}}
        try:
            answer = await client.post(
                "/v1/upscale",
                files={"image": ("a.png", image)},
                headers=headers.get(kind, {}),
                timeout=0.05 if kind == "hangs up" else 600,
            )
        except httpx.TimeoutException:
            self.count[f"{kind}: none"] += 1
            return
        self.count[f"{kind}: {answer.status_code}"] += 1
        if answer.status_code == 503:
            await asyncio.sleep(float(answer.headers["retry-after"]))
        elif kind == "other α" and answer.status_code == 200:
            links = answer.json()["links"]
            for part, alpha in itertools.product(("mask", "overlay"), (0.03, 0.1)):
                await client.get(links[part], params={"alpha": alpha})
        elif kind == "job" and answer.status_code == 202:
            await client.get(f"{answer.headers['location']}/events", timeout=600)


async def visits(server: Server, mix: Mix, seconds: float) -> None:
    end = time.monotonic() + seconds

    async def client_of(client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            await mix.one(client)

    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        await asyncio.gather(*(client_of(client) for _ in range(CLIENTS)))


def main(seconds: float) -> None:
    mix = Mix(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), REAL, result_ttl_s=60) as server,
        Memory(server, every_s=2) as memory,
    ):
        asyncio.run(visits(server, mix, seconds))
        traceback = "Traceback" in server.log.read_text()
    print(
        f"\n{CLIENTS} clients for {seconds / 60:.0f} minutes: {sum(mix.count.values())} requests\n"
    )
    print_table(("request: status", "times"), sorted(mix.count.items()))
    means = ", ".join(f"{mean:.0f}" for mean in memory.means_mb(PARTS))
    print(f"\nmemory: at most {memory.most_mb:.0f} MB; means of {PARTS} equal parts: {means} MB")
    print(f"slope after the first quarter: {memory.slope_mb_per_h(SKIP):+.1f} MB/h")
    print(f"tracebacks in the log: {'yes' if traceback else 'none'}")
