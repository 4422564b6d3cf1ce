"""What surrounds the API: health, request ids, the OpenAPI document, and who runs alone."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from starlette.testclient import TestClient

from app.api.deps import Pace
from app.assembly import alone
from app.errors import ConfigError, UpscalerUnavailable
from app.settings import Settings
from app.stores.base import StoreUnavailable
from tests.api.gateway import gateway, post
from tests.fakes import FakeUpscaler
from tests.live import serving


class TestHealth:
    def test_ready(self, client, calibration):
        """Each component says that it is ready."""
        response = client.get("/readyz")
        assert response.status_code == 200
        components = response.json()["components"]
        assert set(components) == {"store", "jobs", "upscaler:fake"}
        assert all(component["ready"] for component in components.values())
        assert components["upscaler:fake"]["calibration"] == calibration.id

    def test_an_upscaler_that_cannot_be_reached(self, client, upscaler):
        """Readiness names the component at fault; liveness and the list of upscalers go on."""
        upscaler.failure = UpscalerUnavailable("The model is asleep.")
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["components"]["upscaler:fake"]["detail"] == "The model is asleep."
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/upscalers").status_code == 200

    def test_a_queue_that_cannot_be_reached(self, start):
        """Jobs are not ready without their queue, on whatever server that is."""
        client = start(queue="memory://")
        queue = client.app_state["trustscale"].queue

        async def away():
            raise StoreUnavailable("The queue is away.")

        queue.check = away
        response = client.get("/readyz")
        assert response.status_code == 503
        component = response.json()["components"]["jobs"]
        assert (component["ready"], component["detail"]) == (False, "The queue is away.")

    def test_components_that_never_answer(self, start, monkeypatch):
        """Readiness answers in time all the same, and says who did not."""
        client = start(pace=Pace(answer_s=0.2))
        state = client.app_state["trustscale"]
        monkeypatch.setattr(state.queue, "check", asyncio.Event().wait)
        state.service.upscalers["fake"].check = asyncio.Event().wait
        response = client.get("/readyz")
        assert response.status_code == 503
        components = response.json()["components"]
        assert components["store"]["ready"]
        for name in ("jobs", "upscaler:fake"):
            assert "no answer" in components[name]["detail"]

    def test_an_upscaler_without_a_calibration(self, start):
        """It is ready to be calibrated, and the component says so."""
        response = start(calibrations=()).get("/readyz")
        assert response.status_code == 200
        assert response.json()["components"]["upscaler:fake"]["calibration"] is None

    def test_upscalers_are_closed_at_the_end(self, tmp_path):
        """Shutdown releases what the start opened."""
        upscaler = FakeUpscaler()
        with TestClient(gateway(tmp_path, upscaler)):
            assert not upscaler.closed
        assert upscaler.closed


class TestHead:
    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/metrics", "/v1/upscalers"])
    def test_as_get(self, client, path):
        """HEAD has the status and the headers of GET."""
        got, head = client.get(path), client.head(path)
        assert head.status_code == got.status_code
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers["content-length"]) > 0

    @pytest.mark.parametrize("part", ["", "/image.png", "/mask.png", "/overlay.png?alpha=0.5"])
    def test_results(self, client, part):
        """So it tells the size of a file of a result."""
        path = post(client).json()["links"]["self"] + part
        head = client.head(path)
        assert head.status_code == 200
        assert int(head.headers["content-length"]) == len(client.get(path).content)

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

    @pytest.mark.parametrize("sent", ["a b", "x" * 65, 'a"b', "", "ä".encode("latin-1")])
    def test_one_of_the_client(self, client, sent):
        """A harmless one is kept; what could break a log line is not taken over."""
        kept = client.get("/healthz", headers={"X-Request-ID": "trace-7.a_B"})
        assert kept.headers["x-request-id"] == "trace-7.a_B"
        response = client.get("/healthz", headers={"X-Request-ID": sent})
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


class TestOpenApi:
    @pytest.fixture
    def document(self, client):
        return client.get("/openapi.json").json()

    def test_it_is_coherent(self, document):
        """OpenAPI 3.1; every operation has a name of its own, and says what it does."""
        assert document["openapi"].startswith("3.1")
        operations = [
            operation for path in document["paths"].values() for operation in path.values()
        ]
        ids = [operation["operationId"] for operation in operations]
        assert len(set(ids)) == len(ids)
        for operation in operations:
            assert operation["summary"]
            assert operation["description"]
            assert operation["responses"]

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

    def test_every_failure_is_a_problem_document(self, document):
        """No public operation promises the framework's own error body."""
        for path, operations in document["paths"].items():
            if not path.startswith("/v1/admin"):
                assert "schemas/HTTPValidationError" not in json.dumps(operations)


def test_a_data_folder_has_one_gateway(tmp_path):
    """A second one on the same folder is refused while the first one runs, and not afterwards."""
    settings = Settings(data_dir=tmp_path / "data")
    with alone(settings), pytest.raises(ConfigError, match="Another gateway"), alone(settings):
        pass
    with alone(settings):
        pass


@pytest.mark.parametrize(
    "more", [{"run_jobs": False}, {"queue": "redis://127.0.0.1/0", "run_jobs": True}]
)
def test_others_may_be_many(tmp_path, more):
    """Gateways that run no jobs of a queue in memory share a folder."""
    settings = Settings(data_dir=tmp_path, **more)
    with alone(settings), alone(settings):
        pass


def test_a_shared_store(tmp_path):
    """Jobs of a store that others see are not run from a queue that they do not see."""
    settings = Settings(data_dir=tmp_path, store="redis://:secret@127.0.0.1/0")
    with pytest.raises(ConfigError, match="TRUSTSCALE_QUEUE") as caught, alone(settings):
        pass
    assert "secret" not in caught.value.detail
