"""Triton, KServe and Ray Serve start our engines with what `worker export` writes."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from app.upscalers.embedded import DEFAULT_MODEL
from app.upscalers.tensors import decode, encode
from tests.servers import free_port
from tests.workers.fakes import load
from tests.workers.test_community import save_compact


class _Tensor:
    """Of Triton's backend: a named array."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


@pytest.fixture
def backend(monkeypatch):
    """Triton's module of its backend processes, as far as it is used."""
    module = SimpleNamespace(
        Tensor=_Tensor,
        TritonError=str,
        InferenceResponse=lambda output_tensors=None, error=None: (output_tensors, error),
        get_input_tensor_by_name=lambda request, name: _Tensor(name, request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_triton(run, tmp_path, backend):
    """The repository's model.py makes the worker's samples, from what config.pbtxt says."""
    weights = save_compact(tmp_path / "compact_x2.safetensors")
    words = ("worker", "export", "--model", "spandrel", "--weights", weights, "--name", "up")
    result = run(*words, "--triton", tmp_path / "models")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "models/up/config.pbtxt").read_text()
    parameters = dict(re.findall(r'key: "(\w+)" value: \{ string_value: "([^"]*)"', text))
    assert parameters["weights"] == str(weights)
    model = runpy.run_path(str(tmp_path / "models/up/1/model.py"))["TritonPythonModel"]()
    config = {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_name": "up",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    request = {"image": image, "seeds": np.arange(3)}
    [(tensors, error)] = model.execute([request])
    assert error is None
    expected = load("spandrel", weights).samples(image, np.arange(3))
    assert np.array_equal(tensors[0].as_numpy(), expected)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_kserve(run, tmp_path, device):
    """The service starts the worker by its environment, with the weights that KServe fetches."""
    words = ("worker", "export", "--model", "diffusers", "--weights", "pvc://weights/ldm")
    config = '{"steps": 9}'
    given = ("--config", config, "--device", device, "--kserve", tmp_path)
    assert run(*words, *given).exit_code == 0
    service = yaml.safe_load((tmp_path / "inferenceservice.yaml").read_text())
    assert service["kind"] == "InferenceService"
    [container] = service["spec"]["predictor"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert given["STORAGE_URI"] == "pvc://weights/ldm"
    assert (given["WORKER_MODEL"], given["WORKER_CONFIG"]) == ("diffusers", config)
    assert {"--weights=/mnt/models", f"--device={device}"} < set(container["args"])
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (device == "cuda")


@pytest.mark.slow
def test_ray(run, tmp_path):
    """A replica of Ray Serve answers with the worker's own bytes; runs where Ray is installed."""
    pytest.importorskip("ray.serve", reason="needs ray[serve]: 300 MB that nothing else here uses")
    weights = Path(str(resources.files("app.upscalers").joinpath("models", DEFAULT_MODEL)))
    words = ("worker", "export", "--model", "onnx", "--weights", weights, "--name", "up")
    assert run(*words, "--device", "cpu", "--ray", tmp_path).exit_code == 0
    [told] = yaml.safe_load((tmp_path / "serve.yaml").read_text())["applications"]
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    parts, _ = encode({}, "inputs", {"image": image, "seeds": np.arange(3)}, binary=False)
    inputs = json.loads(parts[0])["inputs"]
    answer = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "apps/rayserve.py")],
        input=json.dumps([told["import_path"], told["args"], free_port(), inputs]),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    document, outputs = decode(line.encode(), None, "outputs")
    engine = load("onnx", weights)
    assert document["parameters"]["fingerprint"] == engine.fingerprint
    assert np.array_equal(outputs["samples"].numbers(), engine.samples(image, np.arange(3)))


def test_refusals(run, tmp_path):
    """Files are not overwritten; without a server to write for, one line says so."""
    words = ("worker", "export", "--model", "onnx", "--weights", "x")
    assert run(*words).exit_code == 2
    assert run(*words, "--kserve", tmp_path).exit_code == 0
    again = run(*words, "--kserve", tmp_path)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
