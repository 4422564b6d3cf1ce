"""What the gateway adds to the work that cannot be avoided.

The bound is one core that does nothing but decode the upload, fold M samples, make σ and encode the
three PNG files, one after the other and in one thread. It is compared with what the whole server
uses of a core per request, with HTTP, mask and trust level, typicality, the document and the store.
Both are CPU time in the same run, so other programs on the machine hardly count.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load.clients import load, photograph, rate, served, statuses, upscaling
from benchmarks.load.fake import variants
from benchmarks.load.server import FAKE, serving
from benchmarks.table import print_table
from trustscale_server.calibration.active import shipped_calibration
from trustscale_server.images.decode import Limits, decode
from trustscale_server.images.encode import png, png_mask, png_rgb
from trustscale_server.sigma.estimators import Accumulator

SIDE, SAMPLES = 512, 8
CLIENTS = 2  # one per core
ROUNDS = 7


def cpu_ms(work: Callable[[], object]) -> float:
    """Milliseconds of a core in this thread, the median of some rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        times.append(1e3 * (time.thread_time() - began))
    return statistics.median(times)


def parts(image: bytes) -> dict[str, float]:
    """Milliseconds of a core of everything that the bound counts."""
    calibration = shipped_calibration()
    samples = variants(decode(image, Limits()).rgb)[:SAMPLES]

    def fold() -> Accumulator:
        accumulator = Accumulator(samples[0].shape)
        for sample in samples:
            accumulator.add(sample)
        return accumulator

    accumulator = fold()
    sigma = accumulator.result()
    mask, trust = calibration.curve.mask(sigma, 0.05), calibration.curve.trust_code(sigma)
    return {
        "decode": cpu_ms(lambda: decode(image, Limits())),
        "fold": cpu_ms(fold),
        "σ": cpu_ms(accumulator.result),
        "image.png": cpu_ms(lambda: png_rgb(samples[0])),
        "mask.png": cpu_ms(lambda: png_mask(mask)),
        "trust.png": cpu_ms(lambda: png(trust)),
    }


def gateway_ms(folder: Path, image: bytes, seconds: float) -> tuple[float, float]:
    """Milliseconds of a core per request, and requests per second of all cores."""
    with serving(folder, FAKE, max_in_flight=CLIENTS, result_ttl_s=20) as server:
        ask = upscaling(image, alpha="0.05")
        asyncio.run(load(server.url, ask, clients=CLIENTS, seconds=2))
        before = server.cpu_s()
        answers = asyncio.run(load(server.url, ask, clients=CLIENTS, seconds=seconds))
        used = server.cpu_s() - before
    if len(served(answers)) < len(answers):
        raise SystemExit(f"not all were answered: {statuses(answers)}")
    return 1e3 * used / len(answers), rate(answers)


def main(seconds: float) -> None:
    image = photograph(SIDE)
    with tempfile.TemporaryDirectory() as folder:
        before = parts(image)
        actual, per_second = gateway_ms(Path(folder), image, seconds)
        after = parts(image)
    found = {part: (before[part] + after[part]) / 2 for part in before}
    bound = sum(found.values())
    coding = bound - found["fold"] - found["σ"]
    rows = [
        *((f"{part}, ms of a core", f"{value:.0f}") for part, value in found.items()),
        ("bound: their sum, requests/s per core", f"{bound:.0f} ms: {1e3 / bound:.2f}"),
        ("gateway: requests/s per core", f"{actual:.0f} ms: {1e3 / actual:.2f}"),
        ("gateway against bound", f"{bound / actual:.0%}"),
        ("share of decoding and PNG coding", f"{coding / actual:.0%}"),
        ("requests/s over HTTP, all cores", f"{per_second:.2f}"),
    ]
    print(f"\n{SIDE}×{SIDE} → {4 * SIDE}×{4 * SIDE}, M = {SAMPLES}, {CLIENTS} clients\n")
    print_table(("what", "measured"), rows)
