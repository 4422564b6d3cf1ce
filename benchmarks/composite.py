"""What `believed.png` loses: `python -m benchmarks.composite DIR --upscaler NAME --kind KIND…`.

DIR holds photographs (only Y) without a part in calibration and fit. Each is uploaded as a file of
a kind (`benchmarks/risk.py`) and answered by the shipped calibration. For the rest alone, the
composite at each α and the model's picture: means over the photographs of the share of the mask, of
the largest error in it (of the model's picture, and of the composite), of the largest in the whole
picture, of the largest of this and of all smaller masks (the monotone hull), all counted up to c,
and of the mean error.
"""

from __future__ import annotations

import argparse
import asyncio
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photos import photo_folder
from benchmarks.risk import SCALE, UPLOADS
from benchmarks.table import print_table
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal import fidelity
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.encoding.overlay import composed
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.kinds.degrade import crop_to_multiple
from trustscale_server.kinds.features import look_at
from trustscale_server.sampling.measure import measure
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

ALPHAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, np.inf)
HEAD = ("mask of α =", "share", "model in it", "worst in it", "worst of all", "hull", "mean")


async def errors(
    upscaler: EmbeddedUpscaler, calibration: Calibration, truth: RGB, kind: str
) -> NDArray[np.float64]:
    """What one photograph adds to the table, [α, column]."""
    upload = decode(UPLOADS[kind](Image.fromarray(truth)), PAIR_LIMITS)
    features = look_at(upload.rgb, upload.compression)
    settings = calibration.pipeline.fidelity
    seed = zlib.crc32(upload.rgb.tobytes())
    found = await measure(upscaler, Source(upload.rgb, features), calibration.pipeline, seed)
    curve = ApplicableCalibration.from_calibration(
        calibration, None, features, shape=truth.shape[:2]
    ).subset.curve
    rest, own = Image.fromarray(upload.rgb), lost(truth, found.prediction, settings)
    rows = []
    for alpha in ALPHAS:
        mask = curve.mask(found.sigma, alpha) if alpha < np.inf else np.ones_like(own, np.bool_)
        error = lost(truth, composed(found.prediction, mask, rest, 2 * SCALE), settings)
        worst = [float(error_of.max(initial=0, where=mask)) for error_of in (own, error)]
        hull = max([float(error.max()), *(row[4] for row in rows[-1:])])
        rows.append([mask.mean(), *worst, error.max(), hull, error.mean()])
    return np.array(rows)


def lost(truth: RGB, picture: RGB, settings: FidelitySettings) -> NDArray[np.float32]:
    """D, counted up to c, float32 [H, W]."""
    return np.minimum(fidelity.error(truth, picture, settings), fidelity.bound(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--upscaler", choices=list(SHIPPED_MODELS), default="realesr-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--kind", choices=list(UPLOADS), nargs="+", default=["PNG", "JPEG 75"])
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    given = parser.parse_args()
    upscaler = EmbeddedUpscaler(given.upscaler, given.upscaler, precision=given.precision)
    calibration = shipped_calibration(f"{given.upscaler}-{given.precision}")
    paths = [Path(files.paths["y"]) for files in find_in(given.folder)][:: given.every]
    with asyncio.Runner() as runner:
        for kind in given.kind:
            found = []
            for path in paths:
                truth = crop_to_multiple(decode(path.read_bytes(), PAIR_LIMITS).rgb, SCALE)
                found.append(runner.run(errors(upscaler, calibration, truth, kind)))
            print(f"\n{given.upscaler}, {kind}, {len(found)} photographs\n", flush=True)
            rows = np.mean(found, axis=0)
            cells = [
                (f"{alpha:g}", f"{row[0]:.2f}", *(f"{value:.3f}" for value in row[1:]))
                for alpha, row in zip(ALPHAS, rows, strict=True)
            ]
            print_table(HEAD, cells)


if __name__ == "__main__":
    main()
