"""Exactly grey uploads of every class: their score is that of nearly grey ones."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from harness.factories import photo
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.kinds.features import look_at
from trustscale_server.sampling.measure import measured_again
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

SIDE = 96
NEARLY = 0.03
"""Saturation of a picture that nobody would call coloured."""

FILES = {
    "lossless": ("PNG", {}),
    "noisy": ("PNG", {}),
    "jpeg-85": ("JPEG", {"quality": 92}),
    "jpeg-65": ("JPEG", {"quality": 75}),
    "jpeg-30": ("JPEG", {"quality": 45}),
    "webp": ("WEBP", {"quality": 70}),
    "heic": ("AVIF", {"quality": 60}),
    "palette": ("GIF", {}),
    "soft": ("PNG", {}),
}


def upload(kind, saturation):
    """A photograph of this saturation as a file of a class."""
    random = np.random.default_rng(0)
    pixels = photo(7, SIDE, SIDE).astype(np.float64)
    if kind == "noisy":
        pixels += random.normal(0, 6, (SIDE, SIDE, 1))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if kind == "soft":
        image = image.resize((SIDE // 2, SIDE // 2)).resize((SIDE, SIDE))
    form, options = FILES[kind]
    out = io.BytesIO()
    ImageEnhance.Color(image).enhance(saturation).save(out, form, **options)
    found = decode(out.getvalue(), PAIR_LIMITS)
    return Source(found.rgb, look_at(found.rgb, found.compression))


@pytest.mark.parametrize("model", ["span-x4", "realesr-x4"])
@pytest.mark.parametrize("kind", FILES)
def test_grey_is_scored_as_nearly_grey(model, kind):
    """Without any chroma its terms end beside those of little chroma, not far outside the fit."""
    pipeline = CalibrationConfig().pipeline(EmbeddedUpscaler(model, model))
    logs = []
    features = upload(kind, NEARLY).features  # of one class and fit
    for saturation in (0.0, NEARLY):
        source = Source(upload(kind, saturation).rgb, features)
        sample = np.asarray(
            Image.fromarray(source.rgb).resize((4 * SIDE, 4 * SIDE), Image.Resampling.BICUBIC)
        )
        logs.append(np.log(measured_again([sample], source, pipeline).sigma))
    assert abs(np.median(logs[0] - logs[1])) < 0.1
