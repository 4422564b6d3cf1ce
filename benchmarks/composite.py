"""What `believed.png` loses: `python -m benchmarks.composite DIR --upscaler NAME --kind KIND`.

DIR holds photographs that had no part in calibration and fit (only Y). Each is uploaded as a file
of a kind (`benchmarks/risk.py`) and answered by the shipped calibration. For the model's picture,
the composite at each α and the rest alone: the mean over photographs of the largest error in the
mask, of the largest in all of the picture, both counted up to c, and of the mean error.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.calibration.active import shipped_calibration
from app.calibration.intake import find_in
from app.calibration.record import Calibration
from app.conformal import fidelity
from app.images.composite import composed
from app.images.decode import PAIR_LIMITS, decode
from app.images.degrade import crop_to_multiple
from app.images.facts import look_at
from app.sampling.measure import measure
from app.serving.believed import rest_of
from app.serving.subject import Subject
from app.upscalers.base import RGB, Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.shipped import SHIPPED
from app.upscalers.witness import FaithfulWitness
from benchmarks.risk import SCALE, UPLOADS
from benchmarks.table import print_table

ALPHAS = (0.05, 0.1, 0.15)


async def errors(
    upscaler: EmbeddedUpscaler, calibration: Calibration, truth: RGB, kind: str
) -> dict[str, list[float]]:
    """Of each picture: largest error in the mask, largest of all, mean error, share of the mask."""
    upload = decode(UPLOADS[kind](Image.fromarray(truth)), PAIR_LIMITS)
    facts = look_at(upload.rgb, upload.compression)
    pipeline = calibration.pipeline
    found = await measure(
        upscaler, Source(upload.rgb, facts), pipeline, zlib.crc32(upload.rgb.tobytes())
    )
    curve = Subject.of(calibration, None, facts, size=truth.shape[:2]).part.curve
    _, data = rest_of(upload.rgb, facts, found.witness)
    made, rest = found.prediction, Image.open(io.BytesIO(data))
    rows = {"rest alone": row(truth, composed(made, found.sigma < -1, rest, 0), pipeline, None)}
    for alpha in ALPHAS:
        mask = curve.mask(found.sigma, alpha)
        composite = composed(made, mask, rest, 2 * SCALE)
        rows[f"model, mask of {alpha:g}"] = row(truth, found.prediction, pipeline, mask)
        rows[f"composite of {alpha:g}"] = row(truth, composite, pipeline, mask)
    return rows


def row(truth: RGB, picture: RGB, pipeline: Any, mask: Any) -> list[float]:
    error = np.minimum(fidelity.error(truth, picture, pipeline.fidelity), pipeline.fidelity.bound)
    inside = float(error[mask].max()) if mask is not None and mask.any() else 0.0
    share = 0.0 if mask is None else float(mask.mean())
    return [inside, float(error.max()), float(error.mean()), share]


def cells(found: Sequence[list[float]]) -> tuple[str, ...]:
    inside, largest, mean, share = np.mean(found, axis=0)
    return f"{inside:.3f}", f"{largest:.3f}", f"{mean:.4f}", f"{share:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--upscaler", choices=list(SHIPPED), default="realesr-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--kind", choices=list(UPLOADS), nargs="+", default=["PNG", "JPEG 75"])
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    given = parser.parse_args()
    witness = FaithfulWitness(given.precision)
    upscaler = EmbeddedUpscaler(
        given.upscaler, given.upscaler, precision=given.precision, witness=witness
    )
    calibration = shipped_calibration(f"{given.upscaler}-{given.precision}")
    paths = [Path(str(files.y)) for files in find_in(given.folder)][:: given.every]
    with asyncio.Runner() as runner:
        for kind in given.kind:
            found = []
            for path in paths:
                truth = crop_to_multiple(decode(path.read_bytes(), PAIR_LIMITS).rgb, SCALE)
                found.append(runner.run(errors(upscaler, calibration, truth, kind)))
            print(f"\n{given.upscaler}, {kind}, {len(found)} photographs\n")
            print_table(
                ("picture", "worst in mask", "worst of all", "mean", "in mask"),
                [(name, *cells([one[name] for one in found])) for name in found[0]],
            )


if __name__ == "__main__":
    main()
