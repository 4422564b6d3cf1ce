"""A real model of scale 1, from calibration to fresh images: does it restore, does the mask hold?

The network is that of `examples/restoration`; the photographs of `examples/` were kept from its
training. Crops are drawn independently from them, so calibration and fresh images follow one law.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.images.degrade import Degradation, degrade
from app.images.encode import png_rgb
from app.main import create_app
from app.settings import Settings
from app.upscalers.embedded import EmbeddedUpscaler
from tests.api.admin import Admin
from tests.api.gateway import ADMIN_KEY, pixels, post

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "restoration"
MODEL = FOLDER / "dncnn-tiny.onnx"
DAMAGES = {"jpeg": Degradation(jpeg=30), "noise": Degradation(noise=15)}
SIDE = 40


@pytest.fixture(scope="module")
def upscaler():
    return EmbeddedUpscaler("restore", MODEL)


@pytest.fixture(scope="module")
def photographs():
    """Photographs that the network has not seen, uint8 [256, 256, 3]."""
    return [
        np.asarray(Image.open(EXAMPLES / f"{name}.png").convert("RGB"))
        for name in ("bridge", "coast", "dog")
    ]


def crops(photographs, count, seed):
    random = np.random.default_rng(seed)
    for _ in range(count):
        photo = photographs[random.integers(len(photographs))]
        top, left = random.integers(0, 256 - SIDE, 2)
        yield np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE])


def psnr(truth, image):
    return 10 * np.log10(255**2 / np.mean((truth.astype(float) - image) ** 2))


def test_it_is_small_and_of_scale_one(upscaler):
    """At most 60 kB, in both forms; the probe finds the scale."""
    assert upscaler.scale == 1
    for suffix in (".onnx", ".safetensors"):
        assert MODEL.with_suffix(suffix).stat().st_size <= 60_000


@pytest.mark.slow
def test_promise_over_http(photographs, tmp_path):
    """The model is configured, calibrated and asked like any other upscaler."""
    settings = Settings(
        data_dir=tmp_path,
        admin_keys=[ADMIN_KEY],
        upscalers=[{"name": "restore", "kind": "embedded", "model": str(MODEL)}],
    )
    truths = {f"y/{k}.png": png_rgb(t) for k, t in enumerate(crops(photographs, 12, 1))}
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        made = Admin(client).create(truths, degradation={"jpeg": 30}, activate=True)
        [truth] = crops(photographs, 1, 5)
        damaged = degrade(truth, 1, DAMAGES["jpeg"], 0)
        answer = post(client, png_rgb(damaged), alpha=0.15, seed=1).json()
        assert (answer["scale"], answer["calibration"]) == (1, made["id"])
        assert (answer["width"], answer["height"]) == (SIDE, SIDE)
        assert "JPEG of quality 30" in json.dumps(answer["guarantee"]["voids"])
        image = pixels(client.get(answer["links"]["image"]).content)
        assert psnr(truth, image) > psnr(truth, damaged)
        again = post(client, png_rgb(damaged), alpha=0.15, seed=1).json()
        assert np.array_equal(image, pixels(client.get(again["links"]["image"]).content))
