"""What surrounds the API: health, headers, request ids, the OpenAPI document, who runs alone."""

import asyncio
import json
import re
from contextlib import aclosing

import pytest

from app.api.deps import Probes, Timings
from app.assembly import single_process_lock
from app.errors import ConfigError, UpscalerUnavailable
from app.settings import Settings
from tests.api.gateway import post
from tests.clock import LoopClock
from tests.fakes import FakeUpscaler
from tests.upscalers.resilient import SOURCE, Inner, guarded


class TestHealth:
    def components(self, client, status):
        response = client.get("/readyz")
        assert response.status_code == status
        return response.json()["components"]

    def test_ready(self, client, calibration):
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

    def test_a_component_that_never_answers(self, start, monkeypatch):
        """Readiness answers in time all the same, and says who did not."""
        upscaler = FakeUpscaler()
        client = start(upscaler, timings=Timings(answer_s=0.1))
        monkeypatch.setattr(upscaler, "check", asyncio.Event().wait)
        detail = self.components(client, 503)["upscaler:fake"]["detail"]
        assert detail == "no answer within 0.1 seconds"


def test_head_as_get(client):
    """HEAD has the status and the headers of GET, so it tells the size of a result's file."""
    result = post(client).json()["links"]["self"]
    files = [f"{result}{part}" for part in ("", "/image.png", "/overlay.png?alpha=0.5")]
    for path in ("/healthz", "/readyz", "/", "/v1/upscalers", *files):
        got, head = client.get(path), client.head(path)
        assert head.status_code == got.status_code == 200
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == got.headers["content-length"] != "0"


def test_every_answer_has_one(client):
    """Each answer has one; a client's is kept if it is harmless and cannot break a log line."""
    responses = [client.get("/healthz"), client.get("/nothing"), post(client, b"text")]
    ids = {response.headers["x-request-id"] for response in responses}
    assert len(ids) == 3
    kept = client.get("/healthz", headers={"X-Request-ID": "trace-7.a_B"})
    assert kept.headers["x-request-id"] == "trace-7.a_B"
    for sent in ("a b", "x" * 65, 'a"b', "", "ä".encode("latin-1")):
        response = client.get("/healthz", headers={"X-Request-ID": sent})
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


def test_the_document_is_coherent(client):
    """OpenAPI 3.1; every operation has its own name, says what it does, and how it fails."""
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"] and one["description"] for one in operations)
    assert "schemas/HTTPValidationError" not in json.dumps(document["paths"])


def lock(folder, **settings):
    return single_process_lock(Settings(data_dir=folder, **settings))


def test_a_data_folder_has_one_gateway(tmp_path):
    """A second one is refused while the first runs, and one whose queue others do not see."""
    with lock(tmp_path), pytest.raises(ConfigError, match="Another gateway"), lock(tmp_path):
        pass
    with lock(tmp_path):
        pass
    for more in ({"run_jobs": False}, {"queue": "redis://127.0.0.1/0", "run_jobs": True}):
        with lock(tmp_path, **more), lock(tmp_path, **more):
            pass
    shared = "redis://:secret@127.0.0.1/0"
    with (
        pytest.raises(ConfigError, match="TRUSTSCALE_QUEUE") as caught,
        lock(tmp_path, store=shared),
    ):
        pass
    assert "secret" not in caught.value.detail


ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
# The same for everybody, so it may be kept.
DOCUMENTATION = ("/docs", "/docs/start.js", "/openapi.json", "/problems/bad-image")
PATHS = (*DOCUMENTATION, "/healthz", "/v1/upscalers", "/v1/results/none", "/no/such/path")


def policy(response):
    parts = response.headers["content-security-policy"].split("; ")
    return {part.partition(" ")[0]: part.partition(" ")[2] for part in parts}


def test_the_fixed_headers(client, upscaler):
    """Each stands exactly once, also on errors; what a page may load it loads by name."""
    answers = {path: client.get(path) for path in PATHS}
    upscaler.failure = RuntimeError("broken")
    answers["/v1/upscale"] = post(client)
    assert answers["/v1/upscale"].status_code == 500
    for path, response in answers.items():
        for name, value in ALWAYS.items():
            assert response.headers.get_list(name) == [value]
        directives = policy(response)
        for name in ("default-src", "frame-ancestors", "base-uri"):
            assert directives[name] == "'none'"
        kept = None if path in DOCUMENTATION else "no-store"
        assert response.headers.get("cache-control") == kept


def test_a_body_over_the_limit(start):
    """The framework's own 413 has them, and is counted as a problem."""
    client = start(max_upload_bytes=1000)
    response = post(client, b"x" * 200_000)
    assert response.status_code == 413
    assert ALWAYS.items() <= dict(response.headers).items()
    assert 'trustscale_problems_total{type="image-too-large"} 1.0' in client.get("/metrics").text


async def test_one_question_for_all():
    """However many ask at once or soon after, the upscaler is asked once, also where it is away."""
    clock, inner = LoopClock(), Inner()
    async with aclosing(Probes(10.0)) as probes:
        await asyncio.gather(*(probes.check(inner) for _ in range(50)))
        inner.failure = UpscalerUnavailable("away")
        clock.jump(9)
        await probes.check(inner)
        assert inner.checks == 1
        clock.jump(2)
        for _ in range(3):
            with pytest.raises(UpscalerUnavailable, match="away"):
                await probes.check(inner)
        assert inner.checks == 2


async def test_an_open_breaker_is_left_alone():
    """What is not called at all is not ready, and not asked: its own health check is enough."""
    inner = Inner([UpscalerUnavailable("away")])
    up = guarded(inner, breaker_failures=1, breaker_rest_s=3600, attempts=1)
    with pytest.raises(UpscalerUnavailable):
        await up.generate(SOURCE, [1])
    async with aclosing(Probes(0.0)) as probes:
        with pytest.raises(UpscalerUnavailable, match="has failed many times in a row"):
            await probes.check(up)
    assert (inner.checks, up.breaker_open) == (0, True)
    await up.close()
