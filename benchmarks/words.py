"""Words that are called right: their σ is fitted, calibrations for text are made and judged.

    python -m benchmarks.words fit DIR --fonts FOLDER
    python -m benchmarks.words ship DIR NAME… --fonts FOLDER
    python -m benchmarks.words judge DIR NAME… --fonts FOLDER [--letters 14 56] [--bare]

DIR holds photographs, on which `lettering.py` draws text in the fonts of FOLDER; X is made in three
ways in turn: without loss, as JPEG 75 to 95, and as JPEG 50 to 74. `fit` writes the weights of
`sigma/fits/reading.json` from the words of both models. `ship` writes
`calibration/shipped/NAME-text.calibration` for names such as `realesr-x4-bf16`. `judge` draws
other words, and prints for both promises, for each α, and without a choice: the share of wrong
words among those called right, and of pictures with one, with standard errors, and how many of the
right words are called right, by the height of their boxes in pixels. `--bare` reads the photographs
as they are.

What was read is kept in `--keep`, so that a stopped run continues. `pip install babel` is needed.
Shipped: `fit photos/distinct/a --every 3` and `ship photos/distinct/b {realesr,span}-x4-{bf16,f32}
--every 2`, fonts of Debian's fonts-{liberation,dejavu-core,roboto-unhinted,open-sans,
crosextra-caladea,crosextra-carlito,hack,firacode}. Judged: `judge photos/test --most 50`, fonts of
fonts-{lato,cabin,vollkorn,adf-universalis,league-spartan,quicksand,play,ebgaramond,dosis,comfortaa,
cantarell}.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

from benchmarks.lettering import Lettering
from benchmarks.photos import photo_folder
from benchmarks.ship import SHIPPED
from benchmarks.table import print_table
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import Pair, load_pair
from trustscale_server.calibrating.reduction import pair_from_words, pair_info
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantee_kinds import Expectation, Probability
from trustscale_server.calibration.manifest import Provenance
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal import words
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.encoding.png import to_png
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.measure import measured_again, predict
from trustscale_server.sampling.sigma import words as estimators
from trustscale_server.sampling.sigma.moments import Moments
from trustscale_server.sampling.sigma.words import TERMS, ReadingFit, ReadPage
from trustscale_server.things import reading
from trustscale_server.upscalers.base import RGB, Source, settings_of
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

T = TypeVar("T")
WAYS = (Degradation(), Degradation(jpeg=(75, 95)), Degradation(jpeg=(50, 74)))
WEIGHTS = Path("app/trustscale_server/sampling/sigma/fits/reading.json")
RIDGE = 0.01
ALPHAS = (0.05, 0.1)
HEIGHTS = (0, 28, 56, math.inf)
NOTE = (
    "Text rendered over {count} photographs by {people} people and series, no real lettering: "
    "signs, number plates, documents and screens, printed in Latin letters and digits, words of "
    "ten European languages, font sizes of 12 to 100 pixels in the result, uploads as PNG and JPEG "
    "50 to 95; no handwriting, no other scripts, nothing bent or in perspective."
)


Photograph = tuple[Path, Degradation]
"""A file, and how X is made of it."""


class Read(NamedTuple):
    """One picture as it was read: Ŷ, its page, and which of its words the truth shows otherwise."""

    pair: Pair
    made: RGB
    page: ReadPage
    wrong: list[bool]


class Judged(NamedTuple):
    """Of the words of one picture."""

    scores: NDArray[np.float64]
    heights: NDArray[np.float64]
    wrong: NDArray[np.bool_]


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

    def all(self, photographs: Sequence[Photograph]) -> Iterator[Read]:
        for path, way in photographs:
            truth = decode(path.read_bytes(), PAIR_LIMITS).rgb
            if self.lettering is not None:
                truth = self.lettering.on(truth)
            yield self.read(path.stem, truth, way)

    def read(self, name: str, truth: RGB, way: Degradation) -> Read:
        pair = load_pair(
            PairSource(name), {"y": to_png(truth)}, self.pipeline, degradation=way, seed=0
        )
        content = f"{pair.x_sha256} {pair.y_sha256} {self.name}"

        def made_and_read() -> tuple[bytes, ReadPage, list[bool]]:
            source = Source(pair.x, pair.features)
            made = self.runner.run(predict(self.upscaler, source, pair.seed))
            page = self.page(made, pair)
            return (
                to_png(made),
                page,
                reading.read_otherwise(page.made, pair.y),
            )

        picture, page, wrong = self.kept(content, "read", made_and_read)
        return Read(pair, decode(picture, PAIR_LIMITS).rgb, page, wrong)

    def page(self, made: RGB, pair: Pair) -> ReadPage:
        """As `ReadPage.from_pictures`, but all models share one reading of the enlarged input."""
        scale = self.pipeline.scale
        plain = Enlarged(pair.x, scale)[:]
        lines = self.kept(f"{pair.x_sha256} {scale}", "plain", lambda: reading.read_lines(plain))
        found = reading.read_lines(made)
        return ReadPage(
            found,
            reading.read_otherwise(found, plain),
            lines,
            scale,
        )

    def kept(self, content: str, kind: str, make: Callable[[], T]) -> T:
        """What `make` returns, kept under a digest of the content that it depends on."""
        path = self.keep / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.{kind}"
        if not path.exists():
            path.with_suffix(".part").write_bytes(pickle.dumps(make()))
            path.with_suffix(".part").replace(path)
        found: T = pickle.loads(path.read_bytes())
        return found

    def measured(self, read: Read) -> MeasuredPair:
        """As `trustscale calibrate --metric text` would."""
        source = Source(read.pair.x, read.pair.features)
        found = measured_again([read.made], source, self.pipeline, page=read.page)
        info = pair_info(read.pair, found, self.pipeline)
        return pair_from_words(info, found.sigma, read.page, read.wrong)

    def judged(self, read: Read) -> Judged:
        """σ and height of each word, and whether it is wrong."""
        source = Source(read.pair.x, read.pair.features)
        sigma = measured_again([read.made], source, self.pipeline, page=read.page).sigma
        boxes = [word.corners for word in read.page.words]
        heights = [np.linalg.norm(box[:2] - box[:1:-1], axis=1).mean() for box in boxes]
        scores = words.scores_of(boxes, sigma)
        return Judged(np.array(scores), np.array(heights), np.array(read.wrong, bool))


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


def fit(trials: Sequence[Trial], photographs: Sequence[Photograph]) -> None:
    pages = []
    for trial in trials:
        for read in trial.all(photographs):
            moments = Moments(read.made.shape, Enlarged(read.pair.x, trial.pipeline.scale))
            moments.add(read.made)
            if read.page.words:
                pages.append((estimators.terms(read.page, moments.departure()), read.wrong))
    count = sum(len(wrong) for _, wrong in pages)
    of = "/".join(photographs[0][0].parent.parts[-2:])
    note = f"{count} words of {len(pages)} pictures of lettering on photographs of {of}"
    made = fitted(pages, note)
    document = {"weights": made.weights, "offset": made.offset, "note": note}
    WEIGHTS.write_text(json.dumps(document, indent=1) + "\n")
    print(made)


def ship(trials: Sequence[Trial], photographs: Sequence[Photograph]) -> None:
    taken = {path.name for path, _ in photographs}
    with (photographs[0][0].parent / "manifest.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["file"] in taken]
    people = {f"{row['attribution']} ({row['licence']})"[:1000] for row in rows}
    makers = len({row["group"] for row in rows})
    for trial in trials:
        made = Calibration.from_pairs(
            [trial.measured(read) for read in trial.all(photographs)],
            name=trial.config.name,
            upscaler=trial.upscaler.name,
            pipeline=trial.pipeline,
            guarantee=trial.config.guarantee,
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


def judge(trials: Sequence[Trial], photographs: Sequence[Photograph]) -> None:
    for trial in trials:
        calibration = file.load((SHIPPED / f"{trial.config.name}.calibration").read_bytes())
        found = [trial.judged(read) for read in trial.all(photographs)]
        subset = calibration.everything
        rows = []
        for promise in (Expectation(), Probability(tolerance=words.ANY)):
            curve = promise.curve(subset.calibration_set)
            rows += [
                (promise.kind, f"{alpha:g}", *_judged(found, curve.threshold(alpha)))
                for alpha in ALPHAS
            ]
        rows.append(("none", "", *_judged(found, math.inf)))
        count = sum(len(one.wrong) for one in found)
        print(f"\n{trial.name}: {calibration.n} scenes; {count} words, {len(found)} pictures\n")
        kept = [f"right kept, {low:g} to {high:g}" for low, high in pairwise(HEIGHTS)]
        head = ("promise", "α", "wrong of those called right", "pictures with one", *kept)
        print_table(head, rows)


def _judged(found: Sequence[Judged], threshold: float) -> list[str]:
    trusted = [one.scores < threshold for one in found]
    wrong = [one.wrong for one in found]
    shares = [words.share_wrong(*both) for both in zip(trusted, wrong, strict=True)]
    cells = [_mean(shares), _mean([float(share > 0) for share in shares])]
    right, kept, heights = (
        np.concatenate(of_all)
        for of_all in (
            [~one for one in wrong],
            [one & ~bad for one, bad in zip(trusted, wrong, strict=True)],
            [one.heights for one in found],
        )
    )
    for low, high in pairwise(HEIGHTS):
        is_so_high = (heights >= low) & (heights < high)
        of = int(right[is_so_high].sum())
        cells.append(f"{kept[is_so_high].sum() / max(1, of):.2f} of {of}")
    return cells


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values) / math.sqrt(len(values)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("task", choices=("fit", "ship", "judge"))
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("names", nargs="*", default=["realesr-x4-bf16", "span-x4-bf16"])
    parser.add_argument("--fonts", type=Path, required=True, help="of the letters")
    parser.add_argument("--letters", type=float, nargs=2, default=(12, 100), metavar="PIXELS")
    parser.add_argument("--bare", action="store_true", help="draw nothing")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--but", type=int, help="leave out every so manieth, which `fit` has seen")
    parser.add_argument("--most", type=int, help="so many of these, the first ones; default: all")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-words")
    given = parser.parse_args()
    fonts = [*given.fonts.rglob("*.ttf"), *given.fonts.rglob("*.otf")]
    lettering = Lettering(fonts, given.letters, test=given.task == "judge")
    drawn = None if given.bare else lettering
    trials = [Trial(name, drawn, given.keep) for name in given.names]
    every = sorted(given.folder.glob("*.webp"))
    fitted_on = set(every[:: given.but] if given.but else ())
    chosen = list(zip(every[:: given.every], cycle(WAYS), strict=False))[: given.most]
    photographs = [(path, way) for path, way in chosen if path not in fitted_on]
    {"fit": fit, "ship": ship, "judge": judge}[given.task](trials, photographs)


if __name__ == "__main__":
    main()
