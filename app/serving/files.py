"""The files of a result: their names, the facts that they carry, and those made when asked for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import __version__
from app.calibration.record import Calibration
from app.images.encode import png_rgb
from app.images.overlay import overlay
from app.serving.answer import Result

IMAGE: Final = "image.png"
MASK: Final = "mask.png"
TRUST: Final = "trust.png"
SIGMA: Final = "sigma.f32"
INPUT: Final = "input.digest"
"""Tells whether two results are of the same image."""


def png_text(calibration: Calibration, alpha: float, group: str | None = None) -> dict[str, str]:
    """Text chunks that tell where a file comes from, once it has left the service."""
    promise = calibration.guarantee
    facts = {"trustscale:group": group} if group is not None else {}
    if promise.kind == "high_probability":
        facts["trustscale:delta"] = repr(promise.delta)
    return {
        "Software": f"trustscale {__version__}",
        "trustscale:calibration": calibration.id,
        "trustscale:alpha": repr(alpha),
        "trustscale:threshold": repr(calibration.of_group(group).curve.threshold(alpha)),
        "trustscale:fingerprint": calibration.pipeline.fingerprint,
        **facts,
    }


def png_overlay(
    image: bytes, mask: NDArray[np.bool_], text: Mapping[str, str] | None = None
) -> bytes:
    """The overlay of an upscaled image; it carries the text chunks of the image, or `text`."""
    picture = Image.open(io.BytesIO(image))
    pixels = np.asarray(picture)
    own = {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    return png_rgb(overlay(pixels, mask), own if text is None else text)


def sigma_map(data: bytes, result: Result) -> NDArray[np.float32]:
    """σ of a stored result, float32 [H, W]."""
    return np.frombuffer(data, np.float32).reshape(result.height, result.width)
