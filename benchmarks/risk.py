"""Does the promise of the shipped calibration hold? `python -m benchmarks.risk DIR`.

DIR holds high-resolution photographs that follow the law of the calibration (only Y; X is made by
bicubic reduction, as in the calibration). For each α: the mean of the largest error inside the
mask with its standard error, the mask size, and the PSNR inside the mask where it is not empty.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np

from app.calibration.active import shipped_calibrations
from app.calibration.folder import find_pairs
from app.calibration.pairs import load_pair
from app.conformal import fidelity
from app.conformal.lab import normalised_lab
from app.sampling.measure import measure
from app.sampling.pipeline import guard
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from benchmarks.table import print_table

ALPHAS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5)
TEST_SEED = 1  # another seed than the calibration's


async def main(folder: Path) -> None:
    (calibration,) = shipped_calibrations()
    upscaler = EmbeddedUpscaler("span-x4")
    guard(calibration.pipeline, upscaler)
    alphas = (calibration.curve.min_alpha, *ALPHAS)
    rows: dict[float, list[tuple[float, ...]]] = {alpha: [] for alpha in alphas}
    for files in find_pairs(folder):
        pair = load_pair(
            files.name,
            files.y.read_bytes(),
            None,
            calibration.pipeline,
            degradation=calibration.manifest.degradation,
            seed=TEST_SEED,
        )
        measured = await measure(upscaler, Source(pair.x), calibration.pipeline, pair.seed)
        error = fidelity.error(pair.y, measured.prediction, calibration.pipeline.fidelity)
        rgb = ((pair.y.astype(float) - measured.prediction) / 255) ** 2
        lab = (normalised_lab(pair.y) - normalised_lab(measured.prediction)) ** 2
        for alpha in alphas:
            mask = calibration.curve.mask(measured.sigma, alpha)
            loss = float(error[mask].max(initial=0))
            rows[alpha].append((loss, mask.mean(), psnr(rgb[mask]), psnr(lab[:, mask])))
    print(f"\n{len(rows[alphas[0]])} photographs, {calibration.id}, n = {calibration.n}\n")
    table = []
    for alpha in alphas:
        loss, area, rgb_db, lab_db = np.array(rows[alpha]).T
        table.append(
            (
                f"{alpha:.4g}",
                f"{loss.mean():.4f} ± {loss.std(ddof=1) / np.sqrt(len(loss)):.4f}",
                verdict(loss, alpha),
                f"{area.mean():.3f}",
                f"{np.nanmean(rgb_db):.1f}" if np.isfinite(rgb_db).any() else "-",
                f"{np.nanmean(lab_db):.1f}" if np.isfinite(lab_db).any() else "-",
            )
        )
    print_table(
        ("α", "mean worst error in the mask", "≤ α?", "mask size", "PSNR sRGB", "PSNR Lab"), table
    )


def verdict(loss: np.ndarray, alpha: float) -> str:
    """Whether the mean is at most α, or above it by less than its standard error."""
    error = loss.std(ddof=1) / np.sqrt(len(loss))
    return (
        "yes" if loss.mean() <= alpha else "within error" if loss.mean() - error <= alpha else "NO"
    )


def psnr(squares: np.ndarray) -> float:
    """Peak 1; NaN for an empty mask or no error at all."""
    mean = squares.mean() if squares.size else 0.0
    return -10 * np.log10(mean) if mean > 0 else float("nan")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.risk DIR")
    asyncio.run(main(Path(sys.argv[1])))
