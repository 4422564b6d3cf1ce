"""What each form of the picture costs, and the trust levels: `python -m benchmarks.formats`.

A photograph of 2048×2048 with its mask and trust levels, the median of three; `signed` is PNG with
content credentials.

`python -m benchmarks.formats --levels [PHOTO …]`: `trust.png` of answers by the shipped
calibrations in float32, as it is sent, packed as tightly as PNG can, and with fewer levels, all
rounded up, so that nothing gets trusted by it. *Lost* is the part of the trusted area that masks of
α from 0.02 to 0.1 then miss, on average.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.request import with_state
from benchmarks.table import print_table
from benchmarks.timing import timed
from harness.credentials import new_chain
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.conformal.step_curve import CODE_STEPS, NEVER
from trustscale_server.http.app import create_app
from trustscale_server.images.encode import PICTURE_FORMATS, Attached, picture
from trustscale_server.images.png import to_png
from trustscale_server.images.tiff import Pages
from trustscale_server.platform.telemetry.logs import configure_logs
from trustscale_server.serving.credentials import Credentials, Parent

EXAMPLE = Path(__file__).parent.parent / "examples" / "bridge.png"
SIDE, ROUNDS = 2048, 3
LEVELS = (4096, 1024, 256)
ALPHAS = (0.02, 0.03, 0.05, 0.07, 0.1)


def median_of(work: Callable[[], bytes]) -> tuple[float, int]:
    rounds = [timed(work) for _ in range(ROUNDS)]
    return statistics.median(took.wall for took in rounds), len(rounds[0].result)


def main(path: Path) -> None:
    photo = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(photo.convert("L"))
    pixels = np.asarray(photo)
    pages = Pages(grey > 96, grey.astype(np.uint16) * 200)
    rows = []
    for name in PICTURE_FORMATS:
        seconds, size = median_of(
            lambda name=name: picture(pixels, name, attached=Attached(pages=pages))
        )
        rows.append((name, f"{1e3 * seconds:.0f}", f"{size / 1e6:.2f}"))
    certificates, key, _ = new_chain()
    credentials = Credentials.from_pem(certificates, key)
    png, mask, parent = picture(pixels, "png"), to_png(pages.mask), Parent("0" * 64)

    def sign() -> bytes:
        files = [io.BytesIO(file) for file in (b"", png, mask)]
        credentials.sign(*files[:2], "image/png", upload=parent, mask=files[2], promise={})
        return files[0].getvalue()

    seconds, size = median_of(sign)
    more = f"+ {(size - len(png)) / 1e6:.3f}"
    rows.append(("signed", f"+ {1e3 * seconds:.0f}", more))
    print_table(("form", "ms", "MB"), rows)


async def answers(photos: Sequence[Path]) -> list[tuple[bytes, float]]:
    """`trust.png` of the photographs, each 512×512, and the largest error that counts, B."""
    found = []
    configure_logs("error")
    kept = {"faces": "keep", "letters": "keep"}  # looking for them takes longer than all else
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), precision="f32", **kept))
        async with app.router.lifespan_context(app) as state:
            transport = httpx.ASGITransport(with_state(app, state))
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                for photo in photos:
                    small = Image.open(photo).convert("RGB").resize((512, 512))
                    out = io.BytesIO()
                    small.save(out, "PNG")
                    files = {"image": (photo.name, out.getvalue())}
                    answer = await client.post("/v1/upscale?detail=full", files=files, timeout=None)
                    document = answer.raise_for_status().json()
                    levels = await client.get(document["links"]["trust"])
                    found.append((levels.content, float(document["guarantee"]["bound"])))
    return found


def tightly(codes: NDArray[np.uint16]) -> bytes:
    """By libpng with all filters tried on every row, and zlib's last level."""
    out = io.BytesIO()
    Image.fromarray(codes).save(out, "PNG", compress_level=9)
    return out.getvalue()


def fewer(codes: NDArray[np.uint16], levels: int) -> NDArray[np.uint16]:
    """Codes of so many levels on the same scale, rounded up; never stays never."""
    step = CODE_STEPS / levels
    rounded = np.minimum(np.floor(np.ceil(codes / step) * step), CODE_STEPS).astype(np.uint16)
    rounded = np.maximum(rounded, codes)
    rounded[codes == NEVER] = NEVER
    return rounded


def levels_of(photos: Sequence[Path]) -> None:
    """Print sizes of the trust levels, and what fewer of them lose."""
    sizes: dict[str, list[float]] = {}
    lost: dict[str, list[float]] = {}
    for data, bound in asyncio.run(answers(photos)):
        codes = np.asarray(Image.open(io.BytesIO(data))).astype(np.uint16)
        sizes.setdefault("as sent", []).append(1.0)
        sizes.setdefault("packed tightly", []).append(len(tightly(codes)) / len(data))
        for levels in LEVELS:
            less = fewer(codes, levels)
            drawn = (less // (CODE_STEPS // 255)).astype(np.uint8) if levels <= 256 else less
            name = f"{levels} levels"
            sizes.setdefault(name, []).append(len(to_png(drawn)) / len(data))
            for alpha in ALPHAS:
                limit = np.floor(alpha / bound * CODE_STEPS)
                before, after = (codes <= limit).mean(), (less <= limit).mean()
                lost.setdefault(name, []).append((before - after) / max(before, 1e-9))
    rows = [
        (name, f"{np.mean(found):.2f}", f"{np.mean(lost[name]):.4f}" if name in lost else "0")
        for name, found in sizes.items()
    ]
    print_table((f"trust.png of {len(photos)}", "of its bytes", "lost"), rows)


if __name__ == "__main__":
    paths = [Path(word) for word in sys.argv[1:] if word != "--levels"]
    if "--levels" in sys.argv:
        levels_of(paths or sorted(EXAMPLE.parent.glob("*.png")))
    else:
        main(paths[0] if paths else EXAMPLE)
