"""What models add, and how much of it is real: `python -m benchmarks.added DIR --upscaler NAME`.

DIR holds high-resolution photographs that had no part in the fit of the score (only Y). Of each an
input is made as a PNG, a JPEG of quality 75, and soft (enlarged by 1.5). For each kind:

- what aligning changes: D, the consistency with the input in dB, before and after;
- the invented share of what was added, and the share of it that is kept at ρ = .2, .3, .5 by the
  score, by the invented share itself (oracle), and under the promise of the shipped calibration;
- the error of the picture and of the safe copy (luma, root of the mean square) over that of the
  plain enlargement, with the standard error of the paired difference to the nearer of the two.

`--stride` and `--most` choose photographs; `--plain` leaves out aligning.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.table import print_table
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal.added import STEPS, Marked, excess
from trustscale_server.images.compression import Compression
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.kinds.degrade import crop_to_multiple, make_input
from trustscale_server.kinds.features import look_at
from trustscale_server.pixels.align import aligned, consistency_db
from trustscale_server.pixels.filters import gaussian_blur
from trustscale_server.pixels.lab import lab_distance
from trustscale_server.platform.errors import BadCalibration
from trustscale_server.sampling.align import softness_for
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.sigma.added_score import (
    UNCHANGED,
    invented,
    luma,
    safe_copy,
    score_added,
)
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

KINDS: Final = {
    "PNG": Degradation(),
    "JPEG 75": Degradation(jpeg=75),
    "soft": Degradation(enlarged=1.5),
}
RHOS: Final = (0.2, 0.3, 0.5)
SCALE: Final = 4


class Row(NamedTuple):
    """What was measured of one upload.

    numbers: D and consistency before and after, and squares of errors of E, Ŷ and the safe copy.
    by_score, by_oracle: A and I, float32 [2, 65] each. input_class: of X.
    """

    numbers: tuple[float, ...]
    by_score: NDArray[np.float32]
    by_oracle: NDArray[np.float32]
    input_class: str


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--upscaler", default="span-x4")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    upscaler = EmbeddedUpscaler(given.upscaler, given.upscaler, precision=given.precision)
    files = sorted(path for path in given.folder.iterdir() if path.suffix in {".webp", ".png"})
    rows = defaultdict[str, list[Row]](list)
    with asyncio.Runner() as runner:
        for file in files[:: given.stride][: given.most]:
            truth = np.asarray(Image.open(file).convert("RGB"))
            truth = np.ascontiguousarray(crop_to_multiple(truth, SCALE))
            for kind, degradation in KINDS.items():
                x, compression = make_input(truth, SCALE, degradation, 0)
                row = runner.run(measured(upscaler, x, compression, truth, plain=given.plain))
                rows[kind].append(row)
    calibration = shipped(upscaler)
    lines = [line(kind, found, calibration) for kind, found in rows.items()]
    print_table(list(lines[0]), [list(row.values()) for row in lines])


def shipped(upscaler: EmbeddedUpscaler) -> Calibration | None:
    """The shipped calibration of an embedded model, if there is one that knows what was added."""
    precision = upscaler.settings.get("precision", "f32")
    try:
        found = shipped_calibration(f"{upscaler.name}-{precision}")
    except (FileNotFoundError, BadCalibration):
        return None
    return found if found.arrays.marked is not None else None


async def measured(
    upscaler: EmbeddedUpscaler,
    x: NDArray[np.uint8],
    compression: Compression,
    truth: NDArray[np.uint8],
    *,
    plain: bool,
) -> Row:
    """Measure one upload."""
    features = look_at(x, compression)
    (raw,) = await upscaler.generate(Source(x, features), [0])
    made = raw if plain else aligned(raw, x, softness_for(features))
    added, wrong = score_added(x, made, features), invented(x, made, truth)
    oracle = np.where(added.codes == UNCHANGED, UNCHANGED, np.minimum(wrong * STEPS, STEPS - 1))
    curves = [
        Marked.from_cells(codes.astype(np.uint8), added.energy, wrong)
        for codes in (added.codes, oracle)
    ]
    y = luma(truth)
    squares = [
        float(((luma(picture) - y) ** 2).mean())
        for picture in (Enlarged(x, SCALE)[:], made, safe_copy(x, made, added.weights))
    ]
    errors = [
        float(gaussian_blur(lab_distance(truth, picture), 4.0).mean()) for picture in (raw, made)
    ]
    consistent = [consistency_db(picture, x) for picture in (raw, made)]
    by_score, by_oracle = (np.stack([curve.marked, curve.invented]) for curve in curves)
    return Row((*errors, *consistent, *squares), by_score, by_oracle, features.kind.name)


def line(kind: str, rows: Sequence[Row], calibration: Calibration | None) -> dict[str, str]:
    """One line of the table."""
    numbers = np.array([row.numbers for row in rows])
    before, after, loose, tight, plain, picture, safe = numbers.mean(axis=0)
    scores, oracles = (
        np.stack([getattr(row, name) for row in rows]) for name in ("by_score", "by_oracle")
    )
    shares = scores[:, 1, -1].mean() / max(scores[:, 0, -1].mean(), 1e-9)
    nearer = numbers[:, 4] if plain < picture else numbers[:, 5]
    gain = (nearer - numbers[:, 6]) / min(plain, picture)
    promised = "–"
    if calibration is not None:
        parts = [
            calibration.applicable(None, row.input_class).held(rho) or 0
            for rho in RHOS
            for row in rows
        ]
        held = np.array(parts).reshape(len(RHOS), len(rows))
        places = np.arange(len(rows))
        promised = "/".join(f"{scores[places, 0, codes].mean():.2f}" for codes in held)
    return {
        "upload": kind,
        "n": str(len(rows)),
        "D": f"{before:.4f} → {after:.4f}",
        "dB": f"{loose:.1f} → {tight:.1f}",
        "invented": f"{shares:.2f}",
        f"kept at {'/'.join(map(str, RHOS))}": "/".join(f"{kept(scores, r):.2f}" for r in RHOS),
        "oracle": "/".join(f"{kept(oracles, rho):.2f}" for rho in RHOS),
        "promised": promised,
        "picture/E": f"{np.sqrt(picture / plain):.3f}",
        "safe/E": f"{np.sqrt(safe / plain):.3f}",
        "nearer than both by": f"{gain.mean():.3f} ± {gain.std() / np.sqrt(len(rows)):.3f}",
    }


def kept(curves: NDArray[np.float32], rho: float) -> float:
    """The largest mean share that is marked at an invented share of ρ."""
    fits = excess(curves[:, 0], curves[:, 1], rho).mean(axis=0) <= 0
    return float(curves[:, 0, np.nonzero(fits)[0][-1]].mean())


if __name__ == "__main__":
    main()
