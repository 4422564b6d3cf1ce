"""A worker as compose starts it: the model's kind and a folder with weights, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import load_settings
from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, pixels, post
from tests.deploy.files import ROOT, filled, services
from tests.factories import encoded, photo
from tests.servers import ProcessGroup, free_port
from tests.upscalers.remote.pictures import patiently
from tests.workers.diffusion.tiny import make
from tests.workers.test_community import save_compact
from workers.errors import WeightsError
from workers.models.registry import locate

PAIRS = 20
SHIPPED = ROOT / "app/upscalers/models/spanx4_ch52.onnx"


def _compose(folder, **variables):
    """The command and the environment of the service `cpu-worker`, outside a container."""
    service = services()["cpu-worker"]
    port = free_port()
    words = [filled(word, variables) for word in service["command"]]
    words = [word.replace("/weights/", f"{folder}/") for word in words]
    places = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8001": f"--port={port}"}
    environment = {key: filled(text, variables) for key, text in service["environment"].items()}
    command = [sys.executable, "-m", "app", *(places.get(word, word) for word in words)]
    # Threads that compete for the cores of a busy machine mostly wait for one another.
    return command, {**environment, "OMP_NUM_THREADS": "1"}, port


def _sinsr(data, folder):
    for name in ("unet_tiny.pth", "vq_tiny.pth"):
        shutil.copy(data / name, folder)
    return {"WORKER_CONFIG": (data / "tiny.json").read_text()}


def _spandrel(_, folder):
    save_compact(folder / "compact_x2.safetensors")
    return {}


def _onnx(_, folder):
    shutil.copy(SHIPPED, folder)
    return {}


def _diffusers(_, folder):
    make("ldm", folder)
    return {"WORKER_CONFIG": '{"steps": 2}'}


MODELS = {
    "diffusers": (_diffusers, 4),
    "sinsr": (_sinsr, 4),
    "spandrel": (_spandrel, 2),
    "onnx": (_onnx, 4),
}


@contextmanager
def _started(folder, log, **variables):
    command, environment, port = _compose(folder, **variables)
    with ProcessGroup(command, log=log, env=environment) as group:
        group.wait_for(f"http://127.0.0.1:{port}/v2/health/ready", "worker")
        yield f"http://127.0.0.1:{port}"


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_from_a_folder_to_a_mask(data, tmp_path, monkeypatch, model):
    """Two lines of .env start it; a gateway that is told the address calibrates and upscales."""
    folder = tmp_path / "weights"
    folder.mkdir()
    fill, scale = MODELS[model]
    variables = fill(data, folder)
    with _started(folder, tmp_path / "log", WORKER_MODEL=model, **variables) as url:
        monkeypatch.setenv("TRUSTSCALE_WORKERS", f"worker={url}")
        settings = load_settings(data_dir=tmp_path / "data", admin_keys=[ADMIN_KEY])
        with TestClient(create_app(settings, build=patiently)) as client:
            made = Admin(client).create(
                truth_files(PAIRS, side=16 * scale), upscaler="worker", samples=2, activate=True
            )
            assert (made["n"], made["state"]) == (PAIRS, "active")
            answer = post(client, encoded(photo(99, 16, 16)), upscaler="worker", alpha=0.3)
            assert answer.status_code == 200, answer.text
            mask = pixels(client.get(answer.json()["links"]["mask"]).content)
    assert mask.shape == (16 * scale, 16 * scale)
    assert mask.dtype == bool


@pytest.mark.slow
def test_a_missing_file_is_one_line(data, tmp_path):
    """Without its second file SinSR does not start: one line that names it, and exit code 1."""
    shutil.copy(data / "unet_tiny.pth", tmp_path)
    command, environment, _ = _compose(tmp_path, WORKER_MODEL="sinsr")
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "autoencoder_vq_f4.pth" in done.stderr


class TestFolder:
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
    def test_found(self, tmp_path, model, names, found):
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
    def test_not_found(self, tmp_path, model, names, words):
        """What is missing, or what there is too much of, is named."""
        for name in names:
            (tmp_path / name).touch()
        with pytest.raises(WeightsError, match=words):
            locate(model, tmp_path)
