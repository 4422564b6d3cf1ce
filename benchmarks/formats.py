"""What each form of the picture costs: `python -m benchmarks.formats [PHOTO]`.

A photograph of 2048×2048 with its mask and trust levels, the median of three; `signed` is PNG with
content credentials.
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
from harness.credentials import new_chain
from trustscale_server.images.encode import FORMS, Attached, Pages, picture
from trustscale_server.images.png import to_png
from trustscale_server.serving.credentials import Credentials, Parent

EXAMPLE = Path(__file__).parent.parent / "examples" / "bridge.png"
SIDE, ROUNDS = 2048, 3


def median_of(work: Callable[[], bytes]) -> tuple[float, int]:
    rounds = [timed(work) for _ in range(ROUNDS)]
    return statistics.median(took.wall for took in rounds), len(rounds[0].result)


def main(path: Path) -> None:
    photo = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(photo.convert("L"))
    pixels = np.asarray(photo)
    pages = Pages(grey > 96, grey.astype(np.uint16) * 200)
    rows = []
    for name in FORMS:
        seconds, size = median_of(
            lambda name=name: picture(pixels, name, attached=Attached(pages=pages))
        )
        rows.append((name, f"{1e3 * seconds:.0f}", f"{size / 1e6:.2f}"))
    certificates, key, _ = new_chain()
    credentials = Credentials.of(certificates, key)
    png, mask, parent = picture(pixels, "png"), to_png(pages.mask), Parent("0" * 64)

    def sign() -> bytes:
        files = [io.BytesIO(file) for file in (b"", png, mask)]
        credentials.sign(*files[:2], "image/png", upload=parent, mask=files[2], promise={})
        return files[0].getvalue()

    seconds, size = median_of(sign)
    more = f"+ {(size - len(png)) / 1e6:.3f}"
    rows.append(("signed", f"+ {1e3 * seconds:.0f}", more))
    print_table(("form", "ms", "MB"), rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE)
