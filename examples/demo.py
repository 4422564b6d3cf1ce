"""`make demo`: one crop that shows what a model invents, and what the mask says about it.

A photograph whose truth is known is reduced by 4 and enlarged by both shipped models, in a data
folder of its own. Everything is written to `demo-output`; the crop is `look-here.png`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from examples.repainted import LIES, answers_to, sheet, with_captions

OUT = Path(__file__).parents[1] / "demo-output"
MODELS = {"span-x4": "faithful", "realesr-x4": "sharp"}
BADGE = LIES[0]


def main() -> int:
    """Enlarge the photograph by each model, and write the crop of the sharp one."""
    OUT.mkdir(exist_ok=True)
    photograph = BADGE.write_small(OUT)
    width, height = BADGE.small_size
    say(f"Enlarging {OUT.name}/{photograph.name}, {width}×{height} pixels, by 4 with two models:")
    for model, character in MODELS.items():
        with tempfile.TemporaryDirectory() as data_dir:
            answer = answers_to([photograph], OUT / model, model, Path(data_dir))[BADGE.name]
        seconds = sum(answer["timings_ms"].values()) / 1e3
        share = f"{answer['trusted_fraction']:.0%} can be relied on for colour"
        say(
            f"  {model} ({character}): {share} at α = {answer['alpha']:g}, {seconds:.1f} s, "
            f"files in {OUT.name}/{model}/"
        )
    crop = OUT / "look-here.png"
    with_captions(sheet(BADGE, photograph, OUT / model / BADGE.name)).save(crop)
    say(f"""
Look at the badge: the sharp model made a smooth ring of five names. Without the truth nobody could
tell, and the mask leaves the ring out. Each model's folder has these files of {BADGE.name}:
  image.png    is the enlarged picture
  mask.png     is white where it is trusted
  overlay.png  hatches what is not trusted
  trust.png    holds the masks of every α in one image
  result.json  has the promise in words

Open {crop.relative_to(OUT.parent)}""")
    return 0


def say(text: str) -> None:
    """Print at once: the next line may take seconds."""
    print(text, flush=True)  # noqa: T201 - the report is what the demo is for


if __name__ == "__main__":
    sys.exit(main())
