"""Restoration at scale 1: `python -m benchmarks.restoration CALIBRATION TEST [--side 256]`.

For each damage, the tiny network of `examples/restoration` is calibrated on the centres of the
first folder's photographs (only Y) and judged on those of the second: its gain, and for each α the
mean of the largest error inside the mask with its 95 % interval, and the mask size.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.table import print_table
from trustscale_server.calibration.pairs import Pair, load_pair
from trustscale_server.conformal import LossCurve, RiskCurve, fidelity
from trustscale_server.images.degrade import Degradation
from trustscale_server.sampling.pipeline import Measurement, Pipeline, measure
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.embedded import EmbeddedUpscaler

MODEL = Path(__file__).parents[1] / "examples" / "restoration" / "dncnn-tiny.onnx"
DAMAGES = {"JPEG 30": Degradation(jpeg=30), "noise 15": Degradation(noise=15)}
ALPHAS = (0.025, 0.05, 0.075, 0.1, 0.15)
METRICS = {"neighborhood": fidelity.FidelitySettings()}

Folder = list[bytes]


async def restored(
    upscaler: EmbeddedUpscaler, folder: Folder, damage: Degradation
) -> AsyncIterator[tuple[Pair, Measurement]]:
    pipeline = Pipeline(fingerprint=upscaler.fingerprint, scale=upscaler.scale, samples=8)
    for png in folder:
        pair = load_pair("photo", png, None, pipeline, degradation=damage, seed=0)
        yield pair, await measure(upscaler, Source(pair.x), pipeline, pair.seed)


async def main(calibration: Folder, test: Folder) -> None:
    upscaler = EmbeddedUpscaler("restore", MODEL)
    gains, rows = [], []
    for name, damage in DAMAGES.items():
        stairs: dict[str, list[LossCurve]] = {metric: [] for metric in METRICS}
        async for pair, result in restored(upscaler, calibration, damage):
            for metric, settings in METRICS.items():
                error = fidelity.error(pair.y, result.prediction, settings)
                stairs[metric].append(LossCurve.from_maps(result.sigma, error))
        curves = {
            metric: RiskCurve.from_loss_curves(stairs[metric], fidelity.bound(settings))
            for metric, settings in METRICS.items()
        }
        quality = []
        served: dict[tuple[str, float], list[tuple[float, float]]] = {}
        async for pair, result in restored(upscaler, test, damage):
            quality.append(
                [
                    *(psnr(pair.y, image) for image in (pair.x, result.prediction)),
                    *(
                        fidelity.error(pair.y, image).mean()
                        for image in (pair.x, result.prediction)
                    ),
                ]
            )
            for metric, settings in METRICS.items():
                error = fidelity.error(pair.y, result.prediction, settings)
                for alpha in ALPHAS:
                    mask = curves[metric].mask(result.sigma, alpha)
                    answer = float(error[mask].max(initial=0)), float(mask.mean())
                    served.setdefault((metric, alpha), []).append(answer)
        before, after, d_before, d_after = np.mean(quality, axis=0)
        gains.append((name, f"{before:.2f}", f"{after:.2f}", f"{d_before:.4f}", f"{d_after:.4f}"))
        for (metric, alpha), answers in served.items():
            loss, area = np.array(answers).T
            half = 1.96 * loss.std(ddof=1) / np.sqrt(len(loss))
            realised = f"{loss.mean():.4f} ± {half:.4f}"
            is_held = "yes" if loss.mean() - half <= alpha else "no"
            rows.append((name, metric, alpha, realised, is_held, f"{area.mean():.2f}"))
    print(f"\ncalibrated on {len(calibration)} photographs, judged on {len(test)}\n")
    print_table(("damage", "PSNR in", "PSNR out", "mean D in", "mean D out"), gains)
    print()
    print_table(("damage", "D", "α", "realised loss", "≤ α?", "mask size"), rows)


def photographs(folder: Path, side: int) -> Folder:
    """The centres of the images of a folder, as PNG files."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".webp", ".png", ".jpg"}:
            continue
        with Image.open(path) as image:
            left, top = (image.width - side) // 2, (image.height - side) // 2
            file = io.BytesIO()
            image.convert("RGB").crop((left, top, left + side, top + side)).save(file, "PNG")
            found.append(file.getvalue())
    return found


def psnr(truth: np.ndarray, image: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((truth.astype(float) - image) ** 2)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--side", type=int, default=256)
    given = parser.parse_args()
    folders = (photographs(folder, given.side) for folder in (given.calibration, given.test))
    asyncio.run(main(*folders))
