"""Fit σ to a shipped upscaler: `python -m benchmarks.power_fit PHOTOGRAPHS --upscaler span-x4`.

Prints the artefact for `sigma/fits/`. The photographs must have no part in any calibration
that it is used with. Each is degraded as uploads usually are, in WAYS of the classes, which take
turns, so that every class is seen as often. With `--classes NAME` the fit is for this class: the
photographs are degraded in each of the ways of making it, which are seen as often. With several
classes it is for these, and sees those of all uploads that are read as one of them.

`--judge FOLDER…` compares instead what the fit, the fit without terms of `--without`, the shipped
one and plain σ trust of other photographs, in WAYS. Judged is a spot, SPOT pixels a side: the loss
of a picture is the mean over its spots of the worst trusted error in each, counted up to CUT. For
each way and each α it prints the area that is trusted at the threshold whose mean loss on these
very pictures is α (the oracle: σ = D). So areas are compared at an equal loss, whatever calibrates;
they are no promise. With intervals of 95 % of the paired differences from the first σ, by a
bootstrap over scenes (`pool_id` or `group` of the manifest.csv).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.photos import photo_folder
from benchmarks.table import print_table
from trustscale_server.calibrating.fit import FIT_DIGITS
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.packing import npz_bytes
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.conformal import fidelity
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.pixels.align import aligned
from trustscale_server.sampling.align import softness_for
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.shown import shown_as
from trustscale_server.sampling.sigma import fitting, pyramid
from trustscale_server.sampling.sigma.estimators import Accumulator, IndecisionSettings
from trustscale_server.sampling.sigma.features import CELL, DEPTHS, FACTS, energy_of
from trustscale_server.sampling.sigma.fits import Fit, shipped_fit
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.embedded.runtime import PrecisionSetting
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS, ShippedName
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler
from trustscale_server.upscalers.symmetries import sample_seeds

ALPHAS = (0.03, 0.05)
CELLS = 600_000  # as many as one core fits on in two minutes
TERMS = 32
CUT = 0.25
SPOT = 128
THRESHOLDS = 1200  # at which losses are compared
DRAWS = 400  # of the bootstrap

Plane = NDArray[np.float32]
Way = tuple[Degradation | Mixture, str | None]
"""How X is made, and the variant of it."""


class Seen(NamedTuple):
    """A photograph in one way of making X, in cells of 4×4 pixels; all planes are [h, w].

    input_class: of X. digest: of the pixels of Y. levels, facts: its terms. error: the largest D of
    each cell. plain: σ without a fit, the mean of each cell.
    """

    scene: str
    way: str
    input_class: str
    digest: str
    levels: list[pyramid.Level]
    facts: Mapping[str, float]
    error: Plane
    plain: Plane

    def terms(self, wanted: Callable[[str], bool]) -> dict[str, Plane]:
        """Those that are wanted."""
        some = [
            level._replace(terms={name: t for name, t in level.terms.items() if wanted(name)})
            for level in self.levels
        ]
        found = pyramid.dense(some, self.error.shape)
        facts = {f"fact {name}": value for name, value in self.facts.items()}
        return found | {n: np.full_like(self.error, v) for n, v in facts.items() if wanted(n)}

    def log_sigma(self, fit: Fit) -> Plane:
        """Of a fit."""
        names = [name for name, _ in fit.weights]
        terms = self.terms(names.__contains__)
        return fit.log_sigma(np.stack([terms[name] for name in names])).astype(np.float32)


class Maker:
    """Makes X, answers it, and keeps what is seen of it."""

    def __init__(self, name: ShippedName, precision: PrecisionSetting, cache: Path) -> None:
        self.upscaler = EmbeddedUpscaler(name, name, precision=precision)
        self.pipeline = MeasurementSpec(
            fingerprint=self.upscaler.fingerprint,
            scale=self.upscaler.scale,
            samples=1,
            indecision=IndecisionSettings("departure"),
        )
        self.cache = cache / f"{name}-{precision}"
        self.cache.mkdir(parents=True, exist_ok=True)
        self.runner = asyncio.Runner()

    def every(self, folder: Path, ways: Mapping[str, Way], turns: int) -> Iterator[Seen]:
        """Each photograph of a folder, in so many of the ways."""
        rows, names = rows_of(folder), list(ways)
        for place, files in enumerate(find_in(folder)):
            path = Path(files.paths["y"])
            scene = rows[path.stem].get("pool_id") or rows[path.stem]["group"]
            for turn in range(turns):
                way = names[(3 * place + 7 * turn) % len(names)]
                kept = self.cache / f"{folder.name}-{path.stem}~{way.replace('/', '_')}.npz"
                if not kept.exists():
                    self._make(path, ways[way], kept)
                yield read(kept, scene, way)

    def _make(self, path: Path, made_by: Way, kept: Path) -> None:
        degradation, variant = made_by
        data = path.read_bytes()
        pair = load_pair(
            *PairSource(path.stem).in_variants([variant]),
            {"y": data},
            self.pipeline,
            degradation=degradation,
            seed=0,
        )
        source, enlarged = Source(pair.x, pair.features), Enlarged(pair.x, self.upscaler.scale)
        [sample] = self.runner.run(self.upscaler.generate(source, sample_seeds(pair.seed, 1)))
        sample = aligned(sample, pair.x, softness_for(pair.features))
        found = Accumulator(pair.y.shape, self.pipeline.indecision, enlarged)
        found.add(sample)
        maps = found.maps()
        answer = shown_as(source, sample, self.upscaler.capabilities.picture)
        error = fidelity.error(pair.y, answer, fidelity.FidelitySettings(bound=CUT))
        levels = pyramid.measured_levels(maps, maps.known, map)
        kept.write_bytes(
            npz_bytes(
                input_class=pair.features.kind.name,
                digest=pair.pixels_sha256[:FIT_DIGITS],
                error=fitting.largest(error),
                facts=[pair.features.terms()[name] for name in FACTS],
                plain=means(found.result()),
                **{
                    f"{depth} {name}": plane.astype(np.float16)
                    for depth, level in enumerate(levels)
                    for name, plane in level.terms.items()
                },
            )
        )


def means(sigma: Plane) -> Plane:
    """Of the cells."""
    height, width = (side // CELL for side in sigma.shape)
    return np.asarray(sigma.reshape(height, CELL, width, CELL).mean(axis=(1, 3)))


def read(kept: Path, scene: str, way: str) -> Seen:
    """What `Maker` kept."""
    with np.load(kept) as arrays:
        error = arrays["error"]
        levels = [pyramid.Level((), {}) for _ in range(DEPTHS)]
        for key in arrays.files:
            depth, _, name = key.partition(" ")
            if depth.isdigit():
                levels[int(depth)].terms[name] = arrays[key].astype(np.float32)
        facts = dict(zip(FACTS, arrays["facts"].tolist(), strict=True))
        return Seen(
            scene,
            way,
            str(arrays["input_class"]),
            str(arrays["digest"]),
            levels,
            facts,
            error,
            arrays["plain"],
        )


def ways_of(classes: Sequence[str]) -> Mapping[str, Way]:
    """The typical ways of making X; of a single class its own, one by one."""
    typical = TYPICAL_UPLOADS.variants()
    if len(classes) != 1:
        return {name: (TYPICAL_UPLOADS, name) for name in typical}
    parts = typical[classes[0]].mixture
    return {f"{classes[0]}-{k}": (part, None) for k, part in enumerate(parts)}


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of the manifest, by the name of their file without the ending."""
    with (folder / "manifest.csv").open() as table:
        return {Path(row["file"]).stem: row for row in csv.DictReader(table)}


def fitted(seen: Iterable[Seen], wanted: Callable[[str], bool] = lambda _: True) -> Fit:
    """The fit on all of these, of the terms that are wanted."""
    parts, scenes, digests = [], set(), []
    for one in seen:
        parts.append(fitting.seen_of(one.terms(wanted), one.error))
        scenes.add(one.scene)
        digests.append(one.digest)
    made = fitting.fit(parts, terms=TERMS, units=fitting.units_for(len(scenes)), cells=CELLS)
    return dataclasses.replace(
        made,
        scenes=len(scenes),
        pairs=len(parts),
        photographs=tuple(dict.fromkeys(digests)),
    )


class Trade(NamedTuple):
    """Of each picture at rising thresholds, float32 [n, t]: the mean loss of a spot, the area."""

    losses: Plane
    areas: Plane

    @classmethod
    def from_maps(cls, sigmas: Sequence[Plane], errors: Sequence[Plane]) -> Trade:
        """At thresholds that are quantiles of all σ; the last one trusts everything."""
        some = np.concatenate([sigma.reshape(-1)[::7] for sigma in sigmas])
        limits = np.unique(np.quantile(some, np.linspace(0, 1, THRESHOLDS)))
        limits = np.append(limits, np.inf).astype(np.float32)
        rows = [
            cls._of_one(spots(sigma), spots(error), limits)
            for sigma, error in zip(sigmas, errors, strict=True)
        ]
        return cls(*map(np.stack, zip(*rows, strict=True)))

    @staticmethod
    def _of_one(sigma: Plane, error: Plane, limits: Plane) -> tuple[Plane, Plane]:
        order = np.argsort(sigma, axis=1)
        sigma = np.take_along_axis(sigma, order, 1)
        worst = np.maximum.accumulate(np.take_along_axis(error, order, 1), axis=1)
        worst = np.pad(worst, ((0, 0), (1, 0)))
        trusted = np.stack([np.searchsorted(row, limits) for row in sigma])
        losses = np.take_along_axis(worst, trusted, 1).mean(axis=0)
        return losses, trusted.mean(axis=0) / sigma.shape[1]

    def area(self, alpha: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean area where the mean loss is α, both over the pictures by weights [..., n]."""
        weights = weights / weights.sum(axis=-1, keepdims=True)
        pairs = zip(weights @ self.losses, weights @ self.areas, strict=True)
        return np.array([np.interp(alpha, loss, area) for loss, area in pairs])


def spots(plane: Plane) -> Plane:
    """The cells of each spot, [spots, cells]; what is beyond the last whole spot is left out."""
    side = SPOT // CELL
    down, across = (length // side for length in plane.shape)
    whole = plane[: down * side, : across * side].reshape(down, side, across, side)
    return whole.swapaxes(1, 2).reshape(down * across, side * side)


def judge(seen: Sequence[Seen], fits: Mapping[str, Fit], alphas: Sequence[float]) -> None:
    """Print what each σ trusts, by the way of making X."""
    names = [*fits, "plain", "oracle"]
    rows = []
    for way in dict.fromkeys(one.way for one in seen):
        some = [one for one in seen if one.way == way]
        scenes = sorted({one.scene for one in some})
        draws = np.random.default_rng(0).multinomial(
            len(scenes), np.full(len(scenes), 1 / len(scenes)), size=DRAWS
        )
        draws[0] = 1  # the pictures as they are
        weights = draws[:, [scenes.index(one.scene) for one in some]].astype(np.float64)
        errors = [one.error for one in some]
        for name in names:
            trade = Trade.from_maps([sigma_of(one, name, fits) for one in some], errors)
            areas = [trade.area(alpha, weights) for alpha in alphas]
            if name == names[0]:
                first = areas
            rows.append((f"{way}, {len(some)}", name, *map(in_words, areas, first)))
    print_table(("X, pictures", "σ", *(f"α = {alpha:g}" for alpha in alphas)), rows)


def sigma_of(one: Seen, name: str, fits: Mapping[str, Fit]) -> Plane:
    """σ, or its logarithm, by the name of its row in the table."""
    if name in fits:
        return one.log_sigma(fits[name])
    return one.error if name == "oracle" else one.plain


def in_words(areas: NDArray[np.float64], first: NDArray[np.float64]) -> str:
    """The area of the pictures as they are, and its gain over the first σ with an interval."""
    if areas is first:
        return f"{areas[0]:.3f}"
    gains = areas - first
    low, high = np.quantile(gains, (0.025, 0.975))
    return f"{areas[0]:.3f}, {gains[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Print the artefact, or the table of areas."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=photo_folder, nargs="+")
    parser.add_argument("--upscaler", choices=list(SHIPPED_MODELS), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--ways", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=[], help="of the ways these, in this order")
    parser.add_argument("--classes", nargs="+", default=[], help="that the fit is for")
    parser.add_argument("--without", default="", help="terms of this energy")
    parser.add_argument("--note", default="")
    parser.add_argument("--judge", type=Path, nargs="+", default=[], help="compare areas on these")
    parser.add_argument("--alpha", type=float, nargs="+", default=ALPHAS)
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "trustscale-fit")
    given = parser.parse_args()
    maker = Maker(given.upscaler, given.precision, given.cache)
    ways = ways_of(given.classes)
    ways = {name: ways[name] for name in given.only or ways}

    def every(folders: Sequence[Path]) -> Iterator[Seen]:
        for folder in folders:
            for one in maker.every(folder, ways, given.ways):
                if len(given.classes) < 2 or one.input_class in given.classes:
                    yield one

    def is_left(term: str) -> bool:
        return not given.without or energy_of(term) != given.without

    if not given.judge:
        fit = dataclasses.replace(
            fitted(every(given.photographs), is_left),
            name=given.upscaler,
            upscaler=maker.upscaler.exact_fingerprint,
            samples=1,
            metric=fidelity.FidelitySettings().metric,
            classes=tuple(given.classes),
            note=given.note,
        )
        print(json.dumps(dataclasses.asdict(fit), indent=1))
        return
    fits = {"fitted": fitted(every(given.photographs))}
    if given.without:
        fits[f"fitted without {given.without}"] = fitted(every(given.photographs), is_left)
    fits["shipped"] = shipped_fit(f"{given.upscaler}-m1")
    judge([*every(given.judge)], fits, given.alpha)


if __name__ == "__main__":
    main()
