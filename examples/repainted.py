"""What a generative model repaints, in three photographs: `python -m examples.repainted`.

The sharp model enlarges a sixteenth of the pixels of each; the marked results are the pictures of
README and docs/evidence.md, and the first one the example of the page. Run again when model or
calibration change.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from app.images.encode import png

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
FIRST = HERE.parent / "app" / "web" / "static" / "img" / "first"
SCALE, ALPHA = 4, 0.1
STEPS, LEVELS = 65534, 24
"""Values of `trust.png`, and how many of them the page gets: few, so that the file is small."""
GAP, HEIGHT = 8, 300


class Lie(NamedTuple):
    """A photograph in `repainted/`, and the part of it to look at: left, top, right, bottom."""

    name: str
    look: tuple[int, int, int, int]

    @property
    def truth(self) -> Image.Image:
        return Image.open(HERE / "repainted" / f"{self.name}.webp").convert("RGB")


LIES = (
    Lie("hikers", (176, 222, 432, 382)),
    Lie("railing", (380, 290, 620, 440)),
    Lie("skyline", (170, 50, 410, 200)),
)


def main() -> int:
    """Ask the model, and write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for lie in LIES:
            small = Path(folder, f"{lie.name}.png")
            truth = lie.truth
            size = (truth.width // SCALE, truth.height // SCALE)
            truth.resize(size, Image.Resampling.BICUBIC).save(small)
        answers = answers_to(Path(folder))
        for lie in LIES:
            stem = Path(folder, "out", lie.name)
            sheet(lie, stem).save(IMAGES / f"repainted-{lie.name}.webp", quality=85, method=6)
        write_first(LIES[0], Path(folder, "out", LIES[0].name), answers[LIES[0].name])
    for name, answer in answers.items():
        print(f"{name}: {answer['trusted_fraction']:.1%} trusted")  # noqa: T201 - a report
    return 0


def answers_to(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents by name; their files are in `out`."""
    command = [
        *(sys.executable, "-m", "app", "upscale", str(folder), "--out", str(folder / "out")),
        *(
            "--upscaler",
            "realesr-x4",
            "--alpha",
            str(ALPHA),
            "--seed",
            "1",
            "--trust",
            "--overlay",
            "--json",
        ),
    ]
    env = {**os.environ, "TRUSTSCALE_DATA_DIR": str(folder / "data")}
    said = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    found = [json.loads(line) for line in said.splitlines()]
    return {Path(one["source"]["name"]).stem: one for one in found}


def sheet(lie: Lie, stem: Path) -> Image.Image:
    """Input, result, marked result and truth side by side."""
    small = Image.open(stem.parents[1] / f"{lie.name}.png")
    truth = lie.truth
    parts = [
        small.resize(truth.size, Image.Resampling.BICUBIC),
        *(Image.open(f"{stem}.{part}.png").convert("RGB") for part in ("image", "overlay")),
        truth,
    ]
    left, top, right, bottom = lie.look
    width = HEIGHT * (right - left) // (bottom - top)
    drawn = Image.new("RGB", (4 * (width + GAP) - GAP, HEIGHT), "white")
    for place, part in enumerate(parts):
        shown = part.crop(lie.look).resize((width, HEIGHT), Image.Resampling.BICUBIC)
        drawn.paste(shown, (place * (width + GAP), 0))
    return drawn


def write_first(lie: Lie, stem: Path, answer: dict[str, Any]) -> None:
    """The example of the first screen."""
    FIRST.mkdir(parents=True, exist_ok=True)
    Image.open(stem.parents[1] / f"{lie.name}.png").save(FIRST / "input.webp", quality=90)
    for name, picture in (("image", Image.open(f"{stem}.image.png")), ("truth", lie.truth)):
        picture.convert("RGB").save(FIRST / f"{name}.webp", quality=82, method=6)
    limit = int(answer["alpha"] / answer["guarantee"]["bound"] * STEPS)
    codes = coarse(np.asarray(Image.open(f"{stem}.trust.png")).astype(np.uint16), limit)
    (FIRST / "trust.png").write_bytes(png(codes))
    facts = {
        "width": answer["width"],
        "height": answer["height"],
        "limit": limit,
        "alpha": answer["alpha"],
        "trusted_fraction": answer["trusted_fraction"],
        "sentence": answer["guarantee"]["sentence"],
        "look": lie.look,
    }
    (FIRST / "facts.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n")


def coarse(codes: np.ndarray, limit: int) -> np.ndarray:
    """Codes, uint16 [h, w], rounded up to a few levels, one of which is the limit."""
    levels = np.unique([*np.geomspace(1, STEPS, LEVELS).astype(int), limit, STEPS + 1])
    return levels[np.searchsorted(levels, codes)].astype(np.uint16)


if __name__ == "__main__":
    sys.exit(main())
