"""The service on a real server, judged by the official Triton client."""

from __future__ import annotations

import http.client
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from app.upscalers.tensors import encode
from tests.live import serving
from tests.waiting import block_until
from tests.workers.fakes import SleepingEngine, expected
from workers.errors import OutOfMemory
from workers.service import create_app
from workers.settings import WorkerSettings

triton = pytest.importorskip("tritonclient.http", reason="tritonclient judges the wire format")

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
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
    [body], _ = encode({}, "inputs", tensors, binary=False)
    return body


def _call(address, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


INFER = "/v2/models/sleeper/infer"


@pytest.fixture
def engine():
    return SleepingEngine()


@pytest.fixture
def address(engine):
    with serving(create_app(engine, WorkerSettings(max_pixels=1000, queue_size=1))) as where:
        yield where


@pytest.fixture
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


class TestMetadata:
    def test_health(self, client):
        """Server and model are live and ready."""
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("sleeper")
        assert client.is_model_ready("sleeper", "1")
        assert not client.is_model_ready("other")

    def test_server(self, client):
        """The server lists the binary extension, and its only model."""
        server = client.get_server_metadata()
        assert server["extensions"] == ["binary_tensor_data"]
        assert server["models"] == ["sleeper"]

    def test_model(self, client):
        """The model's metadata have tensors, scale, fingerprint and limits."""
        model = client.get_model_metadata("sleeper")
        assert model["inputs"][0] == {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}
        assert model["inputs"][1] == {"name": "seeds", "datatype": "INT64", "shape": [-1]}
        assert model["outputs"][0]["shape"] == [-1, -1, -1, 3]
        assert [output["name"] for output in model["outputs"]] == ["samples", "folded"]
        parameters = model["parameters"]
        assert parameters["fingerprint"] == "sha256:sleeper"
        assert parameters["scale"] == 2
        assert parameters["max_samples"] == 64
        assert parameters["max_pixels"] == 1000
        assert parameters["distinct_samples"] == 7


class TestInfer:
    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    def test_tensors(self, client, binary_in, binary_out):
        """Every mixture of binary and JSON tensors gives the same samples."""
        output = triton.InferRequestedOutput("samples", binary_data=binary_out)
        answer = client.infer(
            "sleeper", _inputs(binary=binary_in), outputs=[output], request_id="r1"
        )
        samples = answer.as_numpy("samples")
        assert samples.dtype == np.uint8
        assert np.array_equal(samples, [expected(IMAGE, int(seed), 2) for seed in SEEDS])
        response = answer.get_response()
        assert (response["id"], response["model_version"]) == ("r1", "1")
        assert response["parameters"]["fingerprint"] == "sha256:sleeper"

    def test_version_in_the_path(self, client):
        """The model's version may be named."""
        answer = client.infer("sleeper", _inputs(), model_version="1")
        assert answer.as_numpy("samples").shape == (3, 10, 14, 3)

    def test_odd_id(self, address):
        """The client's id comes back as it was, also one that UTF-8 cannot write."""
        body = json.dumps(
            {
                **json.loads(_infer_body()),
                "id": "\ud800",
                "parameters": {"binary_data_output": True},
            }
        )
        answer, content = _call(address, "POST", INFER, body)
        length = int(answer.headers["Inference-Header-Content-Length"])
        assert json.loads(content[:length])["id"] == "\ud800"

    def test_encoded_file(self, client):
        """An encoded file may be sent instead of pixels."""
        file = io.BytesIO()
        Image.fromarray(IMAGE).save(file, "PNG")
        answer = client.infer("sleeper", _inputs(np.array([file.getvalue()], object)))
        assert np.array_equal(answer.as_numpy("samples")[0], expected(IMAGE, 3, 2))

    def test_many_chunks(self, engine):
        """An answer of many socket writes arrives whole."""
        image = np.random.default_rng(1).integers(0, 256, (600, 700, 3), np.uint8)
        with (
            serving(create_app(engine)) as address,
            triton.InferenceServerClient(address) as client,
        ):
            samples = client.infer("sleeper", _inputs(image)).as_numpy("samples")
        assert np.array_equal(samples[2], expected(image, 2**40, 2))


class TestErrors:
    @pytest.mark.parametrize(
        ("model", "version"), [("other", ""), ("sleeper", "2"), ("other", "1")]
    )
    def test_unknown_model(self, client, model, version):
        """Another model or version is 404, in words."""
        with pytest.raises(triton.InferenceServerException, match="no ") as caught:
            client.infer(model, _inputs(), model_version=version)
        assert caught.value.status() == "404"

    def test_wrong_rank(self, client):
        """An image of another rank is 400, in words."""
        with pytest.raises(triton.InferenceServerException, match="expected shape") as caught:
            client.infer("sleeper", _inputs(IMAGE[None]))
        assert caught.value.status() == "400"

    @pytest.mark.parametrize(
        ("method", "path", "body", "headers", "status"),
        [
            ("POST", INFER, "{", {}, 400),
            ("POST", INFER, _infer_body([1] * 65), {}, 413),
            ("POST", INFER, bytes(200_000), {}, 413),
            ("POST", INFER, "{}", {"Content-Encoding": "gzip"}, 415),
            ("GET", INFER, None, {}, 405),
            ("GET", "/v3", None, {}, 404),
            ("GET", "/v2/models/other", None, {}, 404),
        ],
    )
    def test_form(self, address, method, path, body, headers, status):
        """Every error has its status and a JSON object with `error`."""
        answer, content = _call(address, method, path, body, headers)
        assert answer.status == status
        assert list(json.loads(content)) == ["error"]

    def test_chunked_body_over_the_limit(self, address):
        """A body without a declared length is cut off at the limit too."""
        pieces = (bytes(10_000) for _ in range(20))
        answer, content = _call(address, "POST", INFER, pieces)
        assert answer.status == 413
        assert "more than" in json.loads(content)["error"]

    def test_answers_over_the_limits(self, engine):
        """Answers that are too large, or too large for JSON, are refused before the model runs."""
        settings = WorkerSettings(max_answer_bytes=36, max_json_values=12)
        with serving(create_app(engine, settings)) as address:
            assert _call(address, "POST", INFER, _infer_body([1]))[0].status == 200
            answer, content = _call(address, "POST", INFER, _infer_body([1, 2]))
            assert (answer.status, b"binary" in content) == (413, True)
            assert _call(address, "POST", INFER, _infer_body([1, 2, 3, 4]))[0].status == 413
        assert engine.calls == [[1]]

    @pytest.mark.parametrize(
        ("error", "status", "word"),
        [(OutOfMemory("no room"), 503, "no room"), (ValueError("bug"), 500, "ValueError")],
    )
    def test_model_fails(self, engine, address, error, status, word):
        """A failing model is a 5xx for that request, and the next one is served."""
        engine.error = error
        answer, content = _call(address, "POST", INFER, _infer_body([13]))
        assert (answer.status, word in json.loads(content)["error"]) == (status, True)
        assert _call(address, "POST", INFER, _infer_body([1]))[0].status == 200

    def test_full_queue(self, engine, address):
        """Beyond the queue 503 with Retry-After comes at once; the others are served."""
        engine.open.clear()
        with ThreadPoolExecutor(2) as threads:
            calls = []
            for waiting in ("0.0", "1.0"):
                calls.append(threads.submit(_call, address, "POST", INFER, _infer_body()))
                line = f"trustscale_worker_queue_requests {waiting}"
                block_until(
                    lambda line=line: (
                        engine.calls and line in _call(address, "GET", "/metrics")[1].decode()
                    )
                )
            answer, content = _call(address, "POST", INFER, _infer_body())
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "full" in json.loads(content)["error"]
            engine.open.set()
            assert [call.result()[0].status for call in calls] == [200, 200]


class TestDraining:
    def test_out_of_time(self):
        """What a stopping worker cannot finish in time is answered 503 with a time to come back."""
        engine = SleepingEngine(shut=True)
        with ThreadPoolExecutor(1) as threads, serving(create_app(engine), drain_s=1) as address:
            call = threads.submit(_call, address, "POST", INFER, _infer_body())
            block_until(lambda: engine.calls)
        answer, content = call.result()
        assert (answer.status, json.loads(content)["error"]) == (503, "the worker is shutting down")
        assert int(answer.headers["Retry-After"]) >= 1


class TestMetrics:
    def test_values(self, client, address):
        """Requests, samples, batches, times and device memory are counted."""
        client.infer("sleeper", _inputs())
        _call(address, "POST", INFER, "{")
        _, content = _call(address, "GET", "/metrics")
        for line in (
            'trustscale_worker_requests_total{status="200"} 1.0',
            'trustscale_worker_requests_total{status="400"} 1.0',
            "trustscale_worker_samples_total 3.0",
            "trustscale_worker_batch_samples_sum 3.0",
            "trustscale_worker_sample_seconds_count 1.0",
            "trustscale_worker_queue_requests 0.0",
            'trustscale_worker_device_memory_used_bytes{device="fake:0"} 10.0',
            'trustscale_worker_device_memory_total_bytes{device="fake:0"} 100.0',
        ):
            assert line in content.decode()
