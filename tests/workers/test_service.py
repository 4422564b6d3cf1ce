"""The service on a real server, judged by the official Triton client."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from harness.factories import encoded
from harness.waiting import block_until
from tests.live import serving
from tests.workers.fakes import SleepingEngine, noise, textured
from trustscale_server.upscalers.tensors import encode_message
from trustscale_worker.errors import OutOfMemory
from trustscale_worker.service import create_worker_app
from trustscale_worker.settings import WorkerSettings

triton = pytest.importorskip("tritonclient.http", reason="tritonclient judges the wire format")

IMAGE = noise(5, 7)
SEEDS = np.array([3, -1, 2**40], np.int64)


def _inputs(image=IMAGE, seeds=SEEDS, *, binary=True):
    inputs = []
    kind = "BYTES" if image.dtype == object else "UINT8"
    for name, tensor, datatype in (("image", image, kind), ("seeds", seeds, "INT64")):
        given = triton.InferInput(name, tensor.shape, datatype)
        given.set_data_from_numpy(tensor, binary_data=binary)
        inputs.append(given)
    return inputs


def _infer_body(seeds=(1,)):
    tensors = {"image": np.array([[[1, 2, 3]]], np.uint8), "seeds": np.array(seeds, np.int64)}
    [body], _ = encode_message({}, "inputs", tensors, binary=False)
    return body


INFER = "/v2/models/sleeper/infer"


def _call(address, method, path, body=None, headers=None):
    url = f"http://{address}{path}"
    return httpx.request(method, url, content=body, headers=headers, timeout=60, trust_env=False)


def _ask(address, *seeds):
    return _call(address, "POST", INFER, _infer_body(seeds or (1,)))


@pytest.fixture
def engine():
    return SleepingEngine()


@pytest.fixture
def address(engine):
    with serving(create_worker_app(engine, WorkerSettings(max_pixels=1000, queue_size=1))) as where:
        yield where


@pytest.fixture
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def test_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sleeper")
    assert client.is_model_ready("sleeper", "1")
    assert not client.is_model_ready("other")
    server = client.get_server_metadata()
    assert server["extensions"] == ["binary_tensor_data"]
    assert server["models"] == ["sleeper"]
    model = client.get_model_metadata("sleeper")
    assert model["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]},
        {"name": "seeds", "datatype": "INT64", "shape": [-1]},
    ]
    assert model["outputs"] == [
        {"name": "samples", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ]
    told = {"fingerprint": "sha256:sleeper", "scale": 2, "max_samples": 64, "distinct_samples": 7}
    assert model["parameters"].items() >= {**told, "max_pixels": 1000}.items()


class TestInfer:
    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    def test_tensors(self, client, binary_in, binary_out):
        output = triton.InferRequestedOutput("samples", binary_data=binary_out)
        answer = client.infer(
            "sleeper", _inputs(binary=binary_in), outputs=[output], request_id="r1"
        )
        samples = answer.as_numpy("samples")
        assert samples.dtype == np.uint8
        assert np.array_equal(samples, [textured(IMAGE, int(seed), 2) for seed in SEEDS])
        response = answer.get_response()
        assert (response["id"], response["model_version"]) == ("r1", "1")
        assert response["parameters"]["fingerprint"] == "sha256:sleeper"

    def test_encoded_file(self, client):
        file = np.array([encoded(IMAGE)], object)
        answer = client.infer("sleeper", _inputs(file), model_version="1")
        assert np.array_equal(answer.as_numpy("samples")[0], textured(IMAGE, 3, 2))


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "body", "headers", "status"),
        [("POST", INFER, "{", {}, 400), ("POST", INFER, _infer_body([1] * 65), {}, 413),
         ("POST", INFER, bytes(200_000), {}, 413),
         ("POST", INFER, "{}", {"Content-Encoding": "gzip"}, 415), ("GET", INFER, None, {}, 405),
         ("GET", "/v3", None, {}, 404), ("GET", "/v2/models/other", None, {}, 404),
         ("POST", "/v2/models/sleeper/versions/2/infer", "{}", {}, 404)],
    )  # fmt: skip
    def test_form(self, address, method, path, body, headers, status):
        answer = _call(address, method, path, body, headers)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]

    def test_chunked_body_over_the_limit(self, address):
        pieces = (bytes(10_000) for _ in range(20))
        answer = _call(address, "POST", INFER, pieces)
        assert answer.status_code == 413
        assert "more than" in answer.json()["error"]

    def test_answers_over_the_limits(self, engine):
        settings = WorkerSettings(max_answer_bytes=36, max_json_values=12)
        with serving(create_worker_app(engine, settings)) as address:
            assert _ask(address, 1).status_code == 200
            answer = _ask(address, 1, 2)
            assert (answer.status_code, "binary" in answer.text) == (413, True)
            assert _ask(address, 1, 2, 3, 4).status_code == 413
        assert engine.calls == [[1]]

    @pytest.mark.parametrize(
        ("error", "status", "word"),
        [(OutOfMemory("no room"), 503, "no room"), (ValueError("bug"), 500, "ValueError")],
    )
    def test_model_fails(self, engine, address, error, status, word):
        engine.error = error
        answer = _ask(address, 13)
        assert (answer.status_code, word in answer.json()["error"]) == (status, True)
        assert _ask(address).status_code == 200

    def test_full_queue(self, engine, address):
        engine.open.clear()
        with ThreadPoolExecutor(2) as threads:
            calls = []
            for waiting in ("0.0", "1.0"):
                calls.append(threads.submit(_ask, address))
                line = f"trustscale_worker_queue_requests {waiting}"
                block_until(lambda: engine.calls)
                block_until(lambda line=line: line in _call(address, "GET", "/metrics").text)
            answer = _ask(address)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "full" in answer.json()["error"]
            engine.open.set()
            assert [call.result().status_code for call in calls] == [200, 200]


def test_out_of_time():
    """What a stopping worker cannot finish in time is answered 503 with a time to come back."""
    engine = SleepingEngine(shut=True)
    with ThreadPoolExecutor(1) as threads, serving(create_worker_app(engine), drain_s=1) as address:
        call = threads.submit(_ask, address)
        block_until(lambda: engine.calls)
    answer = call.result()
    assert (answer.status_code, answer.json()["error"]) == (503, "the worker is shutting down")
    assert int(answer.headers["Retry-After"]) >= 1


def test_metrics(client, address):
    client.infer("sleeper", _inputs())
    _call(address, "POST", INFER, "{")
    assert set(_call(address, "GET", "/metrics").text.splitlines()) >= {
        f"trustscale_worker_{line}"
        for line in (
            'requests_total{status="200"} 1.0',
            'requests_total{status="400"} 1.0',
            "samples_total 3.0",
            "batch_samples_sum 3.0",
            "sample_seconds_count 1.0",
            "queue_requests 0.0",
            'device_memory_used_bytes{device="fake:0"} 10.0',
            'device_memory_total_bytes{device="fake:0"} 100.0',
        )
    }
