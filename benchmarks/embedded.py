"""Speed, memory and quality of an embedded upscaler on a folder of photographs.

    python -m benchmarks.embedded DIR [--upscaler realesr-x4] [--precision bf16] [--limit 20]

Each photograph is cropped to a multiple of the scale, reduced by Pillow's bicubic filter, upscaled
once without a symmetry, and compared with the original and with Pillow's bicubic upscaling. Their
pixels poured into 512 x 512 then show speed and memory with several tiles. PSNR is over RGB,
0..255, the mean of the values per photograph.
"""

from __future__ import annotations

import argparse
import resource
import sys
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photos import photo_folder
from benchmarks.timing import timed
from trustscale_server.upscalers.embedded.runtime import PrecisionSetting
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler, symmetric_sample

Pixels = NDArray[np.uint8]


def psnr(image: Pixels, truth: Pixels) -> float:
    error = np.mean((image.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / error))


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def row(label: str, megapixels: float, wall: float, cpu: float, threads: int) -> str:
    return (
        f"| {label} | {wall / megapixels:.3f} | {cpu / megapixels:.3f} "
        f"| {100 * cpu / wall / threads:.0f} % | {threads} | {peak_mib():.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--limit", type=int, default=20, help="use the first N photographs")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--upscaler", choices=list(SHIPPED_MODELS), default="span-x4")
    parser.add_argument("--precision", choices=get_args(PrecisionSetting), default="f32")
    options = parser.parse_args()
    files = sorted(
        file
        for file in options.folder.iterdir()
        if file.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}
    )[: options.limit]
    if not files:
        parser.error(f"no images in {options.folder}")

    upscaler = EmbeddedUpscaler(
        name=options.upscaler,
        model=options.upscaler,
        threads=options.threads,
        precision=options.precision,
    )
    model, k = upscaler.model, upscaler.scale
    model(np.zeros((64, 64, 3), np.uint8))  # the first run allocates

    wall = cpu = megapixels = 0.0
    scores, inputs = [], []
    for file in files:
        with Image.open(file) as opened:
            photo = opened.convert("RGB")
        photo = photo.crop((0, 0, photo.width // k * k, photo.height // k * k))
        truth = np.asarray(photo)
        small = photo.resize((photo.width // k, photo.height // k), Image.Resampling.BICUBIC)
        pixels = np.asarray(small)
        output, seconds, processor = timed(
            lambda pixels=pixels: symmetric_sample(model, pixels, 0, upscaler.plan)
        )
        bicubic = np.asarray(small.resize(photo.size, Image.Resampling.BICUBIC))
        scores.append((psnr(output, truth), psnr(bicubic, truth)))
        inputs.append(pixels)
        wall, cpu, megapixels = wall + seconds, cpu + processor, megapixels + truth.size / 3e6

    print(f"{upscaler.name} x{k}, {model.provider}, {model.precision}, {len(files)} photographs\n")
    print("| input | s per output MP | CPU-s per output MP | CPU use | threads | peak RSS, MiB |")
    print("|---|---|---|---|---|---|")
    print(row("photographs, reduced", megapixels, wall, cpu, model.threads))
    mosaic = np.resize(np.concatenate([pixels.reshape(-1, 3) for pixels in inputs]), (512, 512, 3))
    output, wall, cpu = timed(lambda: symmetric_sample(model, mosaic, 0, upscaler.plan))
    print(row("512 x 512, tiled", output.size / 3e6, wall, cpu, model.threads))

    ours, bicubic = np.mean(scores, axis=0)
    gains = np.subtract(*np.transpose(scores))
    print(
        f"\nPSNR {ours:.2f} dB, bicubic {bicubic:.2f} dB: gain {ours - bicubic:+.2f} dB "
        f"({gains.min():+.2f} to {gains.max():+.2f})"
    )


if __name__ == "__main__":
    main()
