"""Which words are guessed: `python -m benchmarks.text DIR TEST --fonts FOLDER`.

DIR and TEST hold different photographs (only Y). On each a sign, a number plate or a page is drawn:
in DIR with fonts of matplotlib and words of LICENSE, in TEST with the fonts of FOLDER and words of
SECURITY.md, letters between two heights (`--letters`). A text reader labels (metric `text`); σ is
fitted on a share of DIR, as `trustscale calibrate` does, and the rest calibrates. For each upscaler
and α, of the pictures of TEST: in how many a wrong word is in the mask, with the standard error;
how much of the picture is trusted; how many of the words that are read alike lie wholly in the
mask; and in how many pictures the mask has a word that only the result has, of which nothing is
promised.

`--keep DIR` stores measurements, so that a stopped run continues.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import pickle
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple, TypeAlias, TypeVar

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.table import print_table
from trustscale_server.calibration.config import CalibrationConfig, shares, usual_share
from trustscale_server.calibration.fit import Photograph, fit, fit_sample
from trustscale_server.calibration.intake import find_in
from trustscale_server.calibration.pairs import Pair, load_pair
from trustscale_server.conformal import LossCurve, reader
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import Degradation
from trustscale_server.images.encode import png_rgb
from trustscale_server.sampling.pipeline import Pipeline, measure, measured_again
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.embedded import EmbeddedUpscaler
from trustscale_server.upscalers.runtime import SHIPPED

T = TypeVar("T")
Drawn: TypeAlias = tuple[str, tuple[int, ...], tuple[int, ...]]
"""Lines of words, the colour of what they stand on, and theirs."""

ALPHAS = (0.05, 0.1, 0.2)
PLATE = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"


class Drawer:
    """Draws text of some fonts, heights in pixels (log-uniform) and words on photographs."""

    def __init__(self, fonts: Sequence[Path], letters: tuple[float, float], words: Path) -> None:
        self.fonts, self.letters = sorted(fonts), letters
        self.words = re.findall(r"[A-Za-z]{3,}|[0-9]+", words.read_text("utf-8"))

    def drawn(self, photo: RGB) -> RGB:
        """The photograph with a sign, a plate or a page, always the same one."""
        random = np.random.default_rng(zlib.crc32(photo.tobytes()))
        height = math.exp(random.uniform(*np.log(self.letters)))
        kind = (self._sign, self._plate, self._page)[random.integers(3)]
        font = ImageFont.truetype(str(random.choice(np.array(self.fonts, str))), 2 * height)
        text, paper, ink = kind(random, int(photo.shape[1] * 1.6 / height))
        left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
            (0, 0), text, font, spacing=height
        )
        edge = height * random.uniform(0.6, 1.6)
        size = (math.ceil(right - left + 2 * edge), math.ceil(bottom - top + 2 * edge))
        surface = Image.new("RGBA", size, (*paper, 255))
        ImageDraw.Draw(surface).multiline_text(
            (edge - left, edge - top), text, (*ink, 255), font, spacing=height
        )
        angle = random.uniform(-6, 6)
        surface = surface.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        surface = surface.resize((surface.width // 2, surface.height // 2), Image.Resampling.BOX)
        picture = Image.fromarray(photo)
        at = [
            int(random.integers(min(0, free), max(0, free) + 1))
            for free in np.subtract(picture.size, surface.size)
        ]
        picture.paste(surface, (at[0], at[1]), surface)
        return np.asarray(picture)

    def _sign(self, random: np.random.Generator, letters: int) -> Drawn:
        bright = random.integers(150, 256, 3)
        dark = random.integers(0, 90, 3)
        colours = (bright, dark) if random.random() < 0.5 else (dark, bright)
        return self._lines(random, random.integers(1, 4), letters), *map(tuple, colours)

    def _plate(self, random: np.random.Generator, letters: int) -> Drawn:
        del letters
        number = "".join(random.choice(list(PLATE), 6))
        paper = (250, 250, 245) if random.random() < 0.5 else (245, 200, 40)
        return f"{number[:2]} {number[2:]}", paper, (15, 15, 20)

    def _page(self, random: np.random.Generator, letters: int) -> Drawn:
        grey = int(random.integers(215, 256))
        return self._lines(random, random.integers(4, 9), letters), (grey, grey, grey), (25, 25, 25)

    def _lines(self, random: np.random.Generator, count: int, letters: int) -> str:
        lines = []
        for _ in range(count):
            line = str(random.choice(self.words))
            while len(line) < letters * random.uniform(0.3, 0.8):
                line = f"{line} {random.choice(self.words)}"
            lines.append(line[: max(letters, 8)])
        return "\n".join(lines)


class Seen(NamedTuple):
    """One picture, measured: what σ is made of, D, and words by their boxes (top, left, …).

    error: bool [H, W]. right: words that the reader reads in both. invented: those that it reads in
    the result only, and no D counts.
    """

    samples: list[RGB]
    error: NDArray[np.bool_]
    right: list[tuple[slice, slice]]
    invented: list[tuple[slice, slice]]


class Trial:
    """One upscaler: measured, fitted, calibrated, tried."""

    def __init__(self, name: str, keep: Path) -> None:
        self.upscaler = EmbeddedUpscaler(name, name)
        self.config = CalibrationConfig(fidelity={"metric": "text"})
        self.pipeline = self.config.pipeline(self.upscaler)
        self.keep = keep / name
        self.keep.mkdir(parents=True, exist_ok=True)
        self.runner = asyncio.Runner()

    def kept(self, pair: Pair, kind: str, make: Callable[[], T]) -> T:
        """What was measured of a pair, unless it is known."""
        path = self.keep / f"{pair.x_sha256[:32]}.{kind}"
        if not path.exists():
            path.with_suffix(".part").write_bytes(pickle.dumps(make()))
            path.with_suffix(".part").replace(path)
        found: T = pickle.loads(path.read_bytes())
        return found

    def samples(self, pair: Pair) -> list[RGB]:
        drawn: dict[int, RGB] = {}
        source = Source(pair.x, pair.facts)
        self.runner.run(
            measure(self.upscaler, source, self.pipeline, pair.seed, on_sample=drawn.__setitem__)
        )
        return list(drawn.values())

    def photograph(self, pair: Pair) -> Photograph:
        """What a fit sees of a pair."""
        return self.kept(pair, "fit", lambda: fit_sample(pair, self.samples(pair), self.pipeline))

    def seen(self, pair: Pair, *, both_ways: bool) -> Seen:
        return self.kept(pair, f"seen{both_ways:d}", lambda: self._seen(pair, both_ways))

    def _seen(self, pair: Pair, both_ways: bool) -> Seen:
        samples = self.samples(pair)
        settings = self.pipeline.fidelity.reader
        assert isinstance(settings, reader.ReaderSettings)
        error, right = np.zeros(pair.y.shape[:2], bool), []
        for box, is_wrong in words(pair.y, samples[0], settings):
            if is_wrong:
                error[box] = True
            else:
                right.append(box)
        back = words(samples[0], pair.y, settings) if both_ways else ()
        invented = [box for box, is_wrong in back if is_wrong and not error[box].any()]
        return Seen(samples, error, right, invented)

    def sigma(self, pair: Pair, seen: Seen, pipeline: Pipeline) -> NDArray[np.float32]:
        source = Source(pair.x, pair.facts)
        return measured_again(seen.samples, source, pipeline).sigma


def words(
    truth: RGB, made: RGB, settings: reader.ReaderSettings
) -> Iterator[tuple[tuple[slice, slice], bool]]:
    """The boxes of the words that the reader reads in the truth, and whether D counts them."""
    for line, reading in reader.lines(truth, made):
        wrong = reader.misread([word.letters for word in line], reading)
        for word, is_wrong in zip(line, wrong, strict=True):
            if word.letters and word.confidence >= settings.legible:
                yield reader.box_of(word, settings.margin), is_wrong


def pairs_of(folder: Path, drawer: Drawer, pipeline: Pipeline, every: int) -> list[Pair]:
    """The photographs of a folder with text on them, and their inputs."""
    found = []
    for files in list(find_in(folder))[::every]:
        path = Path(str(files.y))
        truth = drawer.drawn(decode(path.read_bytes(), PAIR_LIMITS).rgb)
        pair = load_pair(
            path.stem, png_rgb(truth), None, pipeline, degradation=Degradation(), seed=0
        )
        found.append(pair)
    return found


def tried(trial: Trial, pairs: Sequence[Pair], tests: Sequence[Pair]) -> None:
    share = usual_share(len(pairs))
    chosen = shares({pair.name: pair.name for pair in pairs}, share, trial.config.seed).fitted
    photographs = [trial.photograph(pair) for pair in pairs if pair.name in chosen]
    pipeline = fit(photographs, trial.pipeline, len(photographs), trial.upscaler.name)
    loss_curves = []
    for pair in pairs:
        if pair.name not in chosen:
            seen = trial.seen(pair, both_ways=False)
            sigma = trial.sigma(pair, seen, pipeline)
            loss_curves.append(LossCurve.from_maps(sigma, seen.error.astype(np.float32)))
    curve = trial.config.guarantee.curve(loss_curves, 1.0)
    n, rows = len(tests), []
    found = [trial.seen(pair, both_ways=True) for pair in tests]
    sigmas = [trial.sigma(pair, seen, pipeline) for pair, seen in zip(tests, found, strict=True)]
    for alpha in (*ALPHAS, 1.0):
        wrong, area, right, invented = [], [], [], 0
        for seen, sigma in zip(found, sigmas, strict=True):
            mask = curve.mask(sigma, alpha) if alpha < 1 else np.ones_like(seen.error)
            wrong.append(bool((seen.error & mask).any()))
            area.append(mask.mean())
            right += [mask[box].all() for box in seen.right]
            invented += any(mask[box].any() for box in seen.invented)
        risk = np.mean(wrong)
        rows.append(
            (
                f"{alpha:g}" if alpha < 1 else "all trusted",
                f"{risk:.3f} ± {math.sqrt(risk * (1 - risk) / n):.3f}",
                f"{np.mean(area):.2f}",
                f"{np.mean(right):.2f}",
                f"{invented / n:.3f}",
            )
        )
    blank = sum(not seen.right and not seen.error.any() for seen in found)
    print(
        f"\n{trial.upscaler.name}: σ of {len(photographs)}, calibrated on {len(loss_curves)}, "
        f"tried on {n} pictures; in {blank} of these the reader reads no word of the truth\n",
        flush=True,
    )
    head = ("α", "a wrong word in the mask", "trusted", "right words in it", "invented in it")
    print_table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--fonts", type=Path, required=True, help="with fonts for TEST")
    parser.add_argument("--upscaler", choices=list(SHIPPED), nargs="+", default=list(SHIPPED))
    parser.add_argument("--letters", type=float, nargs=2, default=(14, 56), metavar="PIXELS")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-text")
    given = parser.parse_args()
    own = Path(mpl.get_data_path(), "fonts/ttf").glob("DejaVu*[!y].ttf")
    here = Drawer(list(own), given.letters, Path("LICENSE"))
    fonts = [*given.fonts.rglob("*.ttf"), *given.fonts.rglob("*.otf")]
    there = Drawer(fonts, given.letters, Path("SECURITY.md"))
    for name in given.upscaler:
        trial = Trial(name, given.keep)
        pairs = pairs_of(given.folder, here, trial.pipeline, given.every)
        tried(trial, pairs, pairs_of(given.test, there, trial.pipeline, given.every))


if __name__ == "__main__":
    main()
