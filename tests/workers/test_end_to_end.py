"""Workers as processes: found, started as compose does, and killed."""

import re
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from harness.admin import Admin, truth_files
from harness.factories import encoded, photo
from harness.gateway import ADMIN_KEY, check_problem, pixels, post
from harness.pictures import patiently
from harness.servers import ProcessGroup, free_port
from harness.waiting import block_until
from tests.deploy.files import filled, services
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.upscalers.tensors import encode_message
from trustscale_worker.errors import WeightsError
from trustscale_worker.models.engine import locate

SAMPLES = 4
PAIRS = 8
MADE = "samples_total"  # since the worker's start


class Served(ProcessGroup):
    """A worker as lines of .env start it in the stack, outside a container."""

    def __init__(self, folder, **variables):
        service, port = services()["cpu-worker"], free_port()
        self.url = f"http://127.0.0.1:{port}"
        places = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8001": f"--port={port}"}
        words = [filled(places.get(word, word), variables) for word in service["command"]]
        words = [word.replace("/weights/", f"{folder}/") for word in words]
        environment = {key: filled(text, variables) for key, text in service["environment"].items()}
        # Threads that compete for the cores of a busy machine mostly wait for one another.
        environment["OMP_NUM_THREADS"] = "1"
        command = [sys.executable, "-m", "trustscale_server", *words]
        super().__init__(command, log=folder / f"{port}.log", env=environment)

    def metric(self, name):
        text = httpx.get(f"{self.url}/metrics", timeout=600, trust_env=False).text
        [value] = re.findall(rf"^trustscale_worker_{name} (.*)$", text, re.MULTILINE)
        return float(value)


@pytest.fixture
def workers(data, tmp_path):
    for name in ("unet_tiny.pth", "vq_tiny.pth"):
        shutil.copy(data / name, tmp_path)
    told = {"WORKER_MODEL": "sinsr", "WORKER_CONFIG": (data / "tiny.json").read_text()}
    with Served(tmp_path, **told) as one, Served(tmp_path, **told) as two:
        for worker in (one, two):
            worker.wait_for(f"{worker.url}/v2/health/ready", "worker")
        yield one, two


@pytest.fixture
def client(workers, tmp_path):
    """A client of a gateway whose only upscaler is those workers; the model is not named."""
    urls = [worker.url for worker in workers]
    told = {"name": "sinsr", "kind": "worker", "urls": urls}
    settings = Settings(data_dir=tmp_path / "data", admin_keys=[ADMIN_KEY], upscalers=[told])
    with TestClient(create_app(settings, build=patiently), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.slow
def test_from_nothing_to_a_mask_and_through_deaths(workers, client):
    """Calibrated, upscaled; one worker's death does not show, the last one's does."""
    image = encoded(photo(1000, 16, 16))
    check_problem(post(client, image), "no-calibration")

    made = Admin(client).create(
        truth_files(PAIRS, side=64), samples=SAMPLES, activate=True, name="tiny"
    )
    assert (made["n"], made["state"]) == (PAIRS, "active")
    assert all(worker.metric(MADE) >= PAIRS for worker in workers)

    first = post(client, image, seed=3)
    assert first.status_code == 200, first.text
    answer = first.json()
    assert (answer["width"], answer["height"], answer["calibration"]) == (64, 64, made["id"])
    parts = _parts(client, answer)

    kept, dying = workers
    before = kept.metric(MADE)
    dying.send(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(post, client, image, seed=3)
        block_until(lambda: kept.metric(MADE) == before + SAMPLES // 2)
        assert not asked.done()
        dying.kill()
        again = asked.result(120)
    assert again.status_code == 200, again.text
    assert kept.metric(MADE) == before + SAMPLES
    for name, part in _parts(client, again.json()).items():
        assert np.array_equal(part, parts[name]), name

    _stops_with_its_answers(kept)
    problem = check_problem(post(client, image, seed=3), "upscaler-unavailable")
    assert "sinsr" in problem["detail"]


def _parts(client, answer):
    return {
        name: pixels(client.get(answer["links"][name]).content)
        for name in ("image", "mask", "trust")
    }


def _stops_with_its_answers(worker):
    """What was asked for when it is to end is answered."""
    tensors = {"image": np.zeros((20, 30, 3), np.uint8), "seeds": np.arange(3)}
    [body], _ = encode_message({}, "inputs", tensors, binary=False)
    asked = {"content": body, "timeout": 600, "trust_env": False}
    with ThreadPoolExecutor(2) as threads:
        infer = httpx.post, f"{worker.url}/v2/models/sinsr/infer"
        answers = [threads.submit(*infer, **asked) for _ in range(2)]
        # One is worked on and one waits, or the machine has slept and both are answered.
        block_until(
            lambda: all(answer.done() for answer in answers) or worker.metric("queue_requests") == 1
        )
        assert worker.stop(600) == 0
        for answer in answers:
            assert answer.result().json()["outputs"][0]["shape"] == [3, 80, 120, 3]
    assert "Traceback" not in worker.log.read_text()


@pytest.mark.parametrize(
    ("model", "names", "found"),
    [("spandrel", ["a.pth", "a.safetensors", "notes.txt"], ("a.safetensors", None)),
     ("sinsr", ["SinSR_v2.pth", "vq_f4.pth"], ("SinSR_v2.pth", "vq_f4.pth")),
     ("onnx", ["x.onnx", "x.pth"], ("x.onnx", None)), ("spandrel", [], "holds no model file"),
     ("spandrel", ["a.pth", "b.pth"], "more than one.*a.pth, b.pth"),
     ("sinsr", ["SinSR_v1.pth", "SinSR_v2.pth", "vq.pth"], "more than one network"),
     ("onnx", ["a.pth"], r"\.onnx")],
)  # fmt: skip
def test_found_in_a_folder(tmp_path, model, names, found):
    for name in names:
        (tmp_path / name).touch()
    if isinstance(found, str):
        with pytest.raises(WeightsError, match=found):
            locate(model, tmp_path)
    else:
        weights, autoencoder = locate(model, tmp_path)
        assert (weights.name, autoencoder and autoencoder.name) == found
