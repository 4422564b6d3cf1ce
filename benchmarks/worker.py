"""What the worker must reach, measured on whatever device is here.

    python -m benchmarks.worker [--device cpu|cuda] [--dtype float32] [--skip-model]
    python -m benchmarks.worker --diffusion [--device cpu|cuda]

SinSR's networks have their full size and random weights: time and memory do not depend on the
values. So have LDM-SR's and those of Stable Diffusion's ×4 upscaler with `--diffusion` on a GPU; on
a CPU they have a fraction of their width. Every measurement runs in a separate process.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import uvicorn
from numpy.typing import NDArray

from benchmarks.table import print_table
from harness.tiny import ldm, saved, upscale
from trustscale_server.sampling.sigma.estimators import Accumulator
from trustscale_server.upscalers.tensors import HEADER_LENGTH, encode_message
from trustscale_worker.models.diffusion.engine import DiffusionEngine
from trustscale_worker.models.engine import DeviceMemory, Engine, SampleRequest
from trustscale_worker.models.sinsr.config import SinSRConfig
from trustscale_worker.models.sinsr.engine import SinSREngine
from trustscale_worker.models.sinsr.model import SinSR
from trustscale_worker.service import create_worker_app
from trustscale_worker.settings import EngineSpec

SAMPLES = 8


class SleepingEngine(Engine):
    """Sleeps a while per sample and answers zeros, made in advance."""

    def __init__(self, seconds: float) -> None:
        super().__init__("sleeper", 4, "sha256:sleeper")
        self._seconds = seconds
        random = np.random.default_rng(0)
        self._stack = random.integers(0, 256, (SAMPLES, 2048, 2048, 3), np.uint8)

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[NDArray[np.uint8]]:
        time.sleep(self._seconds * sum(len(job.seeds) for job in jobs))
        return [self._stack[: len(job.seeds)] for job in jobs]

    def memory(self) -> DeviceMemory:
        return DeviceMemory("fake", 0, 0)


def random_model(device: str, dtype: str) -> SinSREngine:
    """Full-size networks; the weights are small enough that nothing overflows."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    config = SinSRConfig()
    networks = SinSR.plan_networks(config)
    random = torch.Generator().manual_seed(0)
    for network in networks:
        state = {
            name: torch.randn(weight.shape, generator=random).mul_(0.02)
            for name, weight in network.named_parameters()
        }
        network.load_state_dict(state, assign=True)
    return SinSREngine(SinSR(config, *networks, device, dtype))


def picture(side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_speed(pipe: Connection, device: str, dtype: str) -> None:
    """One call for 8 samples against 8 calls for one, taking turns, best of two."""
    model, image, seeds = random_model(device, dtype), picture(64), np.arange(SAMPLES)
    model.samples(image, seeds[:1])
    together, apart = [], []
    for _ in range(2):
        begun = time.perf_counter()
        stack = model.samples(image, seeds)
        together.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        singles = [model.samples(image, seeds[row : row + 1])[0] for row in range(SAMPLES)]
        apart.append(time.perf_counter() - begun)
    off = np.abs(stack.astype(int) - np.stack(singles)).max() / 255
    pipe.send((min(together), min(apart), float(off)))


def measure_memory(pipe: Connection, device: str, dtype: str, samples: int) -> None:
    """Peak memory of one call for that many samples of 128×128."""
    model = random_model(device, dtype)
    model.samples(picture(128), np.arange(samples))
    pipe.send(peak_bytes(device))


def serve(pipe: Connection, seconds: float) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # connections wait until the server runs
        pipe.send(listener.getsockname()[1])
        app = create_worker_app(SleepingEngine(seconds))
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run([listener])


def infer(port: int, side: int, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A plain client: raw tensors there, raw tensors back."""
    wish = {"parameters": {"binary_data_output": True}}
    tensors = {"image": picture(side), "seeds": seeds}
    parts, headers = encode_message(wish, "inputs", tensors, binary=True)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v2/models/sleeper/infer", b"".join(parts), headers)
    answer = connection.getresponse()
    length = int(answer.headers[HEADER_LENGTH])
    document = json.loads(answer.read(length))
    stack = np.empty(document["outputs"][0]["shape"], np.uint8)
    rest = memoryview(stack.reshape(-1))
    while rest:
        rest = rest[answer.readinto(rest) :]
    connection.close()
    return stack


def in_process(
    target: Callable[..., None], *given: object, **named: object
) -> tuple[Connection, multiprocessing.Process]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(theirs, *given), kwargs=named, daemon=True
    )
    process.start()
    return ours, process


def result(target: Callable[..., None], *given: object, **named: object) -> object:
    pipe, process = in_process(target, *given, **named)
    answer = pipe.recv()
    process.join()
    return answer


def measure_overhead() -> float:
    """Seconds beyond the engine's own for 8 samples of 2048×2048, best of three."""
    pipe, process = in_process(serve, 0.01)
    port = pipe.recv()
    times = []
    for _ in range(4):  # the first one warms up
        begun = time.perf_counter()
        assert infer(port, 512, np.arange(SAMPLES)).shape == (SAMPLES, 2048, 2048, 3)
        times.append(time.perf_counter() - begun - 0.01 * SAMPLES)
    process.terminate()
    process.join()
    return min(times[1:])


def measure_diffusion(pipe: Connection, kind: str, device: str, dtype: str) -> None:
    """Of 64×64: seconds of one call for 8 samples and of 8 calls, peak memory, samples."""
    full = device.startswith("cuda")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if kind == "LDM-SR":
            made = ldm((160, 320, 320, 640), (128, 256, 512), 2) if full else ldm((64, 128))
        else:
            made = upscale(place / "text", *([(256, 512, 512, 1024), (128, 256, 512)] * full))
        saved(made, place / "pipe")
        steps = {"steps": 20 if full else 4}
        engine = DiffusionEngine.load(
            EngineSpec("diffusers", place / "pipe", config=steps, device=device, dtype=dtype)
        )
    image, seeds = picture(64), np.arange(SAMPLES)
    engine.samples(image, seeds[:1])
    begun = time.perf_counter()
    stack = engine.samples(image, seeds)
    together = time.perf_counter() - begun
    begun = time.perf_counter()
    for row in range(SAMPLES):
        engine.samples(image, seeds[row : row + 1])
    pipe.send((together, time.perf_counter() - begun, peak_bytes(device), stack))


def sigma_of(stack: NDArray[np.uint8]) -> NDArray[np.float32]:
    accumulator = Accumulator(stack.shape[1:])
    for sample in stack:
        accumulator.add(sample)
    return accumulator.result()


def diffusion_rows(device: str) -> list[tuple[str, str, str, bool]]:
    on_gpu = device.startswith("cuda")
    bar = 2.0 if on_gpu else 1.2
    rows = []
    for kind in ("LDM-SR", "SD x4"):
        exact = None
        for dtype in ("float32", "bfloat16", *(["float16"] if on_gpu else [])):
            together, apart, peak, stack = result(measure_diffusion, kind, device, dtype)
            gain = apart / together
            what = f"{kind} {dtype}: 8 samples of 64x64 {together:.1f} s, eight calls {apart:.1f} s"
            rows.append((what, f"{gain:.2f}x", f">= {bar}x", gain >= bar))
            text = f"{3600 / together:.0f} images an hour, {peak / 2**30:.1f} GiB"
            rows.append((f"... M = {SAMPLES}", text, "-", True))
            if exact is None:
                exact = stack
                continue
            far = np.abs(stack.astype(int) - exact).mean() / 255
            sigma, other = sigma_of(exact), sigma_of(stack)
            text = f"{far:.4f}; {np.abs(other - sigma).mean() / sigma.mean():.1%}"
            rows.append(("... from float32: samples, mean; σ, of its mean", text, "-", True))
    return rows


def measure_workers(count: int) -> float:
    """Seconds for 8 samples, split evenly over `count` workers of 0.5 s per sample."""
    started = [in_process(serve, 0.5) for _ in range(count)]
    ports = [pipe.recv() for pipe, _ in started]
    for port in ports:
        infer(port, 16, np.arange(1))
    parts = np.array_split(np.arange(SAMPLES), count)
    threads = [
        threading.Thread(target=infer, args=(port, 16, part))
        for port, part in zip(ports, parts, strict=True)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    for _, process in started:
        process.terminate()
        process.join()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--skip-model", action="store_true", help="only the service")
    parser.add_argument("--diffusion", action="store_true", help="only pipelines of diffusers")
    given = parser.parse_args()
    rows = diffusion_rows(given.device) if given.diffusion else _service_rows(given)
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else "CPU"
    print(f"{device}, {given.dtype}\n")
    head = ("what", "measured", "bar", "met")
    print_table(head, [(*row, "yes" if met else "NO") for *row, met in rows])


def _service_rows(given: argparse.Namespace) -> list[tuple[str, str, str, bool]]:
    rows: list[tuple[str, str, str, bool]] = []
    if not given.skip_model:
        together, apart, off = result(measure_speed, given.device, given.dtype)
        rows.append(
            (
                f"8 samples of 64x64, one call {together:.1f} s, eight calls {apart:.1f} s",
                f"{apart / together:.2f}x faster",
                ">= 1.3x",
                apart >= 1.3 * together,
            )
        )
        rows.append(("... largest difference", f"{off:.1e}", "<= 1e-5", off <= 1e-5))
        one = result(measure_memory, given.device, given.dtype, 1)
        many = result(measure_memory, given.device, given.dtype, SAMPLES)
        bar = 1.3 * one + SAMPLES * 3 * 512 * 512
        rows.append(
            (
                "peak memory, 8 samples of 128x128",
                f"{many / 2**20:.0f} MiB",
                f"<= {bar / 2**20:.0f} MiB (one: {one / 2**20:.0f})",
                many <= bar,
            )
        )
    overhead = measure_overhead()
    rows.append(
        ("protocol, 8 samples of 2048x2048", f"{overhead:.2f} s", "<= 0.6 s", overhead <= 0.6)
    )
    gain = measure_workers(1) / measure_workers(2)
    rows.append(("two workers against one", f"{gain:.2f}x", ">= 1.8x", gain >= 1.8))
    return rows


if __name__ == "__main__":
    main()
