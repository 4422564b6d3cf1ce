"""Words that are called right: their σ is fitted, calibrations for text are made and judged.

    python -m benchmarks.words fit DIR --fonts FOLDER
    python -m benchmarks.words ship DIR --fonts FOLDER -- NAME…
    python -m benchmarks.words judge DIR --fonts FOLDER [--letters 14 56] [--bare] -- NAME…

DIR holds photographs, on which `lettering.py` draws text in the fonts of FOLDER; X is made in three
ways in turn: without loss, as JPEG 75 to 95, and as JPEG 50 to 74. `fit` writes the weights of
`app/sigma/fits/reading.json` from the words of both models. `ship` writes
`app/calibration/shipped/NAME-text.calibration` for names such as `realesr-x4-bf16`. `judge` draws
other words, and prints for both promises, for each α, and without a choice: the share of wrong
words among those called right, and of pictures with one, with standard errors, and how many of the
right words are called right. `--bare` reads the photographs as they are.

What was read is kept in `--keep`, so that a stopped run continues.

It needs `pip install babel`, and these fonts, of which others judge than fit and ship:

    pip install --target fonts font-caladea font-fjallaone font-roboto font-source-sans-pro \
        font-source-serif-pro
    pip install --target others font-fredoka-one font-hanken-grotesk font-lato font-manrope font-rhd
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import math
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from benchmarks.lettering import Lettering
from benchmarks.ship import SHIPPED
from benchmarks.table import print_table
from trustscale_server.calibration import file
from trustscale_server.calibration.config import CalibrationConfig
from trustscale_server.calibration.guarantee import Expectation, Probability
from trustscale_server.calibration.manifest import MeasuredPair, Provenance
from trustscale_server.calibration.measure import pair_from_words, pair_info
from trustscale_server.calibration.pairs import Pair, PairUpload, load_pair
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal import reader, words
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import Degradation, Mixture
from trustscale_server.images.encode import to_png
from trustscale_server.images.resize import Enlarged
from trustscale_server.sampling.pipeline import measured_again, predict
from trustscale_server.sigma import reading
from trustscale_server.sigma.moments import Moments
from trustscale_server.sigma.reading import TERMS, ReadingFit, ReadPage
from trustscale_server.upscalers.base import RGB, Source, settings_of
from trustscale_server.upscalers.embedded import EmbeddedUpscaler

WAYS = (Degradation(), Degradation(jpeg=(75, 95)), Degradation(jpeg=(50, 74)))
WEIGHTS = Path("app/sigma/fits/reading.json")
RIDGE = 0.01
ALPHAS = (0.05, 0.1)
NOTE = (
    "Rendered signs, number plates, documents and screens with Latin letters and digits, 12 to 100 "
    "pixels high, on {count} photographs by {people} people and series, PNG and JPEG 50 to 95: no "
    "handwriting, no other scripts, nothing bent or in perspective."
)


class Read(NamedTuple):
    """One picture as it was read: Ŷ, its page, and which of its words the truth shows otherwise."""

    pair: Pair
    made: RGB
    page: ReadPage
    wrong: list[bool]


class Trial:
    """One model, and the pictures that it made."""

    def __init__(self, name: str, lettering: Lettering | None, keep: Path) -> None:
        model, _, precision = name.rpartition("-")
        self.name, self.lettering, self.keep = name, lettering, keep
        self.keep.mkdir(parents=True, exist_ok=True)
        self.upscaler = EmbeddedUpscaler(model, model, precision=precision)
        self.config = CalibrationConfig(
            name=f"{name}-text", fidelity={"metric": "text"}, input_rule=None
        )
        self.pipeline = self.config.pipeline(self.upscaler)
        self.runner = asyncio.Runner()

    def all(self, folder: Path, every: int) -> Iterator[Read]:
        for place, path in enumerate(sorted(folder.glob("*.webp"))[::every]):
            truth = decode(path.read_bytes(), PAIR_LIMITS).rgb
            if self.lettering is not None:
                truth = self.lettering.on(truth)
            yield self.read(path.stem, truth, WAYS[place % len(WAYS)])

    def read(self, name: str, truth: RGB, way: Degradation) -> Read:
        pair = load_pair(PairUpload(name, to_png(truth)), self.pipeline, degradation=way, seed=0)
        source = Source(pair.x, pair.facts)
        content = f"{pair.x_sha256} {pair.y_sha256} {self.name}"
        kept = self.keep / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.read"
        if not kept.exists():
            made = self.runner.run(predict(self.upscaler, source, pair.seed))
            page = ReadPage.of(made, Enlarged(pair.x, self.pipeline.scale)[:], self.pipeline.scale)
            found = to_png(made), page, reader.read_otherwise(page.made, pair.y)
            kept.with_suffix(".part").write_bytes(pickle.dumps(found))
            kept.with_suffix(".part").replace(kept)
        picture, page, wrong = pickle.loads(kept.read_bytes())
        return Read(pair, decode(picture, PAIR_LIMITS).rgb, page, wrong)

    def measured(self, read: Read) -> MeasuredPair:
        """As `trustscale calibrate --metric text` would."""
        source = Source(read.pair.x, read.pair.facts)
        found = measured_again([read.made], source, self.pipeline, page=read.page)
        info = pair_info(read.pair, found, self.pipeline)
        return pair_from_words(info, found.sigma, read.page, read.wrong)

    def scores(self, read: Read) -> list[float]:
        """σ of each word."""
        source = Source(read.pair.x, read.pair.facts)
        sigma = measured_again([read.made], source, self.pipeline, page=read.page).sigma
        return words.scores_of((word.corners for word in read.page.words), sigma)


def fitted(pages: Sequence[tuple[NDArray[np.float64], Sequence[bool]]], note: str) -> ReadingFit:
    """The logistic regression of wrong words on their terms; of a picture all words count as √n."""
    terms = np.concatenate([found for found, _ in pages])
    wrong = np.concatenate([np.asarray(judged, float) for _, judged in pages])
    share = np.concatenate([np.full(len(judged), len(judged) ** -0.5) for _, judged in pages])
    share /= share.sum()
    mean, deviation = share @ terms, terms.std(axis=0) + 1e-3
    z = (terms - mean) / deviation

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = z @ x[1:] + x[0]
        value = share @ (np.logaddexp(0, logit) - wrong * logit) + RIDGE / 2 * x[1:] @ x[1:]
        slope = share * (scipy.special.expit(logit) - wrong)
        return float(value), np.append(slope.sum(), z.T @ slope + RIDGE * x[1:])

    x = scipy.optimize.minimize(loss, np.zeros(len(TERMS) + 1), jac=True, method="BFGS").x
    weights = x[1:] / deviation
    pairs = tuple(zip(TERMS, np.round(weights, 3).tolist(), strict=True))
    return ReadingFit(pairs, round(float(x[0] - mean @ weights), 3), note)


def fit(trials: Sequence[Trial], folder: Path, every: int) -> None:
    pages = []
    for trial in trials:
        for read in trial.all(folder, every):
            moments = Moments(read.made.shape, Enlarged(read.pair.x, trial.pipeline.scale))
            moments.add(read.made)
            if read.page.words:
                pages.append((reading.terms(read.page, moments.departure()), read.wrong))
    count = sum(len(wrong) for _, wrong in pages)
    note = f"{count} words of {len(pages)} pictures of lettering on photographs of {folder}"
    made = fitted(pages, note)
    facts = {"weights": made.weights, "offset": made.offset, "note": note}
    WEIGHTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(made)


def ship(trials: Sequence[Trial], folder: Path, every: int) -> None:
    with (folder / "manifest.csv").open() as table:
        rows = sorted(csv.DictReader(table), key=lambda row: row["file"])[::every]
    people = {f"{row['attribution']} ({row['licence']})"[:1000] for row in rows}
    makers = len({row["group"] for row in rows})
    for trial in trials:
        made = Calibration.from_pairs(
            [trial.measured(read) for read in trial.all(folder, every)],
            name=trial.config.name,
            upscaler=trial.upscaler.name,
            pipeline=trial.pipeline,
            degradation=Mixture.model_validate({"mixture": [way.model_dump() for way in WAYS]}),
            seed=0,
            provenance=Provenance(
                note=NOTE.format(count=len(rows), people=makers),
                attributions=sorted(people),
                settings=settings_of(trial.upscaler),
            ),
        )
        path = SHIPPED / f"{trial.config.name}.calibration"
        path.write_bytes(file.dump(made))
        print(path, made.id, made.n, {a: made.curve.threshold(a) for a in ALPHAS}, flush=True)


def judge(trials: Sequence[Trial], folder: Path, every: int) -> None:
    for trial in trials:
        calibration = file.load((SHIPPED / f"{trial.config.name}.calibration").read_bytes())
        found = [(trial.scores(read), read.wrong) for read in trial.all(folder, every)]
        law, most = calibration.law, {"highest": calibration.highest}
        of_scenes = {"scenes": law.scenes, "weights": law.weights, **most}
        rows = []
        for promise in (Expectation(), Probability(tolerance=words.ANY)):
            curve = promise.curve(law.loss_curves, 1.0, **of_scenes)
            for alpha in ALPHAS:
                trusted = [np.array(scores) < curve.threshold(alpha) for scores, _ in found]
                rows.append((promise.kind, f"{alpha:g}", *_judged(trusted, found)))
        rows.append(
            ("none", "", *_judged([np.ones(len(wrong), bool) for _, wrong in found], found))
        )
        count = sum(len(wrong) for _, wrong in found)
        print(f"\n{trial.name}: {calibration.n} scenes; {count} words, {len(found)} pictures\n")
        head = ("promise", "α", "wrong of those called right", "pictures with one", "right kept")
        print_table(head, rows)


def _judged(
    trusted: Sequence[NDArray[np.bool_]], found: Sequence[tuple[list[float], list[bool]]]
) -> tuple[str, str, str]:
    wrong = [np.array(judged, bool) for _, judged in found]
    shares = [
        words.share_wrong(one, is_wrong) for one, is_wrong in zip(trusted, wrong, strict=True)
    ]
    kept = sum(int((one & ~bad).sum()) for one, bad in zip(trusted, wrong, strict=True))
    right = sum(int((~bad).sum()) for bad in wrong)
    return (
        _mean(shares),
        _mean([float(share > 0) for share in shares]),
        f"{kept / max(1, right):.2f}",
    )


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values) / math.sqrt(len(values)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("task", choices=("fit", "ship", "judge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=["realesr-x4-bf16", "span-x4-bf16"])
    parser.add_argument("--fonts", type=Path, required=True, help="of the letters")
    parser.add_argument("--letters", type=float, nargs=2, default=(12, 100), metavar="PIXELS")
    parser.add_argument("--bare", action="store_true", help="draw nothing")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-words")
    given = parser.parse_args()
    fonts = [*given.fonts.rglob("*.ttf"), *given.fonts.rglob("*.otf")]
    lettering = Lettering(fonts, given.letters, test=given.task == "judge")
    drawn = None if given.bare else lettering
    trials = [Trial(name, drawn, given.keep) for name in given.names]
    {"fit": fit, "ship": ship, "judge": judge}[given.task](trials, given.folder, given.every)


if __name__ == "__main__":
    main()
