"""Results of any size without generating them, put where a server finds them.

Nothing here needs pytest, so the benchmark uses it too.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.encode import png_grey16, png_mask, png_rgb
from app.serving.answer import MASK, TRUST, Guarantee, Links, Result
from app.stores.open import open_stores

BOUND = 1.9576
IMAGE = "image.png"


def store_result(folder: Path, result_id: str, side: int, *, alpha: float = 0.1) -> None:
    """Store a synthetic result of side × side pixels in the data folder of `serving(folder)`."""
    codes = trust_codes(side)
    mask = codes <= int(alpha / BOUND * 65534)
    files = {
        IMAGE: png_rgb(picture(side)),
        MASK: png_mask(mask),
        TRUST: png_grey16(codes),
    }
    document = _document(result_id, side, alpha, float(mask.mean()))

    async def put() -> None:
        stores = open_stores(
            "sqlite:///", folder / "data", result_ttl_s=3600, max_result_bytes=10**10
        )
        await stores.check()
        await stores.results.put(result_id, document.model_dump_json().encode(), files)
        await stores.close()

    # Playwright's event loop lives in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, put()).result()


def trust_codes(side: int) -> NDArray[np.uint16]:
    """Blobs of trust levels, uint16 [side, side], between α = 0.01 and 1, as large σ maps are."""
    coarse = np.random.default_rng(5).integers(0, 256, (33, 33), np.uint8)
    smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    levels = np.geomspace(0.01, 1.0, 256)
    return np.ceil(levels / BOUND * 65534).astype(np.uint16)[np.asarray(smooth)]


def picture(side: int) -> NDArray[np.uint8]:
    """A colourful picture, uint8 [side, side, 3]."""
    coarse = np.random.default_rng(6).integers(0, 256, (24, 24, 3), np.uint8)
    large = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large)


def _document(result_id: str, side: int, alpha: float, share: float) -> Result:
    base = f"/v1/results/{result_id}"
    return Result(
        id=result_id,
        upscaler="span-x4",
        calibration="cal-synthetic",
        scale=4,
        width=side,
        height=side,
        alpha=alpha,
        threshold=0.001,
        trusted_fraction=share,
        samples=8,
        seed=1,
        prediction="first",
        guarantee=Guarantee(
            metric="neighborhood",
            alpha=alpha,
            bound=BOUND,
            n=243,
            statement="A synthetic result, about which nothing is promised.",
            lab_psnr_lower_bound_db=None,
            applicability="per_window",
            voids=["that it is synthetic"],
        ),
        typicality=0.5,
        warnings=[],
        timings_ms={"samples": 1.0},
        links=Links(
            self=base,
            image=f"{base}/{IMAGE}",
            mask=f"{base}/{MASK}",
            trust=f"{base}/{TRUST}",
            overlay=f"{base}/overlay.png",
        ),
    )
