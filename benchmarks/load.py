"""Load on a real server with the embedded upscaler: `python -m benchmarks.load clients|soak`.

`clients`: 1, 8 and 64 clients that ask again as soon as they are answered, a minute each.
`soak`: eight clients for 20 minutes: does memory stay where it is? They send pictures of many
sizes, take answers as zip, other α and jobs, send damaged files and hang up. Results expire after a
minute, so that sweeping is part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import httpx
import numpy as np
from PIL import Image

from benchmarks.request import EXAMPLE
from benchmarks.table import print_table
from harness.servers import ProcessGroup, free_port

COUNTS, SIDE = (1, 8, 64), 64
SIDES = (16, 24, 32, 40, 48, 64, 80, 96)
SKIPPED = 0.25  # of the time, before memory is said to grow
LONGEST_PAUSE_S = 5.0  # clients obey Retry-After up to this

_PAGE = os.sysconf("SC_PAGE_SIZE")

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response | None]]


class Answer(NamedTuple):
    """One request: its status (0: none came), when it was sent, and how long it took."""

    status: int
    sent: float
    seconds: float


class Memory:
    """Samples the memory of a process beside the load."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/statm")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.samples: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            pages = int(self._file.read_text().split()[1])
            self.samples.append((time.monotonic(), pages * _PAGE))

    def __str__(self) -> str:
        seconds, sizes = np.array(self.samples).T
        late = seconds >= seconds[0] + SKIPPED * (seconds[-1] - seconds[0])
        slope = np.polyfit(seconds[late], sizes[late], 1)[0]
        return f"{sizes.max() / 1e6:.0f} MB, {slope * 60 / 1e6:+.1f} MB/min"


@contextmanager
def serving(**settings: object) -> Iterator[tuple[str, int, Path]]:
    """The address, process and log of a server in a fresh data folder."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        named = {"data_dir": f"{folder}/data", "log_level": "info", **settings}
        env = {f"TRUSTSCALE_{name.upper()}": str(value) for name, value in named.items()}
        command = [sys.executable, "-m", "trustscale_server", "serve", "--port", str(port)]
        with ProcessGroup(command, log=log, env=env) as group:
            group.wait_for(f"{url}/readyz", "the server")
            yield url, group.process.pid, log


def photograph(side: int) -> bytes:
    """An example as a PNG file of side × side pixels."""
    out = io.BytesIO()
    image = Image.open(EXAMPLE).convert("RGB")
    image.resize((side, side), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


async def load(url: str, ask: Ask, count: int, seconds: float) -> list[Answer]:
    """What so many clients saw in so many seconds; each sends a request after the other."""
    answers: list[Answer] = []
    end = time.monotonic() + seconds

    async def client_of(client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            sent = time.monotonic()
            try:
                response = await ask(client)
            except httpx.TransportError:
                response = None
            status = response.status_code if response is not None else 0
            answers.append(Answer(status, sent, time.monotonic() - sent))
            pause = response.headers.get("retry-after", 0) if response is not None else 1
            await asyncio.sleep(min(float(pause), LONGEST_PAUSE_S))

    pool = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=pool, trust_env=False) as client:
        await asyncio.gather(*(client_of(client) for _ in range(count)))
    return answers


async def upscale(image: bytes, client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/v1/upscale", files={"image": ("a.png", image)})


def clients(seconds: float) -> None:
    ask = partial(upscale, photograph(SIDE))
    rows = []
    with serving() as (url, pid, _):
        asyncio.run(load(url, ask, 1, 3))
        for count in COUNTS:
            with Memory(pid) as memory:
                answers = asyncio.run(load(url, ask, count, seconds))
            times = [answer.seconds for answer in answers if answer.status == 200]
            ends = [answer.sent + answer.seconds for answer in answers if answer.status == 200]
            span = max(ends) - min(answer.sent for answer in answers)
            shown = " / ".join(f"{value:.2f}" for value in np.percentile(times, [50, 95, 99]))
            statuses = dict(sorted(Counter(answer.status for answer in answers).items()))
            rows.append((count, f"{len(times) / span:.2f}", statuses, shown, memory))
    print(f"\n{SIDE}×{SIDE} → {4 * SIDE}×{4 * SIDE}, {seconds:.0f} s each\n")
    print_table(("clients", "results/s", "statuses", "p50 / p95 / p99 s, served", "memory"), rows)


class Mix:
    """What the clients of a soak do, and how often which status came."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        self.images = {side: photograph(side) for side in SIDES}
        self.count: Counter[str] = Counter()

    async def __call__(self, client: httpx.AsyncClient) -> httpx.Response | None:
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
            raise
        self.count[f"{kind}: {answer.status_code}"] += 1
        if kind == "other α" and answer.status_code == 200:
            links = answer.json()["links"]
            for part, alpha in itertools.product(("mask", "overlay"), (0.03, 0.1)):
                await client.get(links[part], params={"alpha": alpha})
        elif kind == "job" and answer.status_code == 202:
            await client.get(f"{answer.headers['location']}/events", timeout=600)
        return answer


def soak(seconds: float) -> None:
    mix = Mix()
    with serving(result_ttl_s=60) as (url, pid, log), Memory(pid) as memory:
        asyncio.run(load(url, mix, 8, seconds))
        failed = "Traceback" in log.read_text()
    print_table(("request: status", "times"), sorted(mix.count.items()))
    print(f"\nmemory: {memory}; tracebacks in the log: {'yes' if failed else 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", choices=["clients", "soak"])
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    run, usual = {"clients": (clients, 60.0), "soak": (soak, 1200.0)}[given.run]
    run(given.seconds or usual)


if __name__ == "__main__":
    main()
