"""What a calibration costs besides the generation. `python -m benchmarks.calibrate DIR [COUNT]`.

DIR holds photographs of at least 512×512; the middle of the first COUNT (2) is X, and its bicubic
enlargement to 2048×2048 is Y, since only the time counts.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.table import print_table
from trustscale_server.calibrating.packing import pack
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import Pair, Truths, load_pair, variants_of
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.pair_arrays import PairArrays
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal import LossCurve, RiskCurve
from trustscale_server.conformal.loss_curve import LossCurves, coarse_up
from trustscale_server.images.encoding.png import to_png
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import RGB, Capabilities, Source
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

SIDE, SCALE, MAPS, MERGED = 512, 4, 8, 2000

Load = Callable[[], Pair]


class Instant:
    """Hands out samples that were made before, all at one call."""

    name, kind, scale, fingerprint = "instant", "embedded", SCALE, "instant:1"
    capabilities = Capabilities(concurrency=8, samples_per_call=8)

    def __init__(self, samples: Sequence[RGB]) -> None:
        self.samples = samples

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: object = None
    ) -> list[RGB]:
        del source, permit
        return [*self.samples[: len(seeds)]]

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


def crops(folder: Path, count: int) -> list[tuple[bytes, bytes]]:
    """(X, Y) as PNG files."""
    found: list[tuple[bytes, bytes]] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"} or len(found) == count:
            continue
        image = Image.open(path).convert("RGB")
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        if min(left, top) < 0:
            continue
        x = image.crop((left, top, left + SIDE, top + SIDE))
        y = x.resize((SIDE * SCALE, SIDE * SCALE), Image.Resampling.BICUBIC)
        found.append((to_png(np.asarray(x)), to_png(np.asarray(y))))
    if not found:
        sys.exit(f"{folder} has no image of at least {SIDE}×{SIDE}")
    return found


async def overhead(pairs: Sequence[tuple[bytes, bytes]]) -> tuple[float, float]:
    """Seconds of generation and of everything else, per pair, with the embedded upscaler."""
    shipped = shipped_calibration()
    upscaler, pipeline = EmbeddedUpscaler("span-x4"), shipped.pipeline
    generation = everything = 0.0
    for number, (x, y) in enumerate(pairs):
        began = time.perf_counter()
        pair = load_pair(
            PairSource(str(number)), {"y": y, "x": x}, pipeline, degradation=None, seed=0
        )
        measurement = await measure(
            upscaler, Source(pair.x, pair.features), pipeline, pair.seed, truth=pair.y
        )
        pack(reduce_pair(pair, measurement, pipeline))
        everything += time.perf_counter() - began
        generation += measurement.timings_ms["samples"] / 1e3
    await upscaler.close()
    return generation / len(pairs), (everything - generation) / len(pairs)


class Rate(NamedTuple):
    """Pairs per second, two at a time, and the seconds of one core that each took."""

    per_second: float
    core_s: float

    def __str__(self) -> str:
        return f"{self.per_second:.1f} /s, {1e3 * self.core_s:.0f} ms of one core each"


def of_files(x: bytes, y: bytes, pipeline: MeasurementSpec) -> list[Load]:
    """Loads the same pair of files again and again."""
    return [
        partial(load_pair, PairSource("a"), {"y": y, "x": x}, pipeline, degradation=None, seed=0)
    ] * MAPS


def ready(x: bytes, y: bytes, pipeline: MeasurementSpec) -> list[Load]:
    """The same pair again and again, loaded before."""
    pair = of_files(x, y, pipeline)[0]()
    return [lambda: pair] * MAPS


def of_ways(y: bytes, pipeline: MeasurementSpec, truths: Truths | None) -> list[Load]:
    """Loads one pair for each typical way of making X from Y."""
    load = partial(load_pair, pipeline=pipeline, degradation=TYPICAL_UPLOADS, seed=0, truths=truths)
    return [
        partial(load, way, {"y": y})
        for way in PairSource("a").in_variants(variants_of(TYPICAL_UPLOADS))
    ]


async def rate(y: bytes, loads: Callable[[MeasurementSpec], Sequence[Load]]) -> Rate:
    """Pairs of 2048×2048, two at a time, when the samples cost nothing."""
    random = np.random.default_rng(0)
    truth = np.asarray(Image.open(io.BytesIO(y))).astype(np.int16)
    shipped = shipped_calibration()
    noise = random.integers(-9, 10, truth.shape, np.int16)
    upscaler = Instant([np.clip(truth + noise, 0, 255).astype(np.uint8)])
    pipeline = shipped.pipeline.model_copy(update={"fingerprint": upscaler.fingerprint})
    places = asyncio.Semaphore(2)

    async def one(load: Load) -> None:
        async with places:
            pair = await asyncio.to_thread(load)
            measurement = await measure(
                upscaler, Source(pair.x, pair.features), pipeline, pair.seed, truth=pair.seen
            )
            measured = await asyncio.to_thread(reduce_pair, pair, measurement, pipeline)
            del pair, measurement
            await asyncio.to_thread(pack, measured)

    todo = loads(pipeline)
    await one(todo[0])
    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(one, todo))
    seconds = time.perf_counter() - began
    return Rate(len(todo) / seconds, (time.process_time() - used) / len(todo))


def many() -> Calibration:
    """A calibration of 2,000 scenes whose loss curves are as long as those of photographs."""
    shipped = shipped_calibration()
    random = np.random.default_rng(0)
    pairs, loss_curves, quantiles = [], [], []
    likes = np.arange(MERGED) % shipped.everything.pairs
    for k, like in enumerate(likes.tolist()):
        factor = np.float32(random.uniform(0.5, 2))
        for spot in shipped.arrays.spots_of(like):
            scaled = LossCurve(spot.levels * factor, spot.errors)
            loss_curves.append(scaled.coarse(shipped.error_bound))
        quantiles.append(coarse_up(shipped.arrays.sigma_quantiles[like] * factor))
        alone = {"name": f"{k:04}", "scene": None, "variant": None}
        pairs.append({**shipped.document["pairs"][like], **alone})
    return Calibration(
        {**shipped.document, "pairs": pairs},
        PairArrays(
            LossCurves.from_curves(loss_curves),
            shipped.arrays.spots[likes],
            np.array(quantiles, np.float32),
        ),
    )


def merging(calibration: Calibration) -> float:
    """Seconds to merge all loss curves and answer 100 values of α: the best of 5."""
    calibration_set, times = calibration.everything.calibration_set, []
    for _ in range(5):
        began = time.perf_counter()
        curve = RiskCurve.from_calibration_set(calibration_set)
        for alpha in np.linspace(0.001, 1, 100):
            curve.threshold(float(alpha))
        times.append(time.perf_counter() - began)
    return min(times)


def main(folder: Path, count: int) -> None:
    pairs = crops(folder, count)
    generation, other = asyncio.run(overhead(pairs))
    share = f"{other:.2f} s, {other / generation:.1%}"
    x, y = pairs[0]
    maps, files, ways, shared = (
        asyncio.run(rate(y, loads))
        for loads in (
            partial(ready, x, y),
            partial(of_files, x, y),
            partial(of_ways, y, truths=None),
            partial(of_ways, y, truths=Truths()),
        )
    )
    calibration = many()
    size = len(file.dump(calibration)) / 1e6
    breakpoints = np.mean([len(s) for s in calibration.arrays.loss_curves])
    rows = [
        ("generation of a sample, 512² → 2048²", f"{generation:.1f} s", ""),
        ("everything else of a pair", share, ""),
        ("2048² pairs, samples for free", str(maps), "≥ 5 /s"),
        ("the same, with decoding X and Y", str(files), ""),
        ("the typical ways of one Y, decoded for each", str(ways), ""),
        ("the same, Y and its colours shared", str(shared), ""),
        (
            f"loss curves of {MERGED} pairs, 100 α",
            f"{1e3 * merging(calibration):.0f} ms",
            "< 100 ms",
        ),
        (f"file of {MERGED} pairs, {breakpoints:.0f} steps a spot", f"{size:.1f} MB", "< 20 MB"),
    ]
    print_table(("what", "measured", "wanted"), rows)


if __name__ == "__main__":
    folder, count, *_ = [*sys.argv[1:], "2"]
    main(Path(folder), int(count))
