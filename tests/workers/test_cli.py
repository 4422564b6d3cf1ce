"""The worker's commands, and the models that they know."""

import json
import sys

import pytest

from tests.workers.fakes import tiny_sinsr
from trustscale_worker.files import file_sha256


def _fails(result, code, *words):
    assert result.exit_code == code
    assert result.stderr.startswith("trustscale: ")
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"--weights": None}, ["--weights"]),
     ({"--model": "onnx", "--dtype": "float16"}, ["float32 or bfloat16"]),
     ({"--model": "onnx", "--device": "cuda:0"}, ["CUDA_VISIBLE_DEVICES"]),
     ({"--autoencoder": None}, ["--autoencoder"]), ({"--device": "cuda:99"}, ["no such GPU"]),
     ({"--config": "none.json"}, ["none.json: No such file"]),
     ({"--max-samples": "0"}, ["max_samples: ", "greater than 0"])],
)  # fmt: skip
def test_wrong_settings(run, data, changes, words):
    _fails(run("worker", *tiny_sinsr(data, **changes)), 2, *words)


def test_traces_that_cannot_be_sent(run, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delattr("trustscale_server.platform.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "trustscale_server.platform.telemetry.otel", None)
    _fails(run("worker", "--model", "onnx"), 2, "trustscale[tracing]")


def test_convert_and_verify(run, data, tmp_path):
    paths = {}
    for option, name in (("--weights", "unet_tiny"), ("--autoencoder", "vq_tiny")):
        paths[option] = tmp_path / f"{name}.safetensors"
        result = run("models", "convert", data / f"{name}.pth", paths[option], "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["sha256"] == file_sha256(paths[option])
    before = json.loads(run("models", "verify", *tiny_sinsr(data), "--json").stdout)
    after = json.loads(run("models", "verify", *tiny_sinsr(data, **paths), "--json").stdout)
    assert before["fingerprint"] == after["fingerprint"]
    assert before["sha256"] != after["sha256"]
    assert before["scale"] == 4


def test_convert_does_not_overwrite(run, data, tmp_path):
    target = tmp_path / "there.safetensors"
    target.write_text("precious")
    _fails(run("models", "convert", data / "vq_tiny.pth", target), 2, "there.safetensors")
    assert target.read_text() == "precious"
    assert run("models", "convert", data / "vq_tiny.pth", target, "--force").exit_code == 0
