"""`make demo`: a photograph, four times larger by both shipped models, with their trust masks.

Runs what a server would run, in its own data folder, and writes the pictures to `demo-output`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
OUT = HERE.parent / "demo-output"
PHOTO = "bridge"
MODELS = ("span-x4", "realesr-x4")


def main() -> int:
    """Upscale the photograph, and put the pictures side by side."""
    rows = []
    with tempfile.TemporaryDirectory() as data_dir:
        for model in MODELS:
            done = subprocess.run(
                [
                    *(
                        sys.executable,
                        "-m",
                        "trustscale_server",
                        "upscale",
                        str(HERE / f"{PHOTO}.png"),
                    ),
                    *("--out", str(OUT / model), "--seed", "1", "--alpha", "0.05"),
                    *("--upscaler", model, "--overwrite", "--overlay", "--trust"),
                ],
                env={**os.environ, "TRUSTSCALE_DATA_DIR": data_dir},
                check=False,
            )
            if done.returncode:
                return done.returncode
            rows.append(side_by_side(HERE / f"{PHOTO}.png", OUT / model / PHOTO))
    below_each_other(rows).save(OUT / "side-by-side.png")
    print(  # noqa: T201 - the summary is what the demo is for
        f"""
Look at {OUT.name}/:
  side-by-side.png     photograph, upscaled, where errors may be larger (tinted), trust mask;
                       above by the faithful model, below by the sharp one, which repaints
  {MODELS[0]}/, {MODELS[1]}/ the files of each:
  {PHOTO}.image.png     the upscaled image
  {PHOTO}.mask.png      white: trusted
  {PHOTO}.overlay.png   untrusted regions tinted
  {PHOTO}.trust.png     the trust level: the masks of every α in one 16-bit image
  {PHOTO}.result.json   the answer, with the guarantee as text"""
    )
    return 0


def side_by_side(photo: Path, stem: Path) -> Image.Image:
    """The photograph enlarged without a model, the upscaled image, the overlay and the mask."""
    names = ("image", "overlay", "mask")
    parts = [Image.open(f"{stem}.{name}.png").convert("RGB") for name in names]
    size = parts[0].size
    pixels = Image.open(photo).convert("RGB").resize(size, Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (4 * size[0] + 48, size[1]), "white")
    for place, part in enumerate([pixels, *parts]):
        sheet.paste(part, (place * (size[0] + 16), 0))
    return sheet


def below_each_other(rows: list[Image.Image]) -> Image.Image:
    """The rows as one picture."""
    width, height = rows[0].size
    sheet = Image.new("RGB", (width, len(rows) * (height + 16) - 16), "white")
    for place, row in enumerate(rows):
        sheet.paste(row, (0, place * (height + 16)))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
