"""Triton and Ray Serve start our engines with what `worker export` writes."""

import json
import re
import runpy
import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.workers.fakes import load, noise
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS

WEIGHTS = Path(
    str(
        resources.files("trustscale_server.upscalers.embedded").joinpath(
            "models", SHIPPED_MODELS["span-x4"].file
        )
    )
)
WORDS = ("worker", "export", "--model", "onnx", "--weights", WEIGHTS, "--name", "up")
IMAGE, SEEDS = noise(12, 9), np.arange(3)


@pytest.fixture
def backend(monkeypatch):
    """Triton's module of its backend processes, as far as it is used."""

    def tensor(name, array):
        return SimpleNamespace(name=name, as_numpy=lambda: array)

    module = SimpleNamespace(
        Tensor=tensor,
        TritonError=str,
        InferenceResponse=lambda output_tensors=None, error=None: (output_tensors, error),
        get_input_tensor_by_name=lambda request, name: tensor(name, request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)


def test_triton(run, tmp_path, backend):
    """The repository's model.py makes the worker's samples, from what config.pbtxt says."""
    result = run(*WORDS, "--triton", tmp_path / "models")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "models/up/config.pbtxt").read_text()
    parameters = dict(re.findall(r'key: "(\w+)" value: \{ string_value: "([^"]*)"', text))
    assert parameters["weights"] == str(WEIGHTS)
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
    [(tensors, error)] = model.execute([{"image": IMAGE, "seeds": SEEDS}])
    assert error is None
    assert np.array_equal(tensors[0].as_numpy(), load("onnx", WEIGHTS).samples(IMAGE, SEEDS))
