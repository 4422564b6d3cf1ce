"""Memory that a gateway keeps: `python -m benchmarks.growth [--minutes 30] [--only PART …]`.

A gateway with the shipped upscaler answers small requests of all kinds, some a second, and its
memory is read every ten seconds. What is kept is the lowest reading of each two minutes: what a
request takes while it runs comes and goes, by hundreds of megabytes. The slope of these over the
last two thirds of the time is printed in megabytes an hour, with the memory before, in the end, and
half a minute after the last request.
`--only` names the parts that take turns, to find the one that grows:

- pictures: uploads of 64×48 to 120×90 in several formats, with masks, forms and other options.
- leaving: uploads of the same kind whose clients hang up in the middle of the body or the answer.
- jobs: the same as jobs, each followed by its events, some of them cancelled.
- refused: broken pictures, wrong fields, unknown results.
- archives: archives of pairs that are refused, or that a dry run estimates.
- lists: what the pages of administrators and Prometheus read.

Linux only.
"""

from __future__ import annotations

import argparse
import io
import random
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image

from benchmarks.hostile import served, status_mb
from benchmarks.table import print_table
from harness.factories import photo
from trustscale_server.platform.telemetry.logs import configure_logs

EVERY_S = 10.0
KEPT_S = 120.0
QUIET_S = 30.0
ADMIN = {"Authorization": "Bearer " + "admin-" + 32 * "c"}
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"format": "jpeg"},
    {"format": "webp"},
    {"format": "avif"},
    {"guarantee": "none"},
    {"alpha": "0.1"},
)


class Client:
    """One of those who ask, in a thread; each has pictures of its own."""

    def __init__(self, url: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.http = httpx.Client(base_url=url, timeout=300)
        self.address = urlsplit(url)

    def picture(self) -> bytes:
        width = self.random.randrange(64, 121)
        pixels = photo(self.random.randrange(1000), width * 3 // 4, width)
        out = io.BytesIO()
        Image.fromarray(np.asarray(pixels)).save(out, self.random.choice(FORMATS))
        return out.getvalue()

    def pictures(self) -> str:
        options = self.random.choice(OPTIONS)
        answer = self.http.post("/v1/upscale", files={"image": self.picture()}, data=options)
        if answer.is_success:
            links = answer.json()["links"]
            names = [name for name in ("image", "mask", "overlay") if links.get(name)]
            self.http.get(links[self.random.choice(names)])
        return str(answer.status_code)

    def leaving(self) -> str:
        """A client that hangs up within the body, or when nothing was answered for a while."""
        request = self.http.build_request("POST", "/v1/upscale", files={"image": self.picture()})
        body = request.read()
        head = f"POST /v1/upscale HTTP/1.1\r\nHost: {self.address.netloc}\r\n"
        for name in ("content-type", "content-length"):
            head += f"{name}: {request.headers[name]}\r\n"
        place = str(self.address.hostname), int(self.address.port or 80)
        with socket.create_connection(place) as connection:
            is_whole = self.random.random() < 0.5
            part = len(body) if is_whole else self.random.randrange(len(body))
            connection.sendall(f"{head}\r\n".encode() + body[:part])
            time.sleep(self.random.uniform(0.01, 0.3))
        return "left"

    def jobs(self) -> str:
        prefer = {"Prefer": "respond-async"}
        accepted = self.http.post("/v1/upscale", files={"image": self.picture()}, headers=prefer)
        if accepted.status_code != 202:
            return str(accepted.status_code)
        job = accepted.headers["location"]
        if self.random.random() < 0.2:
            self.http.delete(job)
        with self.http.stream("GET", f"{job}/events") as events:
            for _ in events.iter_lines():
                if self.random.random() < 0.05:
                    return "left events"
        return str(self.http.get(job).json()["state"])

    def refused(self) -> str:
        data = self.picture()
        kind = self.random.randrange(4)
        if kind == 0:
            answer = self.http.get("/v1/results/res-unknown")
        elif kind == 1:
            answer = self.http.post("/v1/upscale", files={"image": data[: len(data) // 2]})
        elif kind == 2:
            answer = self.http.post("/v1/upscale", files={"image": data}, data={"alpha": "x"})
        else:
            answer = self.http.post("/v1/upscale", files={"image": self.random.randbytes(4000)})
        return str(answer.status_code)

    def archives(self) -> str:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for number in range(self.random.randrange(1, 8)):
                data = self.picture()
                if self.random.random() < 0.5:
                    data = data[: len(data) // 2]
                archive.writestr(f"y/{number}.png", data)
        files = {"archive": ("pairs.zip", out.getvalue())}
        answer = self.http.post(
            "/v1/admin/calibrations?dry_run=true", files=files, data={"config": "{}"}, headers=ADMIN
        )
        return str(answer.status_code)

    def lists(self) -> str:
        paths = ("/v1/admin/jobs", "/v1/admin/calibrations", "/metrics")
        more = ("/v1/upscalers", "/v1/calibrations", "/readyz", "/openapi.json")
        return str(self.http.get(self.random.choice(paths + more), headers=ADMIN).status_code)


PARTS: dict[str, Callable[[Client], str]] = {
    "pictures": Client.pictures,
    "leaving": Client.leaving,
    "jobs": Client.jobs,
    "refused": Client.refused,
    "archives": Client.archives,
    "lists": Client.lists,
}


def asked(client: Client, parts: list[str], pause_s: float, ends: threading.Event) -> Counter[str]:
    """What one client got, until the end."""
    outcomes: Counter[str] = Counter()
    while not ends.wait(client.random.expovariate(1 / pause_s)):
        part = client.random.choice(parts)
        try:
            outcomes[f"{part} {PARTS[part](client)}"] += 1
        except httpx.TransportError as error:
            outcomes[f"{part} {type(error).__name__}"] += 1
    return outcomes


def slope_mb_an_hour(seconds: list[float], memory: list[float]) -> float:
    """The slope of a line through the lowest readings of the last two thirds."""
    kept: dict[float, tuple[float, float]] = {}
    for second, size in zip(seconds, memory, strict=True):
        window = second // KEPT_S
        if second >= seconds[-1] / 3:
            kept[window] = min(kept.get(window, (size, second)), (size, second))
    sizes, times = np.array(list(kept.values())).T
    return float(np.polyfit(times / 3600, sizes, 1)[0])


def grown(minutes: float, parts: list[str], clients: int, per_second: float) -> None:
    """Ask for so long, and print what the gateway kept."""
    seconds: list[float] = []
    memory: list[float] = []
    key = ADMIN["Authorization"].removeprefix("Bearer ")
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), TRUSTSCALE_ADMIN_KEYS=key) as (server, upscale),
        ThreadPoolExecutor(clients) as pool,
    ):
        process, ends = server.process.pid, threading.Event()
        url = upscale.removesuffix("/v1/upscale")
        before = status_mb(process, "VmRSS:")
        began = time.monotonic()
        pause_s = clients / per_second
        asking = [pool.submit(asked, Client(url, n), parts, pause_s, ends) for n in range(clients)]
        try:
            while (now := time.monotonic() - began) < 60 * minutes:
                seconds.append(now)
                memory.append(status_mb(process, "VmRSS:"))
                print(f"{now:.0f} s: {memory[-1]:.0f} MB", file=sys.stderr)
                time.sleep(EVERY_S)
        finally:
            ends.set()
        outcomes = sum((one.result() for one in asking), Counter[str]())
        time.sleep(QUIET_S)
        quiet = status_mb(process, "VmRSS:")
    print_table(["outcome", "requests"], [[k, str(v)] for k, v in sorted(outcomes.items())])
    print(f"{before:.0f} MB before, {memory[-1]:.0f} MB in the end, {quiet:.0f} MB when quiet")
    print(f"slope over the last two thirds: {slope_mb_an_hour(seconds, memory):+.0f} MB an hour")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", nargs="*", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--per-second", type=float, default=7.0)
    chosen = parser.parse_args()
    configure_logs("error", "console")
    grown(chosen.minutes, chosen.only, chosen.clients, chosen.per_second)
