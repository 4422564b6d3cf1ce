"""The worker's commands as an operator types them."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli.main import app as trustscale
from app.upscalers.tensors import encode
from tests.waiting import block_until
from tests.workers.fakes import Bomb, Served, tiny_sinsr
from workers import cli
from workers.files import file_sha256


def _fails(result, code, *words):
    """One line on stderr that holds the words; no traceback."""
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


class TestWorkerErrors:
    def test_missing_file(self, run, data, tmp_path):
        """Without its second file SinSR does not start; the line names it."""
        shutil.copy(data / "unet_tiny.pth", tmp_path)
        result = run("worker", "--model", "sinsr", "--weights", tmp_path)
        _fails(result, 1, "autoencoder_vq_f4.pth")

    @pytest.mark.parametrize("model", ["sinsr", "spandrel"])
    def test_malicious_pickle(self, run, data, tmp_path, model):
        """A pickle with a command in it is refused, and the command does not run."""
        path, trap = tmp_path / "evil.pth", tmp_path / "executed"
        torch.save({"state_dict": {"a": torch.zeros(1)}, "bomb": Bomb(trap)}, path)
        result = run("worker", *tiny_sinsr(data, **{"--weights": path, "--model": model}))
        _fails(result, 1, "nothing in it was executed")
        assert not trap.exists()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"--model": "esrgan"}, ["expected one of"]),
            ({"--weights": None}, ["--weights"]),
            ({"--model": "spandrel", "--weights": None}, ["--weights"]),
            ({"--model": "onnx", "--dtype": "float16"}, ["float32 or bfloat16"]),
            ({"--model": "onnx", "--device": "cuda:0"}, ["CUDA_VISIBLE_DEVICES"]),
            ({"--model": "onnx", "--tile": "64"}, ["larger than its two halos"]),
            ({"--autoencoder": None}, ["--autoencoder"]),
            ({"--dtype": "int8"}, ["float32, float16"]),
            ({"--device": "tpu"}, ["expected cpu, cuda"]),
            ({"--device": "cuda:99"}, ["no such GPU"]),
            ({"--config": "none.json"}, ["none.json: No such file"]),
            ({"--max-samples": "0"}, ["max_samples: ", "greater than 0"]),
        ],
    )
    def test_wrong_settings(self, run, data, changes, words):
        """A setting that makes no sense ends with exit code 2 and its name."""
        _fails(run("worker", *tiny_sinsr(data, **changes)), 2, *words)

    def test_traces_that_cannot_be_sent(self, run, monkeypatch):
        """With a collector and without what speaks to it, one line says what to install."""
        monkeypatch.setenv("TRUSTSCALE_OTLP_ENDPOINT", "http://127.0.0.1:9")
        # Once loaded, it is found in its package even where it cannot be imported.
        monkeypatch.delattr("app.telemetry.otel", raising=False)
        monkeypatch.setitem(sys.modules, "app.telemetry.otel", None)
        _fails(run("worker", "--model", "onnx"), 2, "trustscale[tracing]")


class TestModels:
    def test_convert_and_verify(self, run, data, tmp_path):
        """Converted files have the fingerprint of the originals."""
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

    def test_convert_does_not_overwrite(self, run, data, tmp_path):
        """An existing file is replaced only by force."""
        target = tmp_path / "there.safetensors"
        target.write_text("precious")
        _fails(run("models", "convert", data / "vq_tiny.pth", target), 2, "there.safetensors")
        assert target.read_text() == "precious"
        assert run("models", "convert", data / "vq_tiny.pth", target, "--force").exit_code == 0

    def test_nothing_to_convert(self, run, data):
        """A folder without pickled parts of a pipeline is no success."""
        _fails(run("models", "convert", data), 1, "no pickled weights")

    def test_verify_names_every_key(self, run, data):
        """Verification lists a few wrong keys, and with --json every one of hundreds."""
        wrong = tiny_sinsr(data, **{"--weights": data / "vq_tiny.pth"})
        few, all_keys = (run("models", "verify", *wrong, *more) for more in ((), ("--json",)))
        _fails(few, 1, "vq_tiny.pth", "does not hold the weights of this UNet", "missing")
        assert len(few.stderr) < 1000
        last = "output_blocks.6.0.skip_connection.bias"
        assert last not in few.stderr
        _fails(all_keys, 1, last)


def test_own_program(monkeypatch, capsys):
    """`python -m workers` has the worker's commands only; `trustscale` has them too."""
    monkeypatch.setattr(sys, "argv", ["workers", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "python -m workers" in text
    assert " serve " not in text
    whole = CliRunner().invoke(trustscale, ["--help"]).stdout
    for command in ("worker", "models"):
        assert f" {command} " in text
        assert f" {command} " in whole


@pytest.mark.slow
def test_serves_and_drains(data, tmp_path):
    """A running worker answers; on SIGTERM it finishes its requests and exits with 0."""
    tensors = {"image": np.zeros((20, 30, 3), np.uint8), "seeds": np.arange(8)}
    [body], _ = encode({}, "inputs", tensors, binary=False)
    with Served(data, tmp_path, "--drain", "600") as worker, ThreadPoolExecutor(2) as threads:
        worker.wait_for(f"{worker.url}/v2/health/ready", "worker")
        url, patience = f"{worker.url}/v2/models/sinsr/infer", {"timeout": 600, "trust_env": False}
        answers = [threads.submit(httpx.post, url, content=body, **patience) for _ in range(2)]
        # One is worked on and one waits, or the machine has slept and both are answered.
        block_until(
            lambda: all(answer.done() for answer in answers) or worker.metric("queue_requests") == 1
        )
        assert worker.stop(600) == 0
        for answer in answers:
            assert answer.result().json()["outputs"][0]["shape"] == [8, 80, 120, 3]
    assert "Traceback" not in worker.log.read_text()
