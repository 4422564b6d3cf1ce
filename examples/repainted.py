"""Show what a generative model repaints, in four photographs: `python -m examples.repainted`.

The sharp model enlarges a sixteenth of the pixels of each. The results are the pictures of README
and docs/evidence.md, and the first one is the example of the page. Run it again when the model or
the calibration changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
FIRST = HERE.parent / "app" / "web" / "static" / "img" / "first"
SCALE, ALPHA = 4, 0.05
GAP, HEIGHT = 8, 300
CAPTIONS = ("what was uploaded", "what the model made", "the truth", "hatched: not trusted")
CAPTION_HEIGHT = 40
STEPS = (0.03, 0.05, 0.07)
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


def main() -> int:
    """Ask the model, and write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        small = [lie.write_small(Path(folder)) for lie in LIES]
        out = Path(folder, "out")
        answers = answers_to(small, out, "realesr-x4", Path(folder, "data"))
        sheets = [sheet(lie, path, out / lie.name) for lie, path in zip(LIES, small, strict=True)]
        for lie, picture in zip(LIES, sheets, strict=True):
            picture.save(IMAGES / f"repainted-{lie.name}.webp", quality=85, method=6)
        write_first(LIES[0], small[0], out / LIES[0].name)
        with_captions(sheets[0]).save(IMAGES / "badge.webp", quality=88, method=6)
    swatches().save(IMAGES / "alpha.webp", lossless=True)
    for name, answer in answers.items():
        print(f"{name}: {answer['trusted_fraction']:.1%} trusted")  # noqa: T201 - a report
    return 0


def answers_to(
    pictures: Sequence[Path], out: Path, model: str, data_dir: Path
) -> dict[str, dict[str, Any]]:
    """The documents by name; their files are in `out`."""
    run = [sys.executable, "-m", "trustscale_server", "upscale", *map(str, pictures)]
    options = {"--out": out, "--upscaler": model, "--alpha": ALPHA, "--seed": 1}
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


def write_first(lie: Lie, upload: Path, stem: Path) -> None:
    """Write the example of the page's first screen; of the truth only the part to look at."""
    FIRST.mkdir(parents=True, exist_ok=True)
    Image.open(upload).save(FIRST / "input.webp", quality=85)
    result = Image.open(f"{stem}.image.png").convert("RGB")
    result.save(FIRST / "model.webp", quality=80, method=6)
    lie.truth.crop(lie.look).save(FIRST / "truth.webp", quality=92, method=6)
    Image.open(f"{stem}.mask.png").convert("1").save(FIRST / "mask.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
