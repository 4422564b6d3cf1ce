"""How large is the trust mask under each σ? `python -m benchmarks.power CALIBRATION TEST`.

Both folders hold high-resolution photographs of one law. Every estimator is calibrated on the
first folder and measured on the second: the trusted area and the mean of the worst error inside the
mask, for some α. The last row is an oracle that knows the error. `--cache DIR` keeps the samples,
which take most of the time, for the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import gettempdir

import numpy as np
from numpy.typing import NDArray

from app.calibration.folder import find_pairs
from app.calibration.pairs import load_pair
from app.conformal import RiskCurve, Staircase, fidelity
from app.conformal.indecision import Accumulator, Settings
from app.images.degrade import Degradation
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.seeds import sample_seeds
from benchmarks.table import print_table

ALPHAS = (0.05, 0.075, 0.1, 0.125, 0.15)
SAMPLES = 8
PAPER, DEFAULT, LEARNED, ORACLE = "paper's recipe", "default", "learned", "oracle, σ = D"

ESTIMATORS: dict[str, Settings] = {
    # Box of 31 and blur of 64 on 2048 pixels, scaled to 512 as far as the box allows.
    PAPER: Settings("patch_variance", size=31, clip_quantile=0.95, blur=16),
    "patch_variance, box 15, blur 8": Settings("patch_variance", size=15, blur=8),
    "patch_variance, box 7, blur 4": Settings("patch_variance"),
    "pixel_variance, blur 4": Settings("pixel_variance"),
    "smoothed_variance, box 3, blur 4": Settings(size=3),
    "smoothed_variance, box 15, blur 4": Settings(size=15),
    "smoothed_variance, box 7, blur 2": Settings(blur=2),
    "smoothed_variance, box 7, blur 8": Settings(blur=8),
    DEFAULT: Settings(),
    LEARNED: Settings("learned"),
}

_EVERY = 16  # of the sorted σ: enough to count a mask with

Steps = dict[str, tuple[Staircase, NDArray[np.float32]]]


def photographs(folder: Path, cache: Path) -> list[Path]:
    """One .npz of y [H, W, 3] and s [M, H, W, 3] per photograph, generated unless it is there."""
    kept = cache / folder.name
    kept.mkdir(parents=True, exist_ok=True)
    upscaler = EmbeddedUpscaler("span-x4")
    pipeline = Pipeline(fingerprint=upscaler.fingerprint, scale=upscaler.scale, samples=SAMPLES)

    async def generate() -> list[Path]:
        out = []
        for files in find_pairs(folder):
            path = kept / f"{files.name}.npz"
            if not path.exists():
                data = files.y.read_bytes()
                pair = load_pair(
                    files.name, data, None, pipeline, degradation=Degradation(), seed=0
                )
                seeds = sample_seeds(pair.seed, SAMPLES)
                np.savez(path, y=pair.y, s=np.stack(await upscaler.generate(Source(pair.x), seeds)))
            out.append(path)
        return out

    return asyncio.run(generate())


def folded(samples: NDArray[np.uint8]) -> Accumulator:
    """The samples [M, H, W, 3] of one photograph in the sums that every σ is made from."""
    accumulator = Accumulator(samples.shape[1:])
    for sample in samples:
        accumulator.add(sample)
    return accumulator


def measured(path: Path) -> Steps:
    """The staircase of one photograph and its sorted σ, under each estimator."""
    with np.load(path) as arrays:
        truth, samples = arrays["y"], arrays["s"]
    error = fidelity.error(truth, samples[0])
    accumulator = folded(samples)
    sigmas = {}
    for name, settings in ESTIMATORS.items():
        accumulator.settings = settings
        sigmas[name] = accumulator.result()
    sigmas[ORACLE] = error
    return {
        name: (Staircase.from_maps(sigma, error), np.sort(sigma, axis=None)[::_EVERY])
        for name, sigma in sigmas.items()
    }


def served(
    name: str, calibration: Sequence[Steps], test: Sequence[Steps]
) -> list[tuple[float, float]]:
    """Trusted area and mean loss of the test photographs for each of `ALPHAS`."""
    curve = RiskCurve.from_staircases((steps[name][0] for steps in calibration), fidelity.bound())
    out = []
    for alpha in ALPHAS:
        threshold = curve.threshold(alpha)
        area = [
            np.searchsorted(levels, threshold, side="left") / len(levels)
            for levels in (steps[name][1] for steps in test)
        ]
        loss = [steps[name][0].loss_below(threshold) for steps in test]
        out.append((float(np.mean(area)), float(np.mean(loss))))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "trustscale-power")
    given = parser.parse_args()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        sets = [
            list(pool.map(measured, photographs(folder, given.cache), chunksize=4))
            for folder in (given.calibration, given.test)
        ]
    results = {name: served(name, *sets) for name in (*ESTIMATORS, ORACLE)}
    print(f"n = {len(sets[0])}, {len(sets[1])} test photographs; trusted area / mean loss\n")
    print_table(
        ("σ", *(f"α = {alpha:g}" for alpha in ALPHAS)),
        [(name, *(f"{a:.3f} / {loss:.3f}" for a, loss in row)) for name, row in results.items()],
    )
    print("\nShare of the way from the paper's recipe to the oracle:\n")
    rows = []
    for name in (DEFAULT, LEARNED):
        shares: list[str] = []
        for own, low, high in zip(results[name], results[PAPER], results[ORACLE], strict=True):
            way = high[0] - low[0]
            shares.append(f"{(own[0] - low[0]) / way:.0%}" if way > 0 else "-")
        rows.append((name, *shares))
    print_table(("σ", *(f"α = {alpha:g}" for alpha in ALPHAS)), rows)


if __name__ == "__main__":
    main()
