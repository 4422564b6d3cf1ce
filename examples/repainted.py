"""Show what a generative model repaints, in four photographs: `python -m examples.repainted`.

The sharp model enlarges a sixteenth of the pixels of each. The pictures are written to
`demo-output/repainted`. When the model or the calibration has changed, `--replace` writes them over
those of README and docs/evidence-real.md, over the example of the first screen, and the shares
that can be relied on into the captions and into `docs/images/shares.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trustscale_server.calibrating.rewritten import worst

HERE = Path(__file__).parent
OUT = HERE.parent / "demo-output" / "repainted"
PAGES = HERE.parent
IMAGES = PAGES / "docs" / "images"
FIRST = HERE.parent / "app/trustscale_server/web/static/img/first"
SCALE, ALPHA = 4, 0.05
GAP, HEIGHT = 8, 300
CAPTIONS = ("what was uploaded", "what the model made", "the truth", "hatched: not trusted")
CAPTION_HEIGHT = 40
STEPS = (0.03, 0.05, 0.07)
BRIDGE = HERE / "bridge.png"
PROMISES = ("expectation", "post_hoc")  # of the bridge
SHARES = "shares.json"
# A page, what stands before a share in it, and whose share it is.
SAID = (
    ("README.md", "docs/images/badge.webp)", "astronaut"),
    *(
        ("docs/evidence-real.md", f"images/repainted-{name}.webp)", name)
        for name in ("astronaut", "hikers", "railing", "skyline")
    ),
    ("docs/faq.md", "Of `examples/bridge.png`", "bridge post_hoc"),
    ("docs/faq.md", "and by the command\nwithout it", "bridge expectation"),
)
GREY = 50  # the lightness of the swatches, of 100


class Lie(NamedTuple):
    """A photograph in `repainted/`, and the part of it to look at: left, top, right, bottom."""

    name: str
    look: tuple[int, int, int, int]

    @property
    def truth(self) -> Image.Image:
        """The photograph."""
        return Image.open(HERE / "repainted" / f"{self.name}.webp").convert("RGB")

    @property
    def small_size(self) -> tuple[int, int]:
        """Width and height of what is uploaded."""
        return self.truth.width // SCALE, self.truth.height // SCALE

    def write_small(self, folder: Path) -> Path:
        """Write what is uploaded: a sixteenth of the pixels."""
        path = folder / f"{self.name}.png"
        self.truth.resize(self.small_size, Image.Resampling.BICUBIC).save(path)
        return path


LIES = (
    Lie("astronaut", (125, 338, 217, 430)),
    Lie("hikers", (176, 222, 432, 382)),
    Lie("railing", (380, 290, 620, 440)),
    Lie("skyline", (170, 50, 410, 200)),
)


FIRST_LIE = 3  # of those
PANEL = 448  # pixels a side of what the first screen shows
MARKED = 0.9  # of the place, at least


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the model, write the pictures, and say where."""
    parser = argparse.ArgumentParser(prog="python -m examples.repainted", description=__doc__)
    parser.add_argument(
        "--replace", action="store_true", help="write over the pictures of docs and of the page"
    )
    replaces = parser.parse_args(arguments).replace
    images, first = (IMAGES, FIRST) if replaces else (OUT, OUT / "first")
    for place in (images, first):
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        small = [lie.write_small(Path(folder)) for lie in LIES]
        out = Path(folder, "out")
        answers = answers_to(small, out, "realesr-x4", Path(folder, "data"))
        sheets = [sheet(lie, path, out / lie.name) for lie, path in zip(LIES, small, strict=True)]
        for lie, picture in zip(LIES, sheets, strict=True):
            picture.save(images / f"repainted-{lie.name}.webp", quality=85, method=6)
        write_first(LIES[FIRST_LIE], small[FIRST_LIE], out / LIES[FIRST_LIE].name, first)
        with_captions(sheets[0]).save(images / "badge.webp", quality=88, method=6)
        shares = {name: answer["trusted_fraction"] for name, answer in answers.items()}
        if replaces:
            for promise in PROMISES:
                more = {"--guarantee": promise}
                made = answers_to([BRIDGE], out, "auto", Path(folder, "data"), more)[BRIDGE.stem]
                shares[f"{BRIDGE.stem} {promise}"] = made["trusted_fraction"]
            (images / SHARES).write_text(json.dumps(shares, indent=2) + "\n", "utf-8")
            for page in {page for page, _, _ in SAID}:
                path = PAGES / page
                path.write_text(captioned(path.read_text("utf-8"), page, shares), "utf-8")
    swatches().save(images / "alpha.webp", lossless=True)
    for name, share in shares.items():
        print(f"{name}: {percent(share)} can be relied on for colour")  # noqa: T201 - a report
    print(f"The pictures are in {images}, and in {first}")  # noqa: T201 - a report
    return 0


def captioned(text: str, page: str, shares: Mapping[str, float]) -> str:
    """Return a page with these shares in its captions. Raises ValueError: it has none."""
    for name, mark, whose in SAID:
        if name == page and whose in shares:
            before, found, after = text.partition(mark)
            after, count = re.subn(r"\d+ %", percent(shares[whose]), after, count=1)
            if not (found and count):
                raise ValueError(f"{page} has no share behind {mark}")
            text = before + found + after
    return text


def percent(share: float) -> str:
    """Return a share as captions say it."""
    return f"{100 * share:.0f} %"


def answers_to(
    pictures: Sequence[Path],
    out: Path,
    model: str,
    data_dir: Path,
    more: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """The documents by name; their files are in `out`."""
    run = [sys.executable, "-m", "trustscale_server", "upscale", *map(str, pictures)]
    options = {"--out": out, "--upscaler": model, "--alpha": ALPHA, "--seed": 1, **more}
    named = [str(part) for option in options.items() for part in option]
    command = [*run, *named, "--trust", "--overlay", "--overwrite", "--json"]
    env = {**os.environ, "TRUSTSCALE_DATA_DIR": str(data_dir)}
    printed = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    documents = [json.loads(line) for line in printed.splitlines()]
    return {Path(document["source"]["name"]).stem: document for document in documents}


def sheet(lie: Lie, upload: Path, stem: Path) -> Image.Image:
    """Draw upload, result, truth and marked result side by side; `stem` begins its files' names."""
    truth = lie.truth
    result, marked = (
        Image.open(f"{stem}.{part}.png").convert("RGB") for part in ("image", "overlay")
    )
    enlarged = Image.open(upload).resize(truth.size, Image.Resampling.BICUBIC)
    parts = [enlarged, result, truth, marked]
    left, top, right, bottom = lie.look
    width = HEIGHT * (right - left) // (bottom - top)
    drawn = Image.new("RGB", (4 * (width + GAP) - GAP, HEIGHT), "white")
    for place, part in enumerate(parts):
        crop = part.crop(lie.look).resize((width, HEIGHT), Image.Resampling.BICUBIC)
        drawn.paste(crop, (place * (width + GAP), 0))
    return drawn


def with_captions(row: Image.Image) -> Image.Image:
    """Write above each part of a row what it is."""
    drawn = Image.new("RGB", (row.width, row.height + CAPTION_HEIGHT), "white")
    drawn.paste(row, (0, CAPTION_HEIGHT))
    width = (row.width + GAP) / len(CAPTIONS)
    for place, caption in enumerate(CAPTIONS):
        middle = (place * width + (width - GAP) / 2, CAPTION_HEIGHT / 2)
        write(drawn, middle, caption)
    return drawn


def swatches() -> Image.Image:
    """Draw for some α two greys that are this far apart: the largest error that is accepted."""
    side, width = 96, 200
    drawn = Image.new("RGB", (len(STEPS) * (width + GAP) - GAP, side + CAPTION_HEIGHT), "white")
    pen = ImageDraw.Draw(drawn)
    for place, alpha in enumerate(STEPS):
        left = place * (width + GAP)
        for half, lightness in enumerate((GREY, GREY + 100 * alpha)):
            start = left + half * width // 2
            box = (start, CAPTION_HEIGHT, start + width // 2 - 1, CAPTION_HEIGHT + side)
            pen.rectangle(box, fill=(grey(lightness),) * 3)
        write(drawn, (left + width / 2, CAPTION_HEIGHT / 2), f"{alpha}")
    return drawn


def grey(lightness: float) -> int:
    """Return the sRGB value, 0 to 255, of a grey of a CIE lightness of 8 to 100."""
    linear = float(((lightness + 16) / 116) ** 3)
    return round(255 * (1.055 * linear ** (1 / 2.4) - 0.055))


def write(drawn: Image.Image, middle: tuple[float, float], text: str) -> None:
    """Write a caption around a point."""
    font = ImageFont.load_default(24)
    ImageDraw.Draw(drawn).text(middle, text, fill="black", font=font, anchor="mm")


def write_first(lie: Lie, upload: Path, stem: Path, folder: Path) -> None:
    """Write the example of the page's first screen: what the model rewrote most, three times."""
    x, truth = (np.asarray(part.convert("RGB")) for part in (Image.open(upload), lie.truth))
    result = np.asarray(Image.open(f"{stem}.image.png").convert("RGB"))
    trusted = np.asarray(Image.open(f"{stem}.mask.png").convert("1"))
    [found] = worst(truth, result)
    left, top, right, bottom = found.box
    if 1 - trusted[top:bottom, left:right].mean() < MARKED:
        raise SystemExit(
            "The page says that this place was marked, and it was not: choose another."
        )
    enlarged = Image.fromarray(x).resize(lie.truth.size, Image.Resampling.BICUBIC)
    parts = [enlarged, Image.fromarray(result), lie.truth]
    drawn = Image.new("RGB", (3 * PANEL, PANEL))
    for place, part in enumerate(parts):
        crop = part.crop(found.box).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
        drawn.paste(crop, (place * PANEL, 0))
    drawn.save(folder / "lie.webp", quality=80, method=6)


if __name__ == "__main__":
    sys.exit(main())
