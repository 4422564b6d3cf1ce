"""Fit σ to a shipped upscaler: `python -m benchmarks.power_fit PHOTOGRAPHS --upscaler span-x4`.

Prints the artefact for `app/conformal/fits/`. The photographs must have no part in any calibration
that it is used with. Each is degraded as uploads usually are, in WAYS of the classes, which take
turns, so that every class is seen as often. With `--classes NAME…` the fit is for these
alone: the photographs are degraded in each of the ways of making the first of them, which are seen
as often. `--choose` cross-validates instead, scenes
(`pool_id` or `group` of the manifest.csv) always on one side, what is fitted: with the facts of the
input, without, and for each kind of class alone.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import numpy as np

from app.calibration.aside import FIT_DIGITS
from app.calibration.intake import find_in
from app.calibration.pairs import load_pair
from app.conformal import RiskCurve, Staircase, fidelity, fitting
from app.conformal.indecision import Fit
from app.conformal.moments import Moments
from app.images.degrade import USUAL, Degradation, Mixture
from app.images.facts import UPLOAD, classify
from app.images.resize import Enlarged
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source, sample_seeds, witness_of
from app.upscalers.embedded import EmbeddedUpscaler, FaithfulWitness
from app.upscalers.runtime import SHIPPED
from benchmarks.table import print_table

ALPHAS = (0.05, 0.075, 0.1)
CELLS = 600_000  # as many as one core fits on in two minutes
TERMS = 32
CUT = 0.5

CHOICES: dict[str, Callable[[str], bool]] = {
    "all terms": lambda _: True,
    "without the facts of the input": lambda term: not term.startswith("fact "),
    "without the witness": lambda term: "witness" not in term,
}

Way = tuple[Degradation | Mixture, str | None]
"""How X is made, and the variant of it."""


class Cells(NamedTuple):
    """What the fit sees of a photograph in one way of making X."""

    scene: str
    input_class: str
    digest: str
    seen: fitting.FitSample


def cells(
    runner: asyncio.Runner,
    upscaler: EmbeddedUpscaler,
    path: Path,
    way: str,
    made_by: Way,
    scene: str,
    cache: Path,
) -> Cells:
    """From the cache, or made."""
    kept = cache / f"{path.parent.name}-{path.stem}~{way.replace('/', '_')}.npz"
    if not kept.exists():
        pipeline = Pipeline(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=1,
            indecision={"estimator": "residual"},  # type: ignore[arg-type]
        )
        data, (degradation, variant) = path.read_bytes(), made_by
        pair = load_pair(
            path.stem, data, None, pipeline, degradation=degradation, seed=0, variant=variant
        )
        source = Source(pair.x, pair.facts)
        moments = Moments(pair.y.shape, Enlarged(pair.x, upscaler.scale))
        moments.facts = pair.facts.terms()
        if witness := witness_of(upscaler):
            moments.witness = runner.run(witness.answer(source, upscaler.scale))
        [sample] = runner.run(upscaler.generate(source, sample_seeds(pair.seed, 1)))
        moments.add(sample)
        settings = fidelity.FidelitySettings(bound=CUT)
        seen = fitting.fit_sample(moments.maps(), fidelity.error(pair.y, sample, settings))
        np.savez(
            kept,
            input_class=classify(UPLOAD, pair.facts),
            digest=pair.pixels_sha256[:FIT_DIGITS],
            names=np.array(seen.names),
            terms=seen.terms.astype(np.float16),
            error=seen.error,
            share=seen.share,
        )
    with np.load(kept) as found:
        seen = fitting.FitSample(
            tuple(map(str, found["names"])),
            found["terms"].astype(np.float32),
            np.minimum(found["error"], CUT),
            found["share"],
        )
        return Cells(scene, str(found["input_class"]), str(found["digest"]), seen)


def all_cells(
    folders: Sequence[Path],
    upscaler: EmbeddedUpscaler,
    ways: Mapping[str, Way],
    turns: int,
    cache: Path,
) -> list[Cells]:
    """Of every photograph, in so many of the ways."""
    names = list(ways)
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    with asyncio.Runner() as runner:
        for folder in folders:
            rows = rows_of(folder)
            for place, files in enumerate(find_in(folder)):
                path = Path(str(files.y))
                scene = rows[path.stem].get("pool_id") or rows[path.stem]["group"]
                for turn in range(turns):
                    way = names[(3 * place + 7 * turn) % len(names)]
                    found.append(cells(runner, upscaler, path, way, ways[way], scene, cache))
    return found


def ways_of(classes: Sequence[str]) -> Mapping[str, Way]:
    """The usual ways of making X by their class; or, one by one, those of the first of these."""
    usual = USUAL.variants()
    if not classes:
        return {name: (USUAL, name) for name in usual}
    parts = usual[classes[0]].mixture
    return {f"{classes[0]}-{k}": (part, None) for k, part in enumerate(parts)}


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of the manifest, by the name of their file without the ending."""
    with (folder / "manifest.csv").open() as table:
        return {Path(row["file"]).stem: row for row in csv.DictReader(table)}


def only(seen: fitting.FitSample, wanted: Callable[[str], bool]) -> fitting.FitSample:
    """Of the terms those that are wanted."""
    places = [place for place, name in enumerate(seen.names) if wanted(name)]
    names = tuple(seen.names[place] for place in places)
    return dataclasses.replace(seen, names=names, terms=seen.terms[:, places])


def areas(held: Sequence[Cells], fit: Fit) -> dict[str, list[float]]:
    """By class the mean area of the mask at `ALPHAS`, calibrated and measured on the same cells.

    As if there were 240 of each class: for comparing weights, not for a promise.
    """
    by_class = defaultdict(list)
    for one in held:
        places = [one.seen.names.index(term) for term, _ in fit.weights]
        sigma = np.exp(fit.log_sigma(one.seen.terms[:, places].T)).astype(np.float32)
        by_class[one.input_class].append((one.seen, sigma))
    found = {}
    for name, members in by_class.items():
        stairs = [Staircase.from_maps(sigma, seen.error) for seen, sigma in members]
        curve = RiskCurve.from_staircases(stairs * (240 // len(stairs) + 1), CUT)
        limits = [curve.threshold(alpha) for alpha in ALPHAS]
        found[name] = [
            float(np.mean([seen.share @ (sigma < limit) for seen, sigma in members]))
            for limit in limits
        ]
    return found


def choose(found: Sequence[Cells]) -> None:
    """Two-fold cross-validation over scenes."""
    order = sorted({one.scene for one in found})
    rows = []
    for name, wanted in CHOICES.items():
        by_class = defaultdict(list)
        for held in (0, 1):
            sides = ([], [])
            for one in found:
                part = one._replace(seen=only(one.seen, wanted))
                sides[order.index(one.scene) % 2 == held].append(part)
            for each, area in areas(sides[1], fitted(sides[0])).items():
                by_class[each].append(area)
        means = {each: np.mean(area, axis=0) for each, area in by_class.items()}
        classes = [np.mean(list(means.values()), axis=0), means["lossless"], means["jpeg-68"]]
        rows.append((name, *(" / ".join(f"{a:.3f}" for a in each) for each in classes)))
    print_table(("fitted on", "mean of the classes", "lossless", "jpeg-68"), rows)


def fitted(found: Sequence[Cells]) -> Fit:
    """The fit on all of these."""
    scenes = len({one.scene for one in found})
    return fitting.fit(
        [one.seen for one in found], terms=TERMS, units=fitting.units_for(scenes), cells=CELLS
    )


def main() -> None:
    """Print the artefact, or the table of choices."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--upscaler", choices=list(SHIPPED), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--ways", type=int, default=4)
    parser.add_argument("--classes", nargs="+", default=[], help="that the fit is for")
    parser.add_argument("--note", default="")
    parser.add_argument("--choose", action="store_true", help="cross-validate what is fitted")
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "trustscale-fit")
    given = parser.parse_args()
    upscaler = EmbeddedUpscaler(
        given.upscaler,
        given.upscaler,
        precision=given.precision,
        witness=FaithfulWitness(given.precision),
    )
    cache = given.cache / f"{given.upscaler}-{given.precision}"
    ways = ways_of(given.classes)
    found = all_cells(given.photographs, upscaler, ways, given.ways, cache)
    if given.choose:
        choose(found)
        return
    fit = dataclasses.replace(
        fitted(found),
        name=given.upscaler,
        upscaler=upscaler.fingerprint,
        samples=1,
        metric=fidelity.FidelitySettings().title,
        scenes=len({one.scene for one in found}),
        pairs=len(found),
        photographs=tuple(dict.fromkeys(one.digest for one in found)),
        classes=tuple(given.classes),
        note=given.note,
    )
    print(json.dumps(dataclasses.asdict(fit), indent=1))


if __name__ == "__main__":
    main()
