"""Models of scale 1 in the worker: a restoring DnCNN, and colorization with DDColor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

pytest.importorskip("spandrel", reason="needs trustscale[worker]")
from app.images.degrade import Degradation, degrade
from app.main import create_app as create_gateway
from app.settings import Settings
from app.upscalers.seeds import DIHEDRAL, GROUP_ORDER
from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, pixels, post
from tests.factories import encoded, photo
from tests.live import serving
from tests.upscalers.remote.pictures import patiently
from tests.workers.fakes import load
from workers import weights
from workers.service import create_app as create_worker

# spandrel's extra architectures still use what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

TINY = Path(__file__).parents[2] / "examples" / "restoration" / "dncnn-tiny"


def test_one_network_in_two_forms():
    """Through spandrel and through onnxruntime the same weights give the same samples."""
    image = degrade(photo(0, 40, 56), 1, Degradation(noise=15), 0)
    engines = [
        load(kind, TINY.with_suffix(suffix))
        for kind, suffix in (("spandrel", ".safetensors"), ("onnx", ".onnx"))
    ]
    one, two = (engine.samples(image, np.arange(8)).astype(int) for engine in engines)
    assert [(engine.scale, engine.distinct_samples) for engine in engines] == [(1, GROUP_ORDER)] * 2
    assert one.shape == (8, 40, 56, 3)
    assert np.abs(one - two).max() <= 1


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """DDColor of random weights, the smallest that spandrel recognises (42 million).

    Colours are made at 64 instead of 256 pixels.
    """
    extra = pytest.importorskip(
        "spandrel_extra_arches.architectures.DDColor", reason="needs spandrel_extra_arches"
    )
    torch.manual_seed(0)
    network = extra.DDColor(
        encoder_name="convnext-t",
        num_output_channels=2,
        last_norm="Spectral",
        num_queries=4,
        dec_layers=1,
    )
    with torch.no_grad():  # spectral norms need a step before they normalise
        network.train()(torch.rand(1, 3, 64, 64))
    state = network.state_dict()
    for part in ("weight", "bias"):  # random colours would be faint
        state[f"decoder.color_decoder.color_embed.layers.2.{part}"] *= 500
    path = tmp_path_factory.mktemp("models") / "ddcolor.safetensors"
    weights.write_safetensors(state, path)
    engine = load("spandrel", path)
    engine.network.model.input_size = (64, 64)
    return engine


def grey(image):
    """The image without its colours, still RGB."""
    return (
        np.repeat(image @ np.array([0.299, 0.587, 0.114]), 3).reshape(image.shape).astype(np.uint8)
    )


@pytest.mark.slow
class TestDDColor:
    def test_grey_becomes_coloured(self, engine):
        """It is recognised by its weights; RGB of the same size comes out, with its lightness.

        The network sees grey, so samples are the 8 of geometry: colours cannot be exchanged.
        """
        image = photo(0, 40, 56)
        one, two = (engine.samples(picture, np.array([8]))[0] for picture in (image, grey(image)))
        assert (engine.scale, two.shape, two.dtype) == (1, image.shape, np.uint8)
        assert np.ptp(two, axis=2).mean() > 10
        assert np.corrcoef(grey(two).ravel(), grey(image).ravel())[0, 1] > 0.9
        assert np.abs(one.astype(int) - two).mean() < 2
        assert engine.distinct_samples == DIHEDRAL

    def test_from_photographs_to_a_mask(self, engine, tmp_path):
        """Through worker and gateway, colorization calibrates from coloured images alone."""
        with serving(create_worker(engine)) as address:
            settings = Settings(
                data_dir=tmp_path,
                admin_keys=[ADMIN_KEY],
                upscalers=[{"name": "colours", "kind": "worker", "urls": [f"http://{address}"]}],
            )
            with TestClient(create_gateway(settings, build=patiently)) as client:
                made = Admin(client).create(
                    truth_files(2), samples=2, degradation={"grey": True}, activate=True, force=True
                )
                assert (made["n"], made["pipeline"]["scale"]) == (2, 1)
                response = post(client, encoded(grey(photo(9, 48, 48))), alpha=1.5)
                assert response.status_code == 200, response.text
                answer = response.json()
                assert (answer["scale"], answer["width"], answer["height"]) == (1, 48, 48)
                assert "made by removal of the colour" in answer["guarantee"]["voids"][0]
                image = pixels(client.get(answer["links"]["image"]).content)
                assert np.ptp(image, axis=2).mean() > 10
                assert pixels(client.get(answer["links"]["mask"]).content).shape == (48, 48)
