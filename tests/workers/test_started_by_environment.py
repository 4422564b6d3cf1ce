"""A worker as compose starts it: the model's kind and a folder with weights, and nothing else."""

from __future__ import annotations

import shutil
import sys

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import load_settings
from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, pixels, post
from tests.deploy.files import filled, services
from tests.factories import encoded, photo
from tests.servers import ProcessGroup, free_port
from tests.upscalers.remote.pictures import patiently
from workers.errors import WeightsError
from workers.models.registry import locate


def _compose(folder, **variables):
    """The command, environment and address of the service `cpu-worker`, outside a container."""
    service = services()["cpu-worker"]
    port = free_port()
    words = [filled(word, variables) for word in service["command"]]
    words = [word.replace("/weights/", f"{folder}/") for word in words]
    places = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8001": f"--port={port}"}
    environment = {key: filled(text, variables) for key, text in service["environment"].items()}
    command = [sys.executable, "-m", "app", *(places.get(word, word) for word in words)]
    # Threads that compete for the cores of a busy machine mostly wait for one another.
    return command, {**environment, "OMP_NUM_THREADS": "1"}, f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_from_a_folder_to_a_mask(data, tmp_path, monkeypatch):
    """Lines of .env start it; a gateway that is told the address calibrates and upscales."""
    for name in ("unet_tiny.pth", "vq_tiny.pth"):
        shutil.copy(data / name, tmp_path)
    told = {"WORKER_MODEL": "sinsr", "WORKER_CONFIG": (data / "tiny.json").read_text()}
    command, environment, url = _compose(tmp_path, **told)
    with ProcessGroup(command, log=tmp_path / "log", env=environment) as group:
        group.wait_for(f"{url}/v2/health/ready", "worker")
        monkeypatch.setenv("TRUSTSCALE_WORKERS", f"worker={url}")
        settings = load_settings(data_dir=tmp_path / "data", admin_keys=[ADMIN_KEY])
        with TestClient(create_app(settings, build=patiently)) as client:
            made = Admin(client).create(
                truth_files(4, side=64), upscaler="worker", samples=2, activate=True, force=True
            )
            assert (made["n"], made["state"]) == (4, "active")
            answer = post(client, encoded(photo(99, 16, 16)), upscaler="worker", alpha=0.45)
            assert answer.status_code == 200, answer.text
            mask = pixels(client.get(answer.json()["links"]["mask"]).content)
    assert mask.shape == (64, 64)
    assert mask.dtype == bool


@pytest.mark.parametrize(
    ("model", "names", "found"),
    [
        ("spandrel", ["a.pth", "a.safetensors", "notes.txt"], ("a.safetensors", None)),
        (
            "sinsr",
            ["SinSR_v2.pth", "autoencoder_vq_f4.pth"],
            ("SinSR_v2.pth", "autoencoder_vq_f4.pth"),
        ),
        ("onnx", ["x.onnx", "x.pth"], ("x.onnx", None)),
    ],
)
def test_found_in_a_folder(tmp_path, model, names, found):
    """The files of the kind are taken, converted ones rather than their originals."""
    for name in names:
        (tmp_path / name).touch()
    weights, autoencoder = locate(model, tmp_path)
    assert (weights.name, autoencoder and autoencoder.name) == found


@pytest.mark.parametrize(
    ("model", "names", "words"),
    [
        ("spandrel", [], "holds no model file"),
        ("spandrel", ["a.pth", "b.pth"], "more than one.*a.pth, b.pth"),
        ("sinsr", ["SinSR_v1.pth", "SinSR_v2.pth", "vq.pth"], "more than one network"),
        ("onnx", ["a.pth"], r"\.onnx"),
    ],
)
def test_not_found_in_a_folder(tmp_path, model, names, words):
    """What is missing, or what there is too much of, is named."""
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=words):
        locate(model, tmp_path)
