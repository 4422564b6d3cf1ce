"""Memory and time of one request against megapixels, ×4, with a shipped calibration.

`python -m benchmarks.memory MEGAPIXELS … [--embedded] [--letters] [--format FORM] [--upscaler
NAME]`. A JPEG of 4:3 goes through the whole service in a separate process. Without `--embedded` the
upscaler repeats pixels, so only the service counts; with `--letters` text is looked for, too.
Memory is the peak above that after a small request; then, that of one client that fetches the
picture. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.request import EXAMPLE, with_state
from benchmarks.table import print_table
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.images.encoding.encode import PICTURE_FORMATS
from trustscale_server.serving.footprint import LETTERS, footprint
from trustscale_server.serving.picture_format import chosen_format
from trustscale_server.upscalers.base import Capabilities, Source
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.registry import build_upscaler


class Repeated:
    """Repeats pixels, under the name of the embedded upscaler."""

    def __init__(self, embedded) -> None:
        self.name, self.kind, self.scale = embedded.name, embedded.kind, embedded.scale
        self.fingerprint = embedded.fingerprint
        self.capabilities = Capabilities(by_tiles=True)

    async def generate(self, source: Source, seeds, permit=None):  # noqa: ARG002 - the protocol
        return [await asyncio.to_thread(repeated, source.rgb, self.scale) for _ in seeds]

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


def repeated(rgb, scale: int):
    """Every pixel so many times along both sides."""
    height, width, _ = rgb.shape
    large = np.empty((height, scale, width, scale, 3), np.uint8)
    large[:] = rgb[:, None, :, None]
    return large.reshape(height * scale, width * scale, 3)


def photo(megapixels: float) -> bytes:
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    image = Image.open(EXAMPLE).convert("RGB").resize((height * 4 // 3, height))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


async def one(
    megapixels: float, form: str, upscaler: str, *, embedded: bool, letters: bool
) -> None:
    def build(config, environ):
        real = build_upscaler(config, environ)
        return real if embedded else Repeated(real)

    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_in_flight_bytes": 2**40, "request_timeout_s": 1e5}
        leaving = {"letters": "leave_out" if letters else "keep"}
        settings = Settings(data_dir=Path(folder), log_level="error", **limits, **leaving)
        app = create_app(settings, build=build)
        async with app.router.lifespan_context(app) as state:
            transport = httpx.ASGITransport(with_state(app, state))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                await ask(client, 0.05, form, upscaler)
                before = resident()
                started = time.perf_counter()
                answer = await ask(client, megapixels, form, upscaler)
                seconds = time.perf_counter() - started
                taken = peak() - before
                before = resident()
                size = await fetched(with_state(app, state), answer["links"]["image"])
                sending = peak() - before
                calibration = await state["trustscale"].services.calibrations.active(upscaler)
                counted = footprint(
                    answer["height"] // 4,
                    answer["width"] // 4,
                    calibration.pipeline,
                    Capabilities(by_tiles=True),
                    chosen_format(form, None).bytes_per_pixel + LETTERS * letters,
                )
                pixels = answer["width"] * answer["height"]
                print(pixels, taken, counted, seconds, size, sending)


def resident() -> int:
    """Bytes of this process; its peak begins again."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


async def fetched(app, path: str) -> int:
    """Bytes of a file that a client has read."""
    size = 0

    async def send(message) -> None:
        nonlocal size
        size += len(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app(scope, asyncio.Event().wait, send)
    return size


async def ask(client: httpx.AsyncClient, megapixels: float, form: str, upscaler: str):
    data = await asyncio.to_thread(photo, megapixels)
    files, fields = {"image": ("p.jpg", data)}, {"format": form, "upscaler": upscaler}
    answer = await client.post("/v1/upscale", files=files, data=fields, timeout=None)
    answer.raise_for_status()
    return answer.json()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("megapixels", type=float, nargs="+")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--letters", action="store_true")
    parser.add_argument("--format", choices=PICTURE_FORMATS, default="png")
    parser.add_argument("--upscaler", choices=SHIPPED_MODELS, default="span-x4")
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    if given.child:
        options = {"embedded": given.embedded, "letters": given.letters}
        asyncio.run(one(given.megapixels[0], given.format, given.upscaler, **options))
        return
    rows = []
    for megapixels in given.megapixels:
        command = [sys.executable, "-m", "benchmarks.memory", str(megapixels), "--child"]
        command += ["--format", given.format, "--upscaler", given.upscaler]
        command += ["--embedded"] * given.embedded + ["--letters"] * given.letters
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pixels, memory, counted, seconds, size, sending = map(float, out.split()[-6:])
        rows.append(
            (
                f"{megapixels:g}",
                f"{pixels / 1e6:.0f}",
                f"{memory / 1e9:.2f}",
                f"{memory / pixels:.1f}",
                f"{counted / 1e9:.2f}",
                f"{seconds:.0f}",
                f"{size / 1e6:.0f}",
                f"{sending / 1e6:.0f}",
            )
        )
    head = "Mpx in|Mpx out|GB|bytes per output pixel|counted, GB|seconds|file, MB|sending it, MB"
    print_table(head.split("|"), rows)


if __name__ == "__main__":
    main()
