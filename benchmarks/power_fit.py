"""Fit σ to the embedded upscaler: `python -m benchmarks.power_fit PHOTOGRAPHS --samples M`.

Prints the artefact that stands in `app/conformal/fits/`. The photographs must have no part in any
calibration that it is used with. `--choose` cross-validates the settings of the fit instead,
photographs of one scene (`pool_id` or `group` of the manifest.csv) always on one side.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import gettempdir

import numpy as np
from numpy.typing import NDArray

from app.calibration.fit import FIT_DIGITS
from app.conformal import RiskCurve, Staircase, fidelity, fitting
from app.conformal.fitted import Fit
from app.images.decode import PAIR_LIMITS, decode
from app.upscalers.base import image_digest
from app.upscalers.embedded import EmbeddedUpscaler
from benchmarks.power import ALPHAS, folded, photographs
from benchmarks.table import print_table

CHOICES = [(ridge, terms) for ridge in (0.01, 0.03, 0.1) for terms in (100, 48, 24, 12)]


def seen(path: Path, samples: int) -> fitting.Seen:
    """The cells of a photograph that the fit sees."""
    with np.load(path) as arrays:
        truth, first = arrays["y"], arrays["s"][0]
        maps = folded(arrays["x"], arrays["s"][:samples]).maps()
    return fitting.seen(maps, fidelity.error(truth, first))


def area(photos: Sequence[fitting.Seen], fit: Fit) -> NDArray[np.float64]:
    """Mean area of the mask for each of `ALPHAS`, calibrated and measured on the same cells.

    As if there were 243 of them: for comparing weights, not for a promise.
    """
    places = [photos[0].names.index(term) for term, _ in fit.weights]
    weights = np.array([weight for _, weight in fit.weights], np.float32)
    sigmas = [np.exp(photo.terms[:, places] @ weights) for photo in photos]
    stairs = [Staircase.from_maps(s, p.error) for s, p in zip(sigmas, photos, strict=True)]
    curve = RiskCurve.from_staircases(stairs * (243 // len(stairs) + 1), fidelity.bound())
    limits = [curve.threshold(alpha) for alpha in ALPHAS]
    pairs = list(zip(sigmas, photos, strict=True))
    return np.array([np.mean([p.share @ (s < limit) for s, p in pairs]) for limit in limits])


def choose(photos: Sequence[fitting.Seen], scenes: Sequence[str]) -> None:
    """Two-fold cross-validation over scenes."""
    side = np.array([sorted(set(scenes)).index(scene) % 2 for scene in scenes])
    rows = []
    for ridge, terms in CHOICES:
        found = []
        for held in (0, 1):
            of = [
                [p for p, s in zip(photos, side, strict=True) if (s == held) == t] for t in (0, 1)
            ]
            found.append(area(of[1], fitting.fit(of[0], terms=terms, ridge=ridge)))
        mean = np.mean(found, axis=0)
        rows.append((ridge, terms, *(f"{a:.3f}" for a in mean), f"{mean.mean():.3f}"))
    print_table(("ridge", "terms", *(f"α = {alpha:g}" for alpha in ALPHAS), "mean"), rows)


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of the manifest, by the name of their file without the ending."""
    with (folder / "manifest.csv").open() as table:
        return {Path(row["file"]).stem: row for row in csv.DictReader(table)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--name", default="span-x4")
    parser.add_argument("--note", default="")
    parser.add_argument("--choose", action="store_true", help="cross-validate the settings")
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "trustscale-power")
    given = parser.parse_args()
    paths = [p for f in given.photographs for p in photographs(f, given.cache, given.samples)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        photos = list(pool.map(partial(seen, samples=given.samples), paths, chunksize=4))
    known = {stem: row for folder in given.photographs for stem, row in rows_of(folder).items()}
    scenes = [known[path.stem].get("pool_id") or known[path.stem]["group"] for path in paths]
    if given.choose:
        choose(photos, scenes)
        return
    files = {path.stem: path for folder in given.photographs for path in folder.iterdir()}
    fit = dataclasses.replace(
        fitting.fit(photos, units=fitting.units_for(len(set(scenes)))),
        name=given.name,
        upscaler=EmbeddedUpscaler().fingerprint,
        samples=given.samples,
        metric=fidelity.FidelitySettings().title,
        scenes=len(set(scenes)),
        pairs=len(photos),
        photographs=tuple(
            image_digest(decode(files[path.stem].read_bytes(), PAIR_LIMITS).rgb)[:FIT_DIGITS]
            for path in paths
        ),
        note=given.note,
    )
    print(json.dumps(dataclasses.asdict(fit), indent=1))


if __name__ == "__main__":
    main()
