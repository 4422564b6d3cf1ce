"""Does the promise of the shipped calibration hold? `python -m benchmarks.risk DIR [CALIBRATION]`.

DIR holds high-resolution photographs that had no part in the calibration (only Y). X is made by
clean bicubic reduction and uploaded as PNG and as JPEG of several qualities; each is answered
as the service answers it, from the curve of its class. For each kind of upload and each α: the mean
of the largest error in the mask with its standard error, not cut, the trusted area, and how many
uploads were warned of; then the same by class.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.calibration import file
from app.calibration.active import shipped_calibrations
from app.calibration.intake import find_in
from app.calibration.layout import PairFiles
from app.calibration.pairs import load_pair
from app.calibration.record import Calibration
from app.conformal import Staircase, fidelity
from app.images.degrade import Degradation
from app.sampling.measure import measure
from app.sampling.pipeline import guard
from app.serving.subject import Subject
from app.upscalers.base import Source, Upscaler
from app.upscalers.embedded import EmbeddedUpscaler
from benchmarks.table import print_table

ALPHAS = (0.025, 0.05, 0.075, 0.1, 0.125, 0.15)
UPLOADS = {
    "png": Degradation(),
    **{f"jpeg{q}": Degradation(jpeg=q) for q in (95, 85, 75, 60)},
}
TEST_SEED = 1  # another seed than the calibration's


class Seen(NamedTuple):
    """One answered upload: what it was, and loss and area at each α."""

    kind: str
    input_class: str
    warned: bool
    losses: list[float]
    areas: list[float]


async def answered(
    upscaler: Upscaler, calibration: Calibration, files: PairFiles, kind: str
) -> Seen:
    """Upload one photograph as a file of some kind."""
    pair = load_pair(
        files.name,
        files.y.read_bytes(),
        None,
        calibration.pipeline,
        degradation=UPLOADS[kind],
        seed=TEST_SEED,
        variant=kind,
    )
    measured = await measure(upscaler, Source(pair.x), calibration.pipeline, pair.seed)
    error = fidelity.error(pair.y, measured.prediction, uncut(calibration))
    stairs = Staircase.from_maps(measured.sigma, error)
    subject = Subject.of(calibration, None, pair.facts, size=pair.y.shape[:2])
    typicality = subject.part.typicality(measured.mean_log_sigma, pair.facts)
    thresholds = [subject.part.curve.threshold(alpha) for alpha in ALPHAS]
    return Seen(
        kind,
        subject.input_class or "all",
        not subject.is_covered or typicality <= subject.part.unusual,
        [stairs.loss_below(t) for t in thresholds],
        [float((measured.sigma < t).mean()) for t in thresholds],
    )


def uncut(calibration: Calibration) -> fidelity.FidelitySettings:
    """The error of the calibration, however far it goes."""
    settings = calibration.pipeline.fidelity
    return fidelity.FidelitySettings(settings.metric, settings.blur)


def row(name: str, seen: list[Seen], cut: float) -> tuple[str, ...]:
    """Loss ± its standard error (counted up to c / not cut) and area, at each α."""
    cells = []
    for place in range(len(ALPHAS)):
        loss = np.array([one.losses[place] for one in seen])
        counted = np.minimum(loss, cut)
        error = counted.std(ddof=1) / np.sqrt(len(loss)) if len(loss) > 1 else float("nan")
        area = np.mean([one.areas[place] for one in seen])
        broken = "!" if counted.mean() - 2 * error > ALPHAS[place] else ""
        cells.append(f"{counted.mean():.3f}±{error:.3f}{broken} ({loss.mean():.3f}) {area:.2f}")
    warned = sum(one.warned for one in seen)
    return (name, f"{len(seen)}", f"{warned}", *cells)


async def main(folder: Path, calibration: Calibration, upscaler: Upscaler) -> None:
    """Print both tables."""
    guard(calibration.pipeline, upscaler)
    seen = [
        await answered(upscaler, calibration, files, kind)
        for kind in UPLOADS
        for files in find_in(folder)
    ]
    cut = calibration.bound
    print(f"\n{calibration.id}, n = {calibration.n} scenes, errors counted up to {cut:g}")
    print("mean worst error in the mask ± standard error (not cut), trusted area; ! broken\n")
    by_class = defaultdict(list)
    for one in seen:
        by_class[one.input_class].append(one)
    for rows in (
        [row(kind, [one for one in seen if one.kind == kind], cut) for kind in UPLOADS],
        [row(name, by_class[name], cut) for name in sorted(by_class)],
    ):
        print_table(("upload", "images", "warned", *(f"α = {alpha:g}" for alpha in ALPHAS)), rows)
        print()


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit("usage: python -m benchmarks.risk DIR [CALIBRATION]")
    chosen = (
        file.load(Path(sys.argv[2]).read_bytes())
        if len(sys.argv) == 3
        else shipped_calibrations()[0]
    )
    asyncio.run(main(Path(sys.argv[1]), chosen, EmbeddedUpscaler("span-x4")))
