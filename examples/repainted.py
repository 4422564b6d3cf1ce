"""What a generative model repaints, in four photographs: `python -m examples.repainted`.

The sharp model enlarges a sixteenth of the pixels of each; the marked results are the pictures of
docs/evidence.md, and the first one the example of the page. Run again when model or calibration
change.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
FIRST = HERE.parent / "app" / "web" / "static" / "img" / "first"
SCALE, ALPHA = 4, 0.1
GAP, HEIGHT = 8, 300


class Lie(NamedTuple):
    """A photograph in `repainted/`, and the part of it to look at: left, top, right, bottom."""

    name: str
    look: tuple[int, int, int, int]

    @property
    def truth(self) -> Image.Image:
        return Image.open(HERE / "repainted" / f"{self.name}.webp").convert("RGB")


LIES = (
    Lie("astronaut", (125, 338, 217, 430)),
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
        write_first(LIES[0], Path(folder, "out", LIES[0].name))
    for name, answer in answers.items():
        print(f"{name}: {answer['trusted_fraction']:.1%} trusted")  # noqa: T201 - a report
    return 0


def answers_to(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents by name; their files are in `out`."""
    command = [
        *(
            sys.executable,
            "-m",
            "trustscale_server",
            "upscale",
            str(folder),
            "--out",
            str(folder / "out"),
        ),
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


def write_first(lie: Lie, stem: Path) -> None:
    """The example of the first screen: of the truth only the part to look at."""
    FIRST.mkdir(parents=True, exist_ok=True)
    Image.open(stem.parents[1] / f"{lie.name}.png").save(FIRST / "input.webp", quality=85)
    made = Image.open(f"{stem}.image.png").convert("RGB")
    made.save(FIRST / "model.webp", quality=80, method=6)
    lie.truth.crop(lie.look).save(FIRST / "truth.webp", quality=92, method=6)
    Image.open(f"{stem}.mask.png").convert("1").save(FIRST / "mask.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
