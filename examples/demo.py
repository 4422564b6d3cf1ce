"""`make demo`: a real photograph, four times larger, with its trust mask.

Runs what a server would run, in a data folder of its own, and writes the pictures to `demo-output`.
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


def main() -> int:
    """Upscale the photograph, put the pictures side by side, and say what they show."""
    with tempfile.TemporaryDirectory() as data_dir:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "app", "upscale", str(HERE / f"{PHOTO}.png")),
                *("--out", str(OUT), "--seed", "1", "--alpha", "0.05"),
            ],
            env={**os.environ, "TRUSTSCALE_DATA_DIR": data_dir},
            check=False,
        )
    if done.returncode:
        return done.returncode
    side_by_side(HERE / f"{PHOTO}.png", OUT / PHOTO).save(OUT / "side-by-side.png")
    print(  # noqa: T201 - the summary is what the demo is for
        f"""
Look at {OUT.name}/:
  side-by-side.png     photograph, upscaled, where errors may be larger (tinted), trust mask
  {PHOTO}.image.png     the upscaled image
  {PHOTO}.mask.png      white: trusted
  {PHOTO}.overlay.png   untrusted regions tinted
  {PHOTO}.trust.png     the trust level: the masks of every α in one 16-bit image
  {PHOTO}.result.json   the answer, with the guarantee in words"""
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


if __name__ == "__main__":
    sys.exit(main())
