"""What the monitor says about real photographs. `python -m benchmarks.monitor DIR [COUNT]`.

DIR holds high-resolution photographs like those of the shipped calibration; X of the first COUNT
(40) is made as in the calibration, and in other ways. Each kind is one stream of requests to a new
service, and each result is labelled with its truth.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from app.calibration.active import shipped_calibration
from app.calibration.intake import find_in
from app.calibration.measure import reduce_pair
from app.calibration.pairs import load_pair
from app.conformal import drift, feedback
from app.conformal.drift import CEILING, DELTA, Drift
from app.conformal.feedback import Feedback
from app.images.degrade import Degradation
from app.sampling.pipeline import measure
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.watch.monitor import reference_of
from benchmarks.table import print_table

ALPHA = 0.1
TEST_SEED = 1  # another seed than the calibration's

KINDS = {
    "as calibrated: bicubic": Degradation(),
    "JPEG of quality 30": Degradation(jpeg=30),
    "noise of 8 grey levels": Degradation(noise=8.0),
    "blur of 1 px": Degradation(blur=1.0),
}


async def main(folder: Path, most: int) -> None:
    calibration = shipped_calibration()
    upscaler = EmbeddedUpscaler("span-x4")
    reference = reference_of(calibration)
    threshold = calibration.curve.threshold(ALPHA)
    slack = feedback.tolerance(calibration.losses(threshold))
    rows = []
    for kind, degradation in KINDS.items():
        uniform = random.Random(TEST_SEED)
        state, labels, losses, seen = Drift(), Feedback(), list[float](), list[float]()
        first: dict[str, int] = {}
        for count, files in enumerate(islice(find_in(folder), most), start=1):
            pair = load_pair(
                files.name,
                files.y.read_bytes(),
                None,
                calibration.pipeline,
                degradation=degradation,
                seed=TEST_SEED,
            )
            source = Source(pair.x, pair.facts)
            measured = await measure(upscaler, source, calibration.pipeline, pair.seed)
            z = measured.mean_log_sigma
            loss = reduce_pair(pair, measured, calibration.pipeline).staircase.loss_below(threshold)
            state = drift.observe(state, reference, z, uniform.random())
            labels = feedback.observe(labels, loss, ALPHA, calibration.bound, slack=slack)
            seen.append(z)
            losses.append(loss)
            for name, raised in {
                "S": state.log_s >= -math.log(DELTA),
                "V": state.log_v >= math.log(CEILING),
                "labels": labels.alarms(),
            }.items():
                if raised:
                    first.setdefault(name, count)
        shift = (np.mean(seen) - reference.mean()) / reference.std(ddof=1)
        rows.append(
            (
                kind,
                f"{shift:+.2f}",
                first.get("S", "none"),
                first.get("V", "none"),
                f"{np.mean(losses):.3f}",
                first.get("labels", "none"),
            )
        )
    print_table(
        ["inputs", "shift, sd", "alarm of S", "of V", "mean loss, α = 0.1", "alarm of labels"], rows
    )


if __name__ == "__main__":
    folder, most, *_ = [*sys.argv[1:], "40"]
    asyncio.run(main(Path(folder), int(most)))
