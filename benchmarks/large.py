"""A photograph of 12 megapixels over HTTP: refused at once, done as a job, and nobody starves.

    python -m benchmarks.large [--deadline SECONDS] [--megapixels N]

The photograph is sent to a gateway with a deadline that it cannot meet, then as a job; while that
runs, uploads of 256×192 are timed one after the other. Memory is the peak of the gateway.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.request import EXAMPLE

SMALL = (256, 192)


def main(deadline: float, megapixels: float) -> None:
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    large = jpeg((width, width * 3 // 4))
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {
            **os.environ,
            "TRUSTSCALE_DATA_DIR": folder,
            "TRUSTSCALE_REQUEST_TIMEOUT_S": str(deadline),
            "TRUSTSCALE_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "trustscale_server", "serve", "--port", str(port)]
        with subprocess.Popen(command, env=environment) as gateway:
            try:
                measure(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None), large)
                print(f"\npeak memory of the gateway: {peak(gateway.pid) / 1e6:,.0f} MB")
            finally:
                gateway.terminate()


def measure(client: httpx.Client, large: bytes) -> None:
    """Print what becomes of the large picture, and of small ones beside it."""
    while not ready(client):
        time.sleep(0.2)
    print("| what | seconds | |\n|---|---|---|")
    refused, seconds = timed(client, large)
    problem = refused.json()
    facts = {name: problem.get(name) for name in ("estimate", "deadline", "fit", "prefer")}
    row(("refused", f"{seconds:.2f}", f"{refused.status_code}: {facts}"))
    small = jpeg(SMALL)
    alone = [timed(client, small)[1] for _ in range(5)]
    row(("256×192, idle, slowest of 5", f"{max(alone):.2f}", ""))
    accepted, seconds = timed(client, large, {"Prefer": "respond-async"})
    job = accepted.json()
    about = f"{accepted.status_code}: {job['width']}×{job['height']}, about {job['estimate_s']} s"
    row(("accepted as a job", f"{seconds:.2f}", about))
    began = time.perf_counter()
    beside: list[float] = []
    while job["state"] in {"queued", "running"}:
        if job["state"] == "running":
            answer, seconds = timed(client, small)
            beside.append(seconds if answer.is_success else float("inf"))
        time.sleep(1)
        job = client.get(f"/v1/jobs/{job['id']}").json()
    took = f"{time.perf_counter() - began:.0f}"
    row((f"256×192 beside it, slowest of {len(beside)}", f"{max(beside):.2f}", ""))
    row(("the job", took, f"{job['state']}, {job['progress']}"))
    picture = client.get(client.get(job["result"]).json()["links"]["image"]).content
    size = Image.open(io.BytesIO(picture)).size
    row(("its picture", "", f"{size[0]}×{size[1]}, {len(picture) / 1e6:.0f} MB"))


def row(cells: tuple[str, str, str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def timed(
    client: httpx.Client, image: bytes, headers: dict[str, str] | None = None
) -> tuple[httpx.Response, float]:
    """The answer to an upload, and how long it took."""
    started = time.perf_counter()
    answer = client.post("/v1/upscale", files={"image": ("a.jpg", image)}, headers=headers)
    return answer, time.perf_counter() - started


def ready(client: httpx.Client) -> bool:
    """Whether the gateway answers, and knows the pace of its upscaler."""
    try:
        upscalers = client.get("/v1/upscalers").json()
    except httpx.ConnectError:
        return False
    return all(row["seconds_per_megapixel"] for row in upscalers)


def jpeg(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.MAX_IMAGE_PIXELS = None
    example = Image.open(EXAMPLE).convert("RGB")
    example.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


def peak(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deadline", type=float, default=30.0)
    parser.add_argument("--megapixels", type=float, default=12.0)
    given = parser.parse_args()
    main(given.deadline, given.megapixels)
