"""A real model of scale 1, from calibration to fresh images: does it restore, does the mask hold?

The network is that of `examples/restoration`; the photographs of `examples/` were kept from its
training. Crops are drawn independently from them, so calibration and fresh images follow one law.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.calibration.measure import reduce_pair
from app.calibration.pairs import load_pair
from app.calibration.record import Calibration
from app.conformal import fidelity
from app.images.degrade import Degradation, degrade
from app.images.encode import png_rgb
from app.main import create_app
from app.sampling.measure import measure
from app.sampling.pipeline import Pipeline
from app.settings import Settings
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from tests.api.admin import Admin
from tests.api.gateway import ADMIN_KEY, pixels, post

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "restoration"
MODEL = FOLDER / "dncnn-tiny.onnx"
DAMAGES = {"jpeg": Degradation(jpeg=30), "noise": Degradation(noise=15)}
SIDE, COUNT = 40, 120

# The tiny network's answers differ little, so the synthetic annotator looks closely here.
SYNTHETIC = {"metric": "semantic", "labels": "synthetic", "annotator": {"structure": 0.13}}


@pytest.fixture(scope="module")
def upscaler():
    """The tiny network inside this process."""
    return EmbeddedUpscaler("restore", MODEL)


@pytest.fixture(scope="module")
def photographs():
    """Photographs that the network has not seen, uint8 [256, 256, 3]."""
    return [
        np.asarray(Image.open(EXAMPLES / f"{name}.png").convert("RGB"))
        for name in ("bridge", "coast", "dog")
    ]


def crops(photographs, count, seed):
    """Independent draws: a photograph, then a place."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        photo = photographs[random.integers(len(photographs))]
        top, left = random.integers(0, 256 - SIDE, 2)
        yield np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE])


def psnr(truth, image):
    """In dB, over sRGB."""
    return 10 * np.log10(255**2 / np.mean((truth.astype(float) - image) ** 2))


class TestModel:
    def test_it_is_small_and_of_scale_one(self, upscaler):
        """At most 60 kB, in both forms; the probe finds the scale."""
        assert upscaler.scale == 1
        for suffix in (".onnx", ".safetensors"):
            assert MODEL.with_suffix(suffix).stat().st_size <= 60_000

    def test_the_card_names_the_files(self):
        """What was measured on these weights is said of these weights."""
        card = (FOLDER / "MODEL_CARD.md").read_text("utf-8")
        for suffix in (".onnx", ".safetensors"):
            assert hashlib.sha256(MODEL.with_suffix(suffix).read_bytes()).hexdigest() in card

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_it_beats_its_input(self, upscaler, photographs, damage):
        """On every photograph: a higher PSNR and a lower mean D than the damaged image."""
        for truth in photographs:
            damaged = degrade(truth, 1, DAMAGES[damage], 3)
            answer = upscaler.model(damaged)
            assert psnr(truth, answer) > psnr(truth, damaged) + 0.3
            errors = [fidelity.error(truth, image).mean() for image in (damaged, answer)]
            assert errors[1] < errors[0]


def pipeline_of(upscaler, **fidelity):
    return Pipeline(fingerprint=upscaler.fingerprint, scale=1, samples=4, fidelity=fidelity)


@pytest.fixture(scope="module", params=DAMAGES)
def generated(request, upscaler, photographs):
    """Crops that were damaged in one way, and what the network makes of them."""
    pipeline, damage = pipeline_of(upscaler), DAMAGES[request.param]

    async def generate():
        made = []
        for number, truth in enumerate(crops(photographs, COUNT, 1)):
            pair = load_pair(
                f"{number}", png_rgb(truth), None, pipeline, degradation=damage, seed=0
            )
            made.append((pair, await measure(upscaler, Source(pair.x), pipeline, pair.seed)))
        return made

    return asyncio.run(generate())


@pytest.mark.slow
class TestPromise:
    @pytest.mark.parametrize(
        ("settings", "alphas"),
        [({}, [0.04, 0.05, 0.075, 0.1]), (SYNTHETIC, [0.05, 0.1, 0.2, 0.4])],
        ids=["neighborhood", "synthetic"],
    )
    def test_on_fresh_images(self, upscaler, generated, settings, alphas):
        """Over 100 halvings into calibration and fresh crops the mean loss is at most α.

        Given the crops, halvings are independent draws of an exchangeable order, so the mean may
        exceed α by chance only: two standard errors are allowed.
        """
        pipeline = pipeline_of(upscaler, **settings)
        measured = [reduce_pair(pair, result, pipeline) for pair, result in generated]
        random = np.random.default_rng(2)
        losses, areas = [], []
        for _ in range(100):
            order = [measured[k] for k in random.permutation(COUNT)]
            calibration = Calibration.from_pairs(
                order[: COUNT // 2], upscaler="restore", pipeline=pipeline
            )
            fresh = order[COUNT // 2 :]
            thresholds = [calibration.curve.threshold(alpha) for alpha in alphas]
            losses.append([np.mean([m.staircase.loss_below(t) for m in fresh]) for t in thresholds])
            areas.append([calibration.mean_trusted_fraction(t) for t in thresholds])
        mean, error = np.mean(losses, axis=0), np.std(losses, axis=0, ddof=1) / 10
        assert (mean <= np.array(alphas) + 2 * error).all()
        # It is neither kept by images without error, nor by trusting nothing.
        assert np.mean([m.staircase.loss(np.inf) for m in measured]) > alphas[0]
        assert np.mean(areas, axis=0)[-1] > 0.2

    def test_over_http(self, photographs, tmp_path):
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
