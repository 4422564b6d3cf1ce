"""What thirds by the score cost, and where they hold: `python -m benchmarks.thirds [DIR…]`.

Without folders: of the shipped calibrations' classes that can be divided, a tenth of the scenes
left out in turn, mean loss of the easy, usual and hard ones / trusted area, by one curve and by
their own.

With folders: do thirds hold for larger pictures? Of each photograph (512×512) X is made in one way
and answered once; its quarters of 256×256 are windows. Calibrations of one window each of half of
the photographs, drawn again and again, answer the windows of the others at α: by one curve, by the
curve of the window's own third, and by that of the third that the whole picture is in. Mean loss ±
standard error over the draws / trusted area, by that third; the last rows are what an output that
is larger than the pairs would get.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from app.calibration.active import shipped_calibration
from app.calibration.config import CalibrationConfig
from app.calibration.intake import find_in
from app.calibration.pairs import load_pair
from app.calibration.record import LEAST_DIVIDED
from app.conformal import RiskCurve, Staircase, fidelity
from app.conformal.curve import THIRDS, third_of
from app.images.degrade import Degradation
from app.sampling.pipeline import measure
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler, FaithfulWitness
from app.upscalers.runtime import SHIPPED
from benchmarks.table import print_table

SIDE, CUT, ALPHAS = 256, 0.5, (0.05, 0.1)
WAYS = ("one curve", "the window's third", "the picture's third")


class Picture(NamedTuple):
    """Staircase, mean log σ and quantiles of σ, float [101], of each window; mean log σ of all."""

    stairs: list[Staircase]
    scores: list[float]
    quantiles: list[NDArray[np.float32]]
    whole: float


Cells = dict[tuple[str, str, float], list[tuple[float, float]]]


def measured(
    folders: Sequence[Path], name: str, precision: str, made: Degradation
) -> list[Picture]:
    """Every photograph of the folders, answered once."""
    witness = FaithfulWitness(precision)
    upscaler = EmbeddedUpscaler(name, name, precision=precision, witness=witness)
    pipeline = CalibrationConfig().pipeline(upscaler)
    places = [np.s_[y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    pictures = []
    with asyncio.Runner() as runner:
        for files in [files for folder in folders for files in find_in(folder)]:
            data = Path(str(files.y)).read_bytes()
            pair = load_pair(files.name, data, None, pipeline, degradation=made, seed=0)
            source = Source(pair.x, pair.facts)
            found = runner.run(measure(upscaler, source, pipeline, pair.seed))
            error = fidelity.error(pair.y, found.prediction, pipeline.fidelity)
            logs = np.log(np.maximum(found.sigma, 1e-12))
            pictures.append(
                Picture(
                    [Staircase.from_maps(found.sigma[place], error[place]) for place in places],
                    [float(logs[place].mean()) for place in places],
                    [np.quantile(found.sigma[place], np.linspace(0, 1, 101)) for place in places],
                    found.mean_log_sigma,
                )
            )
    return pictures


def lost(pictures: Sequence[Picture], random: np.random.Generator) -> Cells:
    """Loss and area of every window of half of the pictures, by way, third and α."""
    some, others = np.split(random.permutation(len(pictures)), [len(pictures) // 2])
    drawn = random.integers(4, size=len(some))
    known = np.array([pictures[k].scores[w] for k, w in zip(some, drawn, strict=True)])
    calibrating = [pictures[k].stairs[w] for k, w in zip(some, drawn, strict=True)]
    curves: dict[bytes, RiskCurve] = {}
    found: Cells = defaultdict(list)
    for picture in (pictures[k] for k in others):
        whole, members = third_of(known, picture.whole)
        for stairs, score, sigma in zip(*picture[:3], strict=True):
            own, alike = third_of(known, score)
            parts = (np.ones(len(some), bool), alike, members)
            for way, which in zip(WAYS, parts, strict=True):
                key = which.tobytes()
                if key not in curves:
                    alone = [calibrating[k] for k in np.flatnonzero(which)]
                    curves[key] = RiskCurve.from_staircases(alone, CUT)
                for alpha in ALPHAS:
                    t = curves[key].threshold(alpha)
                    third = THIRDS[own if way == WAYS[1] else whole]
                    cell = stairs.loss_below(t), float((sigma < t).mean())
                    found[way, third, alpha].append(cell)
    return found


def shipped(name: str) -> list[list[str]]:
    """Of a shipped calibration: what its classes lose and trust when they are divided."""
    found = shipped_calibration(name)
    cells: Cells = defaultdict(list)
    for part in map(found.of_class, found.classes):
        if part.n < LEAST_DIVIDED or part.n < part.pairs:
            continue
        scores = np.array([pair.mean_log_sigma for pair in part.manifest.pairs])
        for fold in range(10):
            out = np.arange(part.n) % 10 == fold
            some = np.flatnonzero(~out)
            curves: dict[bytes, RiskCurve] = {}
            for k in np.flatnonzero(out):
                third, members = third_of(scores[some], scores[k])
                parts = (np.ones(len(some), bool), members)
                for way, which in zip(WAYS, parts, strict=False):
                    key = which.tobytes()
                    if key not in curves:
                        alone = [part.staircases[i] for i in some[which]]
                        curves[key] = RiskCurve.from_staircases(alone, CUT)
                    for alpha in ALPHAS:
                        t = curves[key].threshold(alpha)
                        area = float((part.sigma_quantiles[k] < t).mean())
                        cell = part.staircases[k].loss_below(t), area
                        cells[way, THIRDS[third], alpha].append(cell)
    rows = []
    for way in WAYS[:2]:
        row = [name, way]
        for alpha in ALPHAS:
            thirds = [np.mean(cells[way, third, alpha], axis=0) for third in THIRDS]
            row.append(", ".join(f"{loss:.3f}" for loss, _ in thirds))
            row[-1] += f" / {np.mean([area for _, area in thirds]):.3f}"
        rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--upscaler", choices=list(SHIPPED), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--degradation", type=json.loads, default={"jpeg": 75})
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    if not given.folders:
        rows = [row for model in SHIPPED for row in shipped(f"{model}-{given.precision}")]
        print_table(["calibration", "answered by", *(f"α = {a:g}" for a in ALPHAS)], rows)
        return
    made = Degradation(**given.degradation)
    pictures = measured(given.folders, given.upscaler, given.precision, made)
    random, means = np.random.default_rng(0), defaultdict(list)
    for _ in range(given.draws):
        for key, values in lost(pictures, random).items():
            means[key].append(np.mean(values, axis=0))
    rows = []
    for way in WAYS:
        for third in THIRDS:
            row = [way, third]
            for alpha in ALPHAS:
                losses, areas = np.array(means[way, third, alpha]).T
                row.append(f"{losses.mean():.3f} ± {stats.sem(losses):.3f} / {areas.mean():.2f}")
            rows.append(row)
    print_table(["answered by", "third", *(f"α = {alpha:g}" for alpha in ALPHAS)], rows)


if __name__ == "__main__":
    main()
