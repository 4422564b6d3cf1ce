"""Make the calibrations that are shipped: `python -m benchmarks.ship DIR NAME…`.

DIR holds photographs, one crop of each, with a manifest.csv that names attributions. For each NAME,
such as `realesr-x4-safe-bf16` or `span-x4-f32/3`, this measures what `trustscale calibrate` would
with nothing but defaults: all photographs, or every third (`/3`), in all ways of making X; they
become `calibration/shipped/NAME.calibration`, or `--out DIR`. A file that would change in its date
alone stays. Loss curves are thinned: errors are rounded up to 1/1024 and levels of σ down to seven
significant bits, which costs .003 of the area and saves four tenths of a file.

What that file holds already of the same X, seed and pipeline is not measured again, only looked at:
another number of photographs, other ways of making X, other classes and a fit of one of them cost
what is new in them. A stopped run continues. `--only` names ways, `--measure` only measures, and
`--samples DIR` keeps what the models make, so that another σ or trust layer needs no new samples;
a model and its safe copy share them.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from benchmarks.photos import photo_folder
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.fit import is_fitted_on
from trustscale_server.calibrating.packing import pack, unpack
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import Pair, Truths, load_pair
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibrating.unusable import FITTED_ON
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.manifest import Provenance
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal import LossCurve
from trustscale_server.kinds.features import InputFeatures, classify
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.platform.errors import BadCalibration
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import RGB, Source, Upscaler, Wrapped, settings_of
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler
from trustscale_server.upscalers.permit import MemoryPermit

SHIPPED = Path("app/trustscale_server/calibration/shipped")
NOTE = (
    "One crop of 512×512 of each of {count} photographs by {people} people and series, in "
    "all classes of uploads; nothing aerial or medical."
)
ERROR_STEP = np.float32(1 / 1024)  # a power of two, so that multiples are exact
LEVEL_BITS = np.uint32(0xFFFE0000)  # of float32: sign, exponent, six of 23 bits; levels are > 0
Row = Mapping[str, str]


class Shipment:
    """One calibration in the making."""

    def __init__(self, name: str, keep: Path, samples: Path | None = None) -> None:
        name, _, every = name.partition("/")
        self.every = int(every or 1)
        model, _, precision = name.rpartition("-")
        self.name, self.keep = name, keep / name
        self.keep.mkdir(parents=True, exist_ok=True)
        embedded = EmbeddedUpscaler(model, model, precision=precision)
        self.upscaler: Upscaler = (
            embedded if samples is None else SampleFiles(embedded, samples_of(name, samples))
        )
        self.config = CalibrationConfig(name=name)
        self.pipeline = self.config.pipeline(self.upscaler)
        self.before, self.known = known(name, self.pipeline)
        self.runner = asyncio.Runner()
        self.pairs: list[MeasuredPair] = []

    def measured(self, pair: Pair) -> MeasuredPair:
        """A pair, measured unless it is known."""
        under = under_which(self.pipeline, pair.features)
        digest = hashlib.sha256(under.model_dump_json().encode()).hexdigest()
        kept = self.keep / f"{pair.x_sha256[:32]}-{pair.seed}-{digest[:16]}.npz"
        found = None
        if self.before is not None and under_which(self.before, pair.features) == under:
            found = self.known.get((pair.x_sha256, pair.seed))
        if found is None and kept.exists():
            found = unpack(kept.read_bytes())
        if found is None:
            source = Source(pair.x, pair.features)
            made = self.runner.run(
                measure(self.upscaler, source, self.pipeline, pair.seed, truth=pair.seen)
            )
            found = reduce_pair(pair, made, self.pipeline)
            kept.with_suffix(".part").write_bytes(pack(found))
            kept.with_suffix(".part").replace(kept)
        return looked_at_again(found, pair, self.pipeline)

    def made(self, rows: Sequence[Row], created_at: datetime | None) -> Calibration:
        """The calibration of the pairs of the photographs."""
        rows = rows[:: self.every]
        sigma = self.pipeline.indecision
        if any(is_fitted_on(sigma, pair.info.pixels_sha256) for pair in self.pairs):
            raise SystemExit(FITTED_ON)
        people = {f"{row['attribution']} ({row['licence']})"[:1000] for row in rows}
        makers = len({row["group"] for row in rows})
        return Calibration.from_pairs(
            [thinned(pair) for pair in self.pairs],
            name=self.name,
            upscaler=self.upscaler.name,
            pipeline=self.pipeline,
            created_at=created_at,
            guarantee=self.config.guarantee,
            degradation=TYPICAL_UPLOADS,
            seed=self.config.seed,
            provenance=Provenance(
                note=NOTE.format(count=len(rows), people=makers),
                attributions=sorted(people),
                settings=settings_of(self.upscaler),
            ),
        )


def thinned(measured: MeasuredPair) -> MeasuredPair:
    """The pair with fewer steps in its loss curves, which are nowhere smaller."""
    curves = [
        LossCurve.from_maps(
            (np.ascontiguousarray(curve.levels).view(np.uint32) & LEVEL_BITS).view(np.float32),
            np.ceil(curve.errors / ERROR_STEP) * ERROR_STEP,
        )
        if len(curve)
        else curve
        for curve in measured.loss_curves
    ]
    return replace(measured, loss_curves=curves)


def samples_of(name: str, folder: Path) -> Path:
    """Where the samples of a model of this name and precision are kept: by its network."""
    model, _, precision = name.rpartition("-")
    file = SHIPPED_MODELS[model].file
    first = next(each for each, shipped in SHIPPED_MODELS.items() if shipped.file == file)
    return folder / f"{first}-{precision}"


class SampleFiles(Wrapped):
    """Keeps every sample of an upscaler as a file, by the digest of X and the seed."""

    def __init__(self, inner: EmbeddedUpscaler, folder: Path) -> None:
        super().__init__(inner)
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.exact_fingerprint = inner.exact_fingerprint

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate only what is not there yet."""
        samples = []
        for seed in seeds:
            kept = self.folder / f"{source.digest[:32]}-{seed}.npy"
            if not kept.exists():
                (sample,) = await self.inner.generate(source, [seed])
                with kept.with_suffix(".part").open("wb") as out:
                    np.save(out, sample, allow_pickle=False)
                kept.with_suffix(".part").replace(kept)
            samples.append(np.load(kept, allow_pickle=False))
        if permit is not None:
            await permit.take()
        return samples


def known(
    name: str, pipeline: MeasurementSpec
) -> tuple[MeasurementSpec | None, dict[tuple[str, int], MeasuredPair]]:
    """Under what, and what the shipped file holds, by digest of X and seed.

    None if its rule and its fits of classes cannot be compared with those of the pipeline.
    """
    try:
        shipped = shipped_calibration(name)
    except (FileNotFoundError, BadCalibration):
        return None, {}
    before = shipped.pipeline
    if before.input_rule != pipeline.input_rule and before.indecision.fits:
        return None, {}
    pairs = {(pair.info.x_sha256, pair.info.seed): pair for pair in shipped.measured_pairs()}
    return before.model_copy(update={"input_rule": pipeline.input_rule}), pairs


def under_which(pipeline: MeasurementSpec, features: InputFeatures) -> MeasurementSpec:
    """All that what is measured of an upload with these features depends on."""
    sigma = pipeline.sigma_of(features)
    return pipeline.model_copy(update={"indecision": sigma, "input_rule": None})


def looked_at_again(measured: MeasuredPair, pair: Pair, pipeline: MeasurementSpec) -> MeasuredPair:
    """With the name and class that this program gives the pair."""
    assert pipeline.input_rule is not None
    fields = {
        "name": pair.name,
        "variant": pair.variant,
        "input_class": classify(pipeline.input_rule, pair.features),
    }
    info = measured.info.model_copy(update=fields)
    return replace(measured, info=info)


def main() -> None:
    """Make them, each X once for all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--only", nargs="+", default=list(TYPICAL_UPLOADS.variants()))
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-ship")
    parser.add_argument("--samples", type=Path, help="keep the models' samples here")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="write the calibrations here")
    parser.add_argument("--measure", action="store_true", help="measure, and write nothing yet")
    given = parser.parse_args()
    with (given.folder / "manifest.csv").open() as table:
        rows = sorted(csv.DictReader(table), key=lambda row: row["file"])
    shipments = [Shipment(name, given.keep, given.samples) for name in given.names]
    first = shipments[0]  # all have one scale and seed, so the same X
    for place, row in enumerate(rows):
        wanted = [one for one in shipments if place % one.every == 0]
        if not wanted:
            continue
        data, truths = (given.folder / row["file"]).read_bytes(), Truths()
        for source in PairSource(Path(row["file"]).stem).in_variants(given.only):
            pair = load_pair(
                source,
                {"y": data},
                first.pipeline,
                degradation=TYPICAL_UPLOADS,
                seed=first.config.seed,
                truths=truths,
            )
            for shipment in wanted:
                shipment.pairs.append(shipment.measured(pair))
        print(row["file"], *(len(shipment.pairs) for shipment in shipments), flush=True)
    if not given.measure:
        for shipment in shipments:
            path = given.out / f"{shipment.name}.calibration"
            made = shipment.made(rows, None)
            if path.exists():
                before = file.load(path.read_bytes())
                again = shipment.made(rows, before.manifest.created_at)
                made = before if again.id == before.id else made
            path.write_bytes(file.dump(made))
            print(path, made.id, made.manifest.created_at, flush=True)


if __name__ == "__main__":
    main()
