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

from app.calibration.intake import find_in
from app.calibration.pairs import load_pair
from app.conformal import RiskCurve, Staircase, fidelity
from app.conformal.fitted import shipped
from app.conformal.indecision import Accumulator, IndecisionSettings
from app.images.degrade import Degradation
from app.images.enlarge import Enlarged
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.seeds import sample_seeds
from benchmarks.table import print_table

ALPHAS = (0.05, 0.075, 0.1, 0.125, 0.15)
SAMPLES = 8
PAPER, ORACLE = "paper's recipe, M = 8", "oracle, σ = D"
BEFORE, DEFAULT = "smoothed_variance, M = 8: the default before", "fitted, M = 2: the default"


def fitted(samples: int) -> tuple[int, IndecisionSettings]:
    """The fit that is shipped for so many samples."""
    return samples, IndecisionSettings("fitted", fit=shipped(f"span-x4-m{samples}"))


# σ by name: M, and the settings.
ESTIMATORS: dict[str, tuple[int, IndecisionSettings]] = {
    # Box of 31 and blur of 64 on 2048 pixels, scaled to 512 as far as the box allows.
    PAPER: (SAMPLES, IndecisionSettings("patch_variance", size=31, clip_quantile=0.95, blur=16)),
    BEFORE: (SAMPLES, IndecisionSettings()),
    "smoothed_variance, M = 2": (2, IndecisionSettings()),
    "residual, M = 1": (1, IndecisionSettings("residual")),
    "fitted, M = 1": fitted(1),
    DEFAULT: fitted(2),
}

_EVERY = 16  # of the sorted σ: enough to count a mask with

Steps = dict[str, tuple[Staircase, NDArray[np.float32]]]


def photographs(folder: Path, cache: Path, samples: int = SAMPLES) -> list[Path]:
    """One .npz of x, y and at least M samples s [M, H, W, 3] per photograph, kept for next time."""
    kept = cache / "-".join(folder.resolve().parts[-2:])
    kept.mkdir(parents=True, exist_ok=True)
    upscaler = EmbeddedUpscaler("span-x4")
    pipeline = Pipeline(fingerprint=upscaler.fingerprint, scale=upscaler.scale, samples=SAMPLES)

    def is_kept(path: Path) -> bool:
        if not path.exists():
            return False
        with np.load(path) as arrays:
            return len(arrays["s"]) >= samples

    async def generate() -> list[Path]:
        out = []
        for files in find_in(folder):
            path = kept / f"{files.name}.npz"
            if not is_kept(path):
                data = files.y.read_bytes()
                pair = load_pair(
                    files.name, data, None, pipeline, degradation=Degradation(), seed=0
                )
                seeds = sample_seeds(pair.seed, samples)
                made = await upscaler.generate(Source(pair.x), seeds)
                np.savez(path, x=pair.x, y=pair.y, s=np.stack(made))
            out.append(path)
        return out

    return asyncio.run(generate())


def folded(x: NDArray[np.uint8], samples: NDArray[np.uint8]) -> Accumulator:
    """The samples [M, H, W, 3] of one photograph in the sums that every σ is made from."""
    enlarged = Enlarged(x, samples.shape[1] // x.shape[0])
    accumulator = Accumulator(samples.shape[1:], None, enlarged)
    for sample in samples:
        accumulator.add(sample)
    return accumulator


def measured(path: Path) -> Steps:
    """The staircase of one photograph and its sorted σ, under each estimator."""
    with np.load(path) as arrays:
        x, truth, samples = arrays["x"], arrays["y"], arrays["s"]
    error = fidelity.error(truth, samples[0])
    by_count = {count: folded(x, samples[:count]) for count, _ in ESTIMATORS.values()}
    sigmas = {}
    for name, (count, settings) in ESTIMATORS.items():
        by_count[count].settings = settings
        sigmas[name] = by_count[count].result()
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
    for name in (BEFORE, "fitted, M = 1", DEFAULT):
        shares: list[str] = []
        for own, low, high in zip(results[name], results[PAPER], results[ORACLE], strict=True):
            way = high[0] - low[0]
            shares.append(f"{(own[0] - low[0]) / way:.0%}" if way > 0 else "-")
        rows.append((name, *shares))
    print_table(("σ", *(f"α = {alpha:g}" for alpha in ALPHAS)), rows)


if __name__ == "__main__":
    main()
