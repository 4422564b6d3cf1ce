"""What surrounds the API: health, request ids, the OpenAPI document, and who runs alone."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from starlette.testclient import TestClient

from app.api.deps import Timings
from app.assembly import single_process_lock
from app.errors import ConfigError, UpscalerUnavailable
from app.settings import Settings
from app.stores.base import StoreUnavailable
from tests.api.gateway import gateway, post
from tests.fakes import FakeUpscaler
from tests.live import serving


class TestHealth:
    def components(self, client, status):
        """What /readyz says under this status."""
        response = client.get("/readyz")
        assert response.status_code == status
        return response.json()["components"]

    def test_ready(self, client, calibration):
        """Each component says that it is ready."""
        components = self.components(client, 200)
        assert set(components) == {"store", "jobs", "upscaler:fake"}
        assert all(component["ready"] for component in components.values())
        assert components["upscaler:fake"]["calibration"] == calibration.id

    def test_an_upscaler_that_cannot_be_reached(self, client, upscaler):
        """Readiness names the component at fault; liveness and the list of upscalers go on."""
        upscaler.failure = UpscalerUnavailable("The model is asleep.")
        assert self.components(client, 503)["upscaler:fake"]["detail"] == "The model is asleep."
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/upscalers").status_code == 200

    def test_a_queue_that_is_away(self, start, monkeypatch):
        """Jobs are not ready without it; an upscaler is, though it still has to be calibrated."""
        client = start(calibrations=())
        assert self.components(client, 200)["upscaler:fake"]["calibration"] is None

        async def away():
            raise StoreUnavailable("The queue is away.")

        monkeypatch.setattr(client.app_state["trustscale"].queue, "check", away)
        components = self.components(client, 503)
        assert components["store"]["ready"]
        jobs = components["jobs"]
        assert (jobs["ready"], jobs["detail"]) == (False, "The queue is away.")

    def test_a_component_that_never_answers(self, start, monkeypatch):
        """Readiness answers in time all the same, and says who did not."""
        upscaler = FakeUpscaler()
        client = start(upscaler, timings=Timings(answer_s=0.1))
        monkeypatch.setattr(upscaler, "check", asyncio.Event().wait)
        detail = self.components(client, 503)["upscaler:fake"]["detail"]
        assert detail == "no answer within 0.1 seconds"

    def test_upscalers_are_closed_at_the_end(self, tmp_path):
        """Shutdown releases what the start opened."""
        upscaler = FakeUpscaler()
        with TestClient(gateway(tmp_path, upscaler)):
            assert not upscaler.closed
        assert upscaler.closed


class TestHead:
    def test_as_get(self, client):
        """HEAD has the status and the headers of GET, so it tells the size of a result's file."""
        result = post(client).json()["links"]["self"]
        files = [f"{result}{part}" for part in ("", "/image.png", "/overlay.png?alpha=0.5")]
        for path in ("/healthz", "/readyz", "/", "/v1/upscalers", *files):
            got, head = client.get(path), client.head(path)
            assert head.status_code == got.status_code == 200
            assert head.headers["content-type"] == got.headers["content-type"]
            assert head.headers["content-length"] == got.headers["content-length"] != "0"

    def test_refusals(self, client):
        """What GET refuses, HEAD refuses; events, which have no end of their own, have no HEAD."""
        assert client.head("/v1/results/res-none").status_code == 404
        assert client.head("/v1/upscale").status_code == 405
        job = post(client, headers={"Prefer": "respond-async"}).headers["location"]
        assert client.head(f"{job}/events").status_code == 405

    def test_over_a_real_connection(self, tmp_path):
        """A real server sends the length without the body, and the connection goes on."""
        with serving(gateway(tmp_path)) as address, httpx.Client() as client:
            for _ in range(2):
                head = client.head(f"http://{address}/healthz")
                assert (head.status_code, head.headers["content-length"]) == (200, "3")
            assert client.get(f"http://{address}/healthz").text == "ok\n"


class TestRequestId:
    def test_every_answer_has_one(self, client):
        """Successes and failures carry an id; two requests never share it."""
        responses = [client.get("/healthz"), client.get("/nothing"), post(client, b"text")]
        ids = {response.headers["x-request-id"] for response in responses}
        assert len(ids) == 3

    def test_one_of_the_client(self, client):
        """A harmless one is kept; what could break a log line is not taken over."""
        kept = client.get("/healthz", headers={"X-Request-ID": "trace-7.a_B"})
        assert kept.headers["x-request-id"] == "trace-7.a_B"
        for sent in ("a b", "x" * 65, 'a"b', "", "ä".encode("latin-1")):
            response = client.get("/healthz", headers={"X-Request-ID": sent})
            assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


class TestOpenApi:
    @pytest.fixture
    def document(self, client):
        return client.get("/openapi.json").json()

    def test_it_is_coherent(self, document):
        """OpenAPI 3.1; every operation has a name of its own, says what it does, and how it fails.

        None promises the framework's own error body.
        """
        assert document["openapi"].startswith("3.1")
        operations = [
            operation for path in document["paths"].values() for operation in path.values()
        ]
        ids = [operation["operationId"] for operation in operations]
        assert len(set(ids)) == len(ids)
        for operation in operations:
            assert operation["summary"]
            assert operation["description"]
            assert "schemas/HTTPValidationError" not in json.dumps(operation["responses"])

    def test_examples_of_problems(self, document):
        """Every documented failure has an example that is a problem of that status."""
        responses = document["paths"]["/v1/upscale"]["post"]["responses"]
        seen = set()
        for status, response in responses.items():
            if status in {"200", "202"}:
                continue
            content = response["content"].get("application/problem+json", {"examples": {}})
            for slug, example in content["examples"].items():
                assert example["value"]["type"] == f"/problems/{slug}"
                assert str(example["value"]["status"]) == status
                seen.add(slug)
        assert {"no-calibration", "bad-image", "overloaded", "degenerate-samples"} <= seen


def test_a_data_folder_has_one_gateway(tmp_path):
    """A second one on the same folder is refused while the first one runs, and not afterwards.

    Gateways that run no jobs of a queue in memory share a folder.
    """
    settings = Settings(data_dir=tmp_path / "data")
    with (
        single_process_lock(settings),
        pytest.raises(ConfigError, match="Another gateway"),
        single_process_lock(settings),
    ):
        pass
    with single_process_lock(settings):
        pass
    for more in ({"run_jobs": False}, {"queue": "redis://127.0.0.1/0", "run_jobs": True}):
        settings = Settings(data_dir=tmp_path, **more)
        with single_process_lock(settings), single_process_lock(settings):
            pass


def test_a_shared_store(tmp_path):
    """Jobs of a store that others see are not run from a queue that they do not see."""
    settings = Settings(data_dir=tmp_path, store="redis://:secret@127.0.0.1/0")
    with (
        pytest.raises(ConfigError, match="TRUSTSCALE_QUEUE") as caught,
        single_process_lock(settings),
    ):
        pass
    assert "secret" not in caught.value.detail
