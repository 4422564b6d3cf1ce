"""What a card and a check take: `python -m benchmarks.card [PHOTO]`.

The parts of a card of 2048×2048 pixels, half of which are doubtful; and `verify` of a picture of 12
megapixels in each form. Medians of three, in processor time, since other programs take turns with
this one.
"""

from __future__ import annotations

import io
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.table import print_table
from benchmarks.timing import timed
from trustscale_server.images.card import card
from trustscale_server.images.encode import FormatName
from trustscale_server.images.marked import write_marked
from trustscale_server.images.marks import Mark
from trustscale_server.images.overlay import composed
from trustscale_server.images.png import to_bytes, to_png
from trustscale_server.images.verify import verify
from trustscale_server.serving.caption import CardContent, caption_of

EXAMPLE = Path(__file__).parent.parent / "examples" / "bridge.png"
ROUNDS, SIDE, LARGE = 3, 2048, (4000, 3000)
CHECKED: tuple[FormatName, ...] = ("png", "jpeg", "webp", "avif")
CONTENT = CardContent(
    upscaler="span-x4",
    scale=4,
    upload=(SIDE // 4, SIDE // 4),
    alpha=0.05,
    share=0.5,
    about="for colour",
)


def median_of(work: Callable[[], object]) -> float:
    return statistics.median(timed(work).cpu for _ in range(ROUNDS))


def main(path: Path) -> None:
    photo = Image.open(path).convert("RGB")
    size = (SIDE, SIDE)
    pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS))
    png, upload = to_png(pixels), photo.resize((SIDE // 4, SIDE // 4))
    blurred = np.asarray(Image.fromarray(pixels).convert("L").reduce(16).resize(size))
    mask = blurred > np.median(blurred)
    mark = Mark("card", CONTENT.upscaler, "", 4, CONTENT.upload, size)

    def draw() -> bytes:
        with Image.open(io.BytesIO(png)) as picture:
            made = card(composed(np.asarray(picture), mask, upload, 8), caption_of(CONTENT, "soft"))
        return to_bytes(write_marked)(made, "png", mark)

    rows = [("card.png", f"{1e3 * median_of(draw):.0f}", f"{len(draw()) / 1e6:.1f} MB")]
    large = np.asarray(photo.resize(LARGE, Image.Resampling.LANCZOS))
    mark = Mark("picture", "span-x4", "", 4, (LARGE[0] // 4, LARGE[1] // 4), LARGE)
    for name in CHECKED:
        data = to_bytes(write_marked)(large, name, mark)
        seconds = median_of(lambda data=data: verify(data))
        rows.append((f"verify {name}", f"{1e3 * seconds:.0f}", f"{len(data) / 1e6:.1f} MB"))
    print_table(("what", "ms", ""), rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE)
