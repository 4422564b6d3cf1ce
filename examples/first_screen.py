"""The example on the first screen of the page: `python -m examples.first_screen`.

A real answer of `trustscale serve` with the calibration that comes with it, written to
`app/web/static/img/first`; to be run again when that calibration changes. Trust levels are rounded
up to a few steps, which makes the file small and trusts nothing more.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from app.images.encode import png_grey16
from tests.web.browser import serving

PHOTOGRAPH = Path(__file__).parent / "dog.png"
CROP = (0, 30, 256, 190)
TARGET = Path(__file__).parents[1] / "app" / "web" / "static" / "img" / "first"
ALPHA = {"alpha": "0.05"}
STEPS = 65534
LEVELS = 24


def coarse(codes: np.ndarray, served: int) -> np.ndarray:
    """Codes, uint16 [h, w], rounded up to a few levels, one of which is the served one."""
    levels = np.unique([*np.geomspace(1, STEPS, LEVELS).astype(int), served, 65535])
    return levels[np.searchsorted(levels, codes)].astype(np.uint16)


def main() -> int:
    """Ask the service and write the files."""
    TARGET.mkdir(parents=True, exist_ok=True)
    photograph = Image.open(PHOTOGRAPH).convert("RGB").crop(CROP)
    photograph.save(TARGET / "input.webp", quality=90)
    sent = io.BytesIO()
    photograph.save(sent, "PNG")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url:
        client = httpx.Client(base_url=url, timeout=300)
        files = {"image": ("x.png", sent.getvalue())}
        found = client.post("/v1/upscale", data=ALPHA, files=files).json()
        image, trust = (
            Image.open(io.BytesIO(client.get(found["links"][part]).content))
            for part in ("image", "trust")
        )
    image.convert("RGB").save(TARGET / "image.webp", quality=82, method=6)
    served = int(found["alpha"] / found["guarantee"]["bound"] * STEPS)
    codes = coarse(np.asarray(trust).astype(np.uint16), served)
    (TARGET / "trust.png").write_bytes(png_grey16(codes))
    facts = {"width": found["width"], "height": found["height"], "limit": served}
    (TARGET / "facts.json").write_text(json.dumps(facts) + "\n")
    sizes = {path.name: path.stat().st_size for path in sorted(TARGET.iterdir())}
    print(f"{100 * found['trusted_fraction']:.1f} % trusted; {sizes}")  # noqa: T201 - a report
    return 0


if __name__ == "__main__":
    sys.exit(main())
