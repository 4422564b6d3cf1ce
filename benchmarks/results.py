"""Results of any size without generating them, put where a server finds them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.encode import png_grey16, png_mask, png_rgb
from app.serving.answer import MASK, TRUST, Result
from app.stores.open import open_stores

BOUND = 1.9576
IMAGE = "image.png"


def store_result(folder: Path, result_id: str, side: int, *, alpha: float = 0.1) -> None:
    """Store a synthetic result of side × side pixels in the data folder of `serving(folder)`."""
    codes = trust_codes(side)
    mask = codes <= int(alpha / BOUND * 65534)
    files = {
        IMAGE: png_rgb(blobs(6, side, (24, 24, 3))),
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
    codes = np.ceil(np.geomspace(0.01, 1.0, 256) / BOUND * 65534).astype(np.uint16)
    return codes[blobs(5, side, (33, 33))]


def blobs(seed: int, side: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Smooth noise, uint8 [side, side] or [side, side, 3], from a coarse one of this shape."""
    coarse = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def _document(result_id: str, side: int, alpha: float, share: float) -> Result:
    base = f"/v1/results/{result_id}"
    parts = ("mask", "trust", "overlay", "believed")
    links = {"self": base} | {part: f"{base}/{part}.png" for part in parts}
    guarantee = {"metric": "neighborhood", "alpha": alpha, "bound": BOUND, "n": 243}
    guarantee |= {"statement": "A synthetic result, about which nothing is promised."}
    guarantee |= {"applicability": "per_window", "voids": ["that it is synthetic"]}
    made = {"upscaler": "span-x4", "calibration": "cal-synthetic", "scale": 4, "samples": 8}
    made |= {"seed": 1, "prediction": "first", "width": side, "height": side, "alpha": alpha}
    found = {"threshold": 0.001, "trusted_fraction": share, "typicality": 0.5, "warnings": []}
    return Result.model_validate(
        {
            "id": result_id,
            **made,
            **found,
            "guarantee": {**guarantee, "lab_psnr_lower_bound_db": None},
            "believed": {"outside": "upload", "statement": "Nothing.", "is_sent": False},
            "timings_ms": {"samples": 1.0},
            "links": {**links, "image": f"{base}/{IMAGE}"},
        }
    )
