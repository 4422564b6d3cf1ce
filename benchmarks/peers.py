"""Speed, memory and quality beside ncnn and onnxruntime, which run the same weights.

    python -m benchmarks.peers DIR [--pictures 3] [--rounds 3]

realesr-general-x4v3 upscales pictures of 512×512, made of the photographs of DIR by a bicubic
reduction by 4. ncnn is what Upscayl and realesrgan-ncnn use, here on the processor (`pip install
ncnn`); the weights are written for it from the ONNX file. Both peers make a plain picture from
pixels to pixels. Ours answers the whole request over HTTP, from a PNG file to files of picture,
mask and trust levels. Each runs in a process of its own, in turn; of the rounds the quickest
counts, since a busy machine only adds. PSNR is over RGB.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from benchmarks.embedded import Pixels, peak_mib, psnr
from benchmarks.photos import photo_folder
from benchmarks.request import with_state
from benchmarks.table import print_table
from benchmarks.timing import timed
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.platform.cores import usable_cores
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS

MODEL, SCALE, SIDE = "realesr-x4", 4, 512

Upscale = Callable[[Pixels], Pixels]


def truths(folder: Path, count: int) -> list[Pixels]:
    """Pictures of 2048×2048, put together from the middles of as many photographs as they need."""
    photographs = iter(sorted(path for path in folder.iterdir() if path.is_file()))
    whole = SCALE * SIDE
    found = []
    for _ in range(count):
        canvas, left = Image.new("RGB", (whole, whole)), 0
        while left < whole:
            top, widest = 0, 0
            while top < whole:
                with Image.open(next(photographs)) as photograph:
                    part = photograph.convert("RGB")
                canvas.paste(part, (left, top))
                top, widest = top + part.height, max(widest, part.width)
            left += widest
        found.append(np.asarray(canvas))
    return found


def reduced(truth: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(truth).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def planes(picture: Pixels) -> NDArray[np.float32]:
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)


def pixels(planes: NDArray[np.float32]) -> Pixels:
    return np.rint(255 * planes.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


@contextmanager
def by_onnxruntime() -> Iterator[Upscale]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(SHIPPED_MODELS[MODEL].read(), options)
    name = session.get_inputs()[0].name
    yield lambda picture: pixels(session.run(None, {name: planes(picture)[None]})[0][0])


@contextmanager
def by_ncnn() -> Iterator[Upscale]:
    import ncnn  # noqa: PLC0415 - for this peer alone

    net = ncnn.Net()
    net.opt.num_threads = usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        layers, weights = as_ncnn(SHIPPED_MODELS[MODEL].read())
        Path(folder, "model.param").write_text(layers)
        Path(folder, "model.bin").write_bytes(weights)
        net.load_param(str(Path(folder, "model.param")))
        net.load_model(str(Path(folder, "model.bin")))

    def upscale(picture: Pixels) -> Pixels:
        extractor, values = net.create_extractor(), planes(picture)  # ncnn holds no reference
        extractor.input("data", ncnn.Mat(values))
        _, output = extractor.extract("output")
        return pixels(np.array(output))

    yield upscale


def as_ncnn(model: bytes) -> tuple[str, bytes]:
    """The network as the two files of ncnn: convolutions with PReLU, then the enlarged input."""
    import onnx  # noqa: PLC0415 - as above

    graph = onnx.load_from_string(model).graph
    numbers = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    layers = ["Input data 0 1 data", "Split split 1 2 data start whole"]
    weights, blob = bytearray(), "start"
    for node in graph.node:
        name = f"b{len(layers)}"
        if node.op_type == "Conv":
            kernel, bias = (numbers[one] for one in node.input[1:])
            size = f"0={len(bias)} 1=3 4=1 5=1 6={kernel.size}"
            layers.append(f"Convolution {name} 1 1 {blob} {name} {size}")
            weights += bytes(4) + kernel.tobytes() + bias.tobytes()  # 0: plain floats follow
        elif node.op_type == "PRelu":
            slopes = numbers[node.input[1]]
            layers.append(f"PReLU {name} 1 1 {blob} {name} 0={slopes.size}")
            weights += slopes.tobytes()
        else:  # the rest is the same in every network of this kind
            break
        blob = name
    layers += [
        f"PixelShuffle shuffle 1 1 {blob} detail 0={SCALE}",
        f"Interp enlarge 1 1 whole enlarged 0=1 1={SCALE} 2={SCALE}",
        "BinaryOp add 2 1 detail enlarged output 0=0",
    ]
    blobs = len(layers) + 1  # each makes one, and Split two
    return "\n".join(["7767517", f"{len(layers)} {blobs}", *layers, ""]), bytes(weights)


@contextmanager
def by_request(**fields: str) -> Iterator[Upscale]:
    """Our whole service; `fields` of the request."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        app = create_app(Settings(data_dir=Path(folder), log_level="error"))
        lifespan = app.router.lifespan_context(app)
        state = runner.run(lifespan.__aenter__())
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(with_state(app, state)), base_url="http://a"
        )
        yield lambda picture: runner.run(_asked(client, picture, fields))
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))


async def _asked(client: httpx.AsyncClient, picture: Pixels, fields: dict[str, str]) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    answer = await client.post(
        "/v1/upscale",
        files={"image": out.getvalue()},
        data={"upscaler": MODEL, **fields},
        headers={"Accept": "application/zip"},
        timeout=None,
    )
    answer.raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as files:
        return np.asarray(Image.open(io.BytesIO(files.read("image.png"))))


PEERS = {
    "ncnn, plain picture": by_ncnn,
    "onnxruntime alone, plain picture": by_onnxruntime,
    "ours, picture and mask over HTTP": by_request,
    "ours, picture alone over HTTP": partial(by_request, mask="none"),
}


def measured(peer: str, folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Seconds by the clock and of processors per picture, the peak of memory, and PSNR."""
    pictures = [(reduced(truth), truth) for truth in truths(folder, count)]
    with PEERS[peer]() as upscale:
        upscale(pictures[0][0])  # the first one loads what is loaded once
        runs = [[timed(partial(upscale, small)) for _ in range(rounds)] for small, _ in pictures]
    pairs = zip(runs, pictures, strict=True)
    return {
        "seconds": statistics.mean(min(run.wall for run in of_one) for of_one in runs),
        "cpu": statistics.mean(min(run.cpu for run in of_one) for of_one in runs),
        "mib": peak_mib(),
        "psnr": statistics.mean(psnr(of_one[0].result, truth) for of_one, (_, truth) in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        found = measured(options.only, options.folder, options.pictures, options.rounds)
        print(json.dumps(found))
        return
    rows: dict[str, dict[str, Any]] = {}
    for peer in PEERS:
        command = [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:], "--only", peer]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows[peer] = json.loads(said.splitlines()[-1])
    least = min(row["seconds"] for peer, row in rows.items() if "plain" in peer)
    print_table(
        ["", "seconds", "of the quicker peer", "processor seconds", "peak MiB", "PSNR"],
        [
            [
                peer,
                f"{row['seconds']:.2f}",
                f"{row['seconds'] / least:.2f}×",
                f"{row['cpu']:.2f}",
                f"{row['mib']:.0f}",
                f"{row['psnr']:.2f}",
            ]
            for peer, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main()
