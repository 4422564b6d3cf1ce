"""Which picture for which class of uploads? `python -m benchmarks.auto DIR [--precision bf16]`.

DIR holds high-resolution photographs that had no part in a calibration nor in a fit of σ (only Y).
Of each an upload is made in every typical way. What may answer it: the picture of each shipped
network, the safe copy of it, and the plain enlargement. By class of upload and candidate, the table
has

- the error of the picture over that of the plain enlargement (luma, root of the mean square) with
  the standard error of the mean over the uploads, and the worst of them;
- the area that is trusted where the mean loss of these very uploads is α, so that areas compare
  at the same loss whatever calibrates.

`auto` never serves a picture that is farther from the truth than the plain enlargement, in the mean
over a class; of the others the one with the largest area at α = 0.05. `→` marks it, `*` what the
routing names. `--keep DIR` keeps samples and what was measured; a stopped run continues.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.photos import photo_folder
from benchmarks.ship import SampleFiles, under_which
from benchmarks.table import print_table
from trustscale_server.bootstrap.fields import DEFAULT_ROUTING
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.packing import npz_bytes
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import Pair, Truths, load_pair
from trustscale_server.conformal import LossCurve, fidelity
from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.pixels.resize import enlarged_rows
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.sigma.added_score import luma
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import (
    RGB,
    Capabilities,
    Picture,
    Source,
    Upscaler,
    Wrapped,
    routed,
)
from trustscale_server.upscalers.embedded.runtime import PrecisionSetting
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS, ShippedName
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

ALPHAS: Final = (0.03, 0.05)
NETWORKS: Final[Sequence[ShippedName]] = ("span-x4", "realesr-x4")
PLAIN: Final = "plain enlargement"


class Found(NamedTuple):
    """What was measured of a candidate's answer to an upload.

    ratio: its error over that of the plain enlargement. spots: the loss curve of each spot.
    quantiles: of σ, float32 [1001].
    """

    ratio: float
    spots: LossCurves
    quantiles: NDArray[np.float32]

    def loss(self, threshold: float) -> float:
        """The mean over the spots of the largest error in {σ < threshold}."""
        return float(self.spots.losses_below(threshold).mean())

    def area(self, threshold: float) -> float:
        """The share of the picture where σ < threshold."""
        return float((self.quantiles < threshold).mean())


class Answering(Wrapped):
    """A network whose answer is its picture, the safe copy of it or the plain enlargement."""

    def __init__(self, inner: Upscaler, picture: Picture) -> None:
        super().__init__(inner)
        self.picture = picture

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, picture=self.picture)

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: object = None
    ) -> list[RGB]:
        del permit
        return await self.inner.generate(source, seeds)


class Candidate:
    """What may answer: the upscaler and the pipeline under this name.

    One that is not shipped gets σ of its network's picture.
    """

    def __init__(
        self, network: ShippedName, picture: Picture, precision: PrecisionSetting, samples: Path
    ) -> None:
        name = {"model": network, "safe": f"{network}-safe", "plain": PLAIN}[picture]
        shipped = next((model for model in SHIPPED_MODELS if model == name), network)
        self.name = name
        model = EmbeddedUpscaler(network, network, precision=precision)
        kept = SampleFiles(model, samples / f"{network}-{precision}")
        self.upscaler = Answering(kept, picture)
        of_shipped = CalibrationConfig().pipeline(
            EmbeddedUpscaler(shipped, shipped, precision=precision)
        )
        self.pipeline = of_shipped.model_copy(
            update={"fingerprint": model.fingerprint, "picture": picture}
        )

    async def measured(self, pair: Pair) -> bytes:
        """Answer an upload; what is kept of it."""
        made = await measure(self.upscaler, Source(pair.x, pair.features), self.pipeline, pair.seed)
        error = fidelity.error(pair.y, made.prediction, self.pipeline.fidelity)
        spots = LossCurves.from_curves(
            LossCurve.from_maps(made.sigma[window], error[window]).coarse(
                fidelity.bound(self.pipeline.fidelity)
            )
            for window in self.pipeline.fidelity.windows(*error.shape)
        )
        return npz_bytes(
            ratio=error_of(made.prediction, pair) / max(error_of(plain(pair), pair), 1e-6),
            levels=spots.levels,
            errors=spots.errors,
            lengths=spots.lengths,
            quantiles=np.quantile(made.sigma, np.linspace(0, 1, 1001)).astype(np.float32),
        )


def plain(pair: Pair) -> RGB:
    """The plain enlargement of X."""
    scale = len(pair.y) // len(pair.x)
    rows = enlarged_rows(pair.x.astype(np.float32), scale, 0, len(pair.y))
    return np.asarray(np.rint(np.clip(rows, 0, 255)), np.uint8)


def error_of(picture: RGB, pair: Pair) -> float:
    """The root of the mean square of the error of luma."""
    return float(np.sqrt(((luma(picture) - luma(pair.y)) ** 2).mean()))


def candidates(precision: PrecisionSetting, keep: Path) -> list[Candidate]:
    """All that may answer."""
    pictures: list[tuple[ShippedName, Picture]] = [
        *((network, "model") for network in NETWORKS),
        *((network, "safe") for network in NETWORKS),
        ("realesr-x4", "plain"),
    ]
    return [Candidate(*one, precision, keep / "samples") for one in pictures]


def pairs_of(
    files: Sequence[Path], made_by: Degradation | Mixture, pipeline: MeasurementSpec
) -> Iterator[Pair]:
    """Each photograph in each way of making X."""
    ways = [*made_by.variants()] if isinstance(made_by, Mixture) else [None]
    for file in files:
        truths, data = Truths(), file.read_bytes()
        for source in PairSource(file.stem).in_variants(ways):
            yield load_pair(
                source, {"y": data}, pipeline, degradation=made_by, seed=0, truths=truths
            )


def found_of(
    pairs: Iterator[Pair], chosen: Sequence[Candidate], keep: Path, runner: asyncio.Runner
) -> Iterator[tuple[Pair, Mapping[str, Found]]]:
    """What these candidates' answers to each upload are, measured unless it is kept."""
    for pair in pairs:
        found = {}
        for one in chosen:
            under = under_which(one.pipeline, pair.features).model_dump_json()
            digest = hashlib.sha256(under.encode()).hexdigest()[:16]
            kept = keep / f"{pair.x_sha256[:32]}-{pair.seed}-{digest}.npz"
            if not kept.exists():
                kept.with_suffix(".part").write_bytes(runner.run(one.measured(pair)))
                kept.with_suffix(".part").replace(kept)
            with np.load(kept) as arrays:
                spots = LossCurves(arrays["levels"], arrays["errors"], arrays["lengths"])
                found[one.name] = Found(float(arrays["ratio"]), spots, arrays["quantiles"])
        yield pair, found


def area_at(found: Sequence[Found], alpha: float) -> float:
    """The mean area where the mean loss of these answers is α."""
    low, high = 0.0, float(max(one.quantiles[-1] for one in found)) * 1.01
    for _ in range(30):
        middle = (low + high) / 2
        loss = np.mean([one.loss(middle) for one in found])
        low, high = (middle, high) if loss <= alpha else (low, middle)
    return float(np.mean([one.area(low) for one in found]))


class Line(NamedTuple):
    """A line of the table."""

    name: str
    ratio: float
    error: float
    worst: float
    areas: tuple[float, ...]

    @classmethod
    def from_found(cls, name: str, found: Sequence[Found]) -> Line:
        ratios = np.array([one.ratio for one in found])
        error = float(ratios.std(ddof=1) / np.sqrt(len(ratios))) if len(ratios) > 1 else 0.0
        areas = tuple(area_at(found, alpha) for alpha in ALPHAS)
        return cls(name, float(ratios.mean()), error, float(ratios.max()), areas)


def best(lines: Sequence[Line]) -> Line:
    """By the rule of `auto`."""
    near = (one for one in lines if one.ratio <= 1 or one.name == PLAIN)
    return max(near, key=lambda one: one.areas[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--first", type=int, default=0, help="from this one on")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-auto")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    chosen = candidates(given.precision, given.keep)
    every = [Path(files.paths["y"]) for files in find_in(given.folder)]
    files = every[given.first :: given.every]
    classes: dict[str, dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
    with asyncio.Runner() as runner:
        pairs = pairs_of(files, TYPICAL_UPLOADS, chosen[0].pipeline)
        for pair, found in found_of(pairs, chosen, given.keep, runner):
            for name, one in found.items():
                classes[pair.features.kind.name][name].append(one)
    rows = []
    for input_class, by_name in sorted(classes.items()):
        lines = [Line.from_found(name, found) for name, found in by_name.items()]
        taken, routed_to = best(lines), routed(DEFAULT_ROUTING, input_class)
        for place, line in enumerate(lines):
            count = len(by_name[line.name])
            head = (
                (f"{input_class}, {count}", class_in_words(input_class)) if not place else ("", "")
            )
            mark = "→" * (line is taken) + "*" * (line.name == routed_to)
            ratio = f"{line.ratio:.3f} ± {line.error:.3f}, {line.worst:.2f}"
            rows.append(
                (head[0], line.name, ratio, *(f"{a:.3f}" for a in line.areas), mark, head[1])
            )
    areas = [f"area at α = {alpha:g}" for alpha in ALPHAS]
    print_table(("class, uploads", "picture", "error over plain's", *areas, "auto", ""), rows)


if __name__ == "__main__":
    main()
